"""Which implementation runs where."""

from __future__ import annotations

import pytest
import torch

from gpuvos.kernels.backend import choose

BACKEND = "gpuvos.kernels.backend"


@pytest.fixture(autouse=True)
def _triton_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{BACKEND}._triton_there", lambda: True)
    monkeypatch.setattr(f"{BACKEND}._triton_version", lambda: (3, 8))
    monkeypatch.setattr(f"{BACKEND}._capability", lambda _: (9, 0))
    monkeypatch.delenv("GPUVOS_KERNELS", raising=False)


def test_kernels_run_on_a_device_that_is_new_enough() -> None:
    assert choose("cuda") == ("kernel", "CUDA tensors")
    assert choose(torch.device("cuda", 1), torch.bfloat16) == ("kernel", "CUDA tensors")


@pytest.mark.parametrize(
    ("capability", "implementation"),
    [((7, 5), "reference"), ((8, 0), "kernel"), ((10, 0), "kernel"), (None, "kernel")],
)
def test_old_devices_take_the_reference(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None, implementation: str
) -> None:
    monkeypatch.setattr(f"{BACKEND}._capability", lambda _: capability)
    assert choose("cuda").implementation == implementation
    if capability == (7, 5):
        assert choose("cuda").reason == "compute capability 7.5 is below 8.0"


def test_old_triton_takes_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{BACKEND}._triton_version", lambda: (3, 5))
    assert choose("cuda") == ("reference", "triton 3.5 is older than 3.6")
    monkeypatch.setattr(f"{BACKEND}._triton_version", lambda: (3, 10))
    assert choose("cuda").implementation == "kernel"
    monkeypatch.setattr(f"{BACKEND}._triton_there", lambda: False)
    assert choose("cuda") == ("reference", "triton is not installed")


def test_what_else_takes_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose("cpu") == ("reference", "cpu tensors")
    assert choose("cuda", torch.float64).implementation == "reference"
    monkeypatch.setenv("GPUVOS_KERNELS", "reference")
    assert choose("cuda") == ("reference", "GPUVOS_KERNELS=reference")


def test_the_real_versions_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pytest.importorskip("triton")
    assert choose("cuda").implementation in ("kernel", "reference")
