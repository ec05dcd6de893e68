"""Exported, saved, and run by a process that has never seen the network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gpuvos

OTHER_PROCESS = """
import sys, torch
import gpuvos.functional  # registers the operators; no network, no segmenter
if sys.argv[4] == "inductor":
    run = torch._inductor.aoti_load_package(sys.argv[1])
else:
    run = torch.export.load(sys.argv[1]).module()
given = torch.load(sys.argv[2])
with torch.no_grad():
    torch.save(tuple(run(*given)), sys.argv[3])
print([name for name in sys.modules if name.startswith(('gpuvos.interactive', 'gpuvos.features'))])
"""


class Product(nn.Module):
    """Frames and their flow to masks, with a network of somebody's."""

    def __init__(self, config: gpuvos.Config) -> None:
        super().__init__()
        self.network, self.config = nn.Conv2d(3, 7, 3, stride=2, padding=1), config

    def forward(self, frames: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.network(frames)
        size = (frames.shape[-2], frames.shape[-1])
        result = gpuvos.segment(seen[:, :6], seen[:, 6].sigmoid(), flow, config=self.config, size=size)
        return result.mask, result.probability


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "form"),
    [
        (gpuvos.Config(rule="paper", num_seeds=10, num_background=3, window=3), "export"),
        (gpuvos.Config(num_seeds=10, num_background=3, window=3, smoothing_share=0.5), "inductor"),
    ],
    ids=["paper-export", "robust-inductor"],
)
def test_exported_program_runs_in_another_process(config: gpuvos.Config, form: str, tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    product = Product(config).eval().requires_grad_(False)

    def inputs() -> tuple[Tensor, Tensor]:
        return torch.rand(3, 3, 18, 22, generator=g), torch.randn(3, 2, 9, 11, generator=g)

    files = [str(tmp_path / name) for name in ("product.pt2", "given.pt", "found.pt")]
    program = torch.export.export(product, inputs())
    if form == "inductor":  # compiled ahead of time, C++ and operators
        torch._inductor.aoti_compile_and_package(program, package_path=files[0])
    else:
        torch.export.save(program, files[0])
    given = inputs()  # values that the trace has not seen
    torch.save(given, files[1])
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, *files, form],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    mask, probability = torch.load(files[2])
    expected = product(*given)
    assert expected[0].any()
    assert torch.equal(mask, expected[0])
    torch.testing.assert_close(probability, expected[1])
