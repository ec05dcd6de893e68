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
given = torch.load("given.pt")
for rule in ("paper", "robust"):
    with torch.no_grad():
        torch.save(torch.export.load(f"{rule}.pt2").module()(*given), f"{rule}.pt")
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
def test_exported_programs_run_in_another_process(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)

    def inputs() -> tuple[Tensor, Tensor]:
        return torch.rand(3, 3, 18, 22, generator=g), torch.randn(3, 2, 9, 11, generator=g)

    products = {}
    for rule in ("paper", "robust"):
        torch.manual_seed(0)
        config = gpuvos.Config(rule=rule, num_seeds=10, num_background=3, window=3, smoothing_share=0.5)
        products[rule] = Product(config).eval().requires_grad_(False)
        torch.export.save(torch.export.export(products[rule], inputs()), tmp_path / f"{rule}.pt2")
    given = inputs()  # values that the traces have not seen
    torch.save(given, tmp_path / "given.pt")
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    for rule, product in products.items():
        mask, probability = torch.load(tmp_path / f"{rule}.pt")
        expected = product(*given)
        assert expected[0].any()
        assert torch.equal(mask, expected[0])
        torch.testing.assert_close(probability, expected[1])
