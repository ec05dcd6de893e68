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
torch._inductor.config.cpp.vec_isa_ok = False  # or it compiles programs to find out what vectors there are
given = torch.load("given.pt")
runs = {
    "export": torch.export.load("export.pt2").module(),
    "inductor": torch._inductor.aoti_load_package("inductor.pt2"),
}
with torch.no_grad():
    for form, run in runs.items():
        torch.save(tuple(run(*given)), f"{form}.pt")
print([name for name in sys.modules if name.startswith(('gpuvos.interactive', 'gpuvos.features'))])
"""

CONFIGS = {
    "export": gpuvos.Config(rule="paper", num_seeds=10, num_background=3, window=3),
    "inductor": gpuvos.Config(num_seeds=10, num_background=3, window=3, smoothing_share=0.5),
}

# how quick the code is does not matter: without vectors the C++ compiler is done in half the time
QUICK = {
    "cpp.simdlen": 1,
    "cpp.vec_isa_ok": False,
    "aot_inductor.compile_wrapper_opt_level": "O0",
    "aot_inductor.precompile_headers": False,
}


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
    """One is loaded as a program, the other compiled ahead of time: C++ and operators."""
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)

    def inputs() -> tuple[Tensor, Tensor]:
        return torch.rand(3, 3, 18, 22, generator=g), torch.randn(3, 2, 9, 11, generator=g)

    products = {form: Product(config).eval().requires_grad_(False) for form, config in CONFIGS.items()}
    for form, product in products.items():
        program = torch.export.export(product, inputs())
        if form == "inductor":
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(tmp_path / "inductor.pt2"), inductor_configs=QUICK
            )
        else:
            torch.export.save(program, tmp_path / "export.pt2")
    given = inputs()  # values that the traces have not seen
    torch.save(given, tmp_path / "given.pt")
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    for form, product in products.items():
        mask, probability = torch.load(tmp_path / f"{form}.pt")
        expected = product(*given)
        assert expected[0].any()
        assert torch.equal(mask, expected[0])
        torch.testing.assert_close(probability, expected[1])
