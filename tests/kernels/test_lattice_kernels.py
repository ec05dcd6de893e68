"""The Triton kernels of the dense CRF's lattice against the references."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.backend import choose
from gpuvos.kernels.lattice_filter import reference as filter_reference
from gpuvos.kernels.lattice_neighbors import reference as neighbors_reference
from gpuvos.kernels.permutohedral_lattice import reference as lattice_reference

pytest.importorskip("triton")

from gpuvos.kernels.lattice_filter import kernel as filter_kernel
from gpuvos.kernels.lattice_neighbors import kernel as neighbors_kernel
from gpuvos.kernels.permutohedral_lattice import kernel as lattice_kernel


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many programs for few pixels, so that points run across them."""
    monkeypatch.setattr(lattice_kernel, "BLOCK_P", 8)
    monkeypatch.setattr(lattice_kernel, "BLOCK_E", 32)
    monkeypatch.setattr(neighbors_kernel, "BLOCK", 32)
    monkeypatch.setattr(filter_kernel, "BLOCK", 16)
    monkeypatch.setattr(filter_kernel, "BLOCK_P", 8)


def same(one: tuple[Tensor, ...], two: tuple[Tensor, ...]) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu()) for a, b in zip(one, two, strict=True))


def features_of(kind: str, n: int, d: int, p: int, generator: torch.Generator, extent: float) -> Tensor:
    if kind == "random":
        return torch.rand(n, d, p, generator=generator) * extent
    if kind == "ties":  # fractional parts that are equal, whole numbers, the ends of the range
        return torch.randint(0, 3, (n, d, p), generator=generator).float() * (extent / 2)
    return torch.full((n, d, p), extent / 3)  # "constant"


@pytest.mark.sampled
@pytest.mark.usefixtures("poisoned_buffers", "small_blocks")
@pytest.mark.parametrize("kind", ["random", "ties", "constant"])
@pytest.mark.parametrize(("n", "d", "p"), [(2, 5, 19), (1, 3, 8), (1, 1, 1), (1, 10, 3)])
def test_lattice_bit_for_bit(kind: str, n: int, d: int, p: int, generator: torch.Generator, kernel_device: str) -> None:
    extent = [2.0] * d
    features = features_of(kind, n, d, p, generator, 2.0)
    wanted = lattice_reference.permutohedral_lattice(features, extent)
    found = lattice_kernel.permutohedral_lattice(features.to(kernel_device), extent)
    assert same(found, wanted)


@pytest.mark.slow
def test_lattice_of_other_types_layouts_and_outliers(generator: torch.Generator, kernel_device: str) -> None:
    features = torch.rand(2, 5, 3, generator=generator) * 4 - 1
    cases = [
        features.half(),
        features.bfloat16(),
        features.mT.contiguous().mT,
        features[:0],
        features[..., :0],
    ]
    for case in cases:
        wanted = lattice_reference.permutohedral_lattice(case, [2.0] * 5)
        assert same(lattice_kernel.permutohedral_lattice(case.to(kernel_device), [2.0] * 5), wanted)


@pytest.mark.slow
@pytest.mark.usefixtures("poisoned_buffers", "small_blocks")
@pytest.mark.parametrize(("n", "d", "p"), [(2, 5, 30), (1, 3, 40), (1, 1, 1)])
def test_neighbors_bit_for_bit(n: int, d: int, p: int, generator: torch.Generator, kernel_device: str) -> None:
    extent = [1.5] * d
    features = torch.rand(n, d, p, generator=generator) * 1.5
    _, _, key, _, _, first = lattice_reference.permutohedral_lattice(features, extent)
    for capacity in (int(first[-1]), len(key), int(first[-1]) // 2 + 1, len(key) + 5):
        wanted = neighbors_reference.lattice_neighbors(key, extent, n, capacity)
        found = neighbors_kernel.lattice_neighbors(key.to(kernel_device), extent, n, capacity)
        assert same((found,), (wanted,))
    assert p == 1 or (wanted < int(first[-1])).any()
    assert neighbors_kernel.lattice_neighbors(key[:0].to(kernel_device), extent, 0, 0).shape == (2, d + 1, 0)


def filter_inputs(features: Tensor, channels: int, generator: torch.Generator, room: int = 0) -> tuple[Any, ...]:
    n, d, p = features.shape
    extent = [3.0] * d
    index, weight, key, order, row, first = lattice_reference.permutohedral_lattice(features, extent)
    neighbor = neighbors_reference.lattice_neighbors(key, extent, n, int(first[-1]) + room)
    index = index.clamp(max=neighbor.shape[2])
    return torch.randn(n, channels, p, generator=generator), index, weight, order, row, first, neighbor


def to(device: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.to(device) for value in arguments)


@pytest.mark.slow
@pytest.mark.usefixtures("poisoned_buffers", "small_blocks")
@pytest.mark.parametrize("kind", ["random", "ties", "constant"])
@pytest.mark.parametrize(("n", "d", "p", "channels"), [(2, 5, 19, 1), (1, 3, 40, 3), (1, 1, 1, 1)])
@pytest.mark.parametrize("room", [0, 9, -2])
def test_filter_equals_reference(
    kind: str, n: int, d: int, p: int, channels: int, room: int, generator: torch.Generator, kernel_device: str
) -> None:
    if room < 0 and p == 1:
        pytest.skip("no point would be left")
    arguments = filter_inputs(features_of(kind, n, d, p, generator, 3.0), channels, generator, room)
    for reverse in (False, True):
        wanted = filter_reference.lattice_filter(*arguments, reverse)
        found = filter_kernel.lattice_filter(*to(kernel_device, arguments), reverse)
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
def test_a_point_that_runs_over_many_programs(generator: torch.Generator, kernel_device: str) -> None:
    # 6 points hold 6 x 600 corners: each runs over more programs (of 16 corners) than one step of the carry takes
    features = torch.full((1, 1, 2400), 1.0)
    arguments = filter_inputs(features, 1, generator)
    wanted = filter_reference.lattice_filter(*(v.double() if v.is_floating_point() else v for v in arguments), False)
    found = filter_kernel.lattice_filter(*to(kernel_device, arguments), False)
    torch.testing.assert_close(found.double().cpu(), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()) + 1e-4)


@pytest.mark.slow
def test_filter_of_other_types_and_layouts(generator: torch.Generator, kernel_device: str) -> None:
    values, *lattice = filter_inputs(torch.rand(2, 3, 12, generator=generator) * 3, 2, generator)
    turned = tuple(v.transpose(0, -1).contiguous().transpose(0, -1) for v in (values, *lattice))
    wanted = filter_reference.lattice_filter(values, *lattice, False)
    found = filter_kernel.lattice_filter(*to(kernel_device, turned), False)
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-5)
    for dtype in (torch.float16, torch.bfloat16):
        wanted = filter_reference.lattice_filter(values.to(dtype), *lattice, False)
        found = filter_kernel.lattice_filter(*to(kernel_device, (values.to(dtype), *lattice)), False)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-5)
    nothing = filter_kernel.lattice_filter(*to(kernel_device, (values[:, :0], *lattice)), False)
    assert nothing.shape == (2, 0, 12)


@pytest.mark.cuda
def test_the_kernels_run_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpuvos import functional as F

    called = []
    for module, name in (
        (lattice_kernel, "permutohedral_lattice"),
        (neighbors_kernel, "lattice_neighbors"),
        (filter_kernel, "lattice_filter"),
    ):
        original = getattr(module, name)

        def noted(*arguments: Any, original: Any = original, name: str = name) -> Any:
            called.append(name)
            return original(*arguments)

        monkeypatch.setattr(module, name, noted)
    assert choose("cuda").implementation == "kernel"
    F.dense_crf(torch.rand(1, 4, 5).cuda(), torch.rand(1, 3, 4, 5).cuda(), iterations=1)
    assert set(called) == {"permutohedral_lattice", "lattice_neighbors", "lattice_filter"}


def scene(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    noise = torch.randn(2, 3, 480, 854, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 31, stride=1, padding=15)
    image = (0.5 + 5 * smooth).clamp(0, 1)
    image[1] = torch.rand(3, 480, 854, generator=generator)  # texture: most points that there can be
    return torch.sigmoid(40 * smooth[:, 0] + 0.3 * noise[:, 0]), image


@pytest.mark.cuda
def test_whole_frames_on_cuda(generator: torch.Generator) -> None:
    from gpuvos import functional as F

    p, image = scene(generator)
    wanted = F.dense_crf(p, image)
    torch.cuda.set_sync_debug_mode("error")
    try:
        on_device = p.cuda(), image.cuda()
        room = 6 * 480 * 854
        found = F.dense_crf(*on_device, lattice_points=room, validate=False)
        again = F.dense_crf(*on_device, lattice_points=room, validate=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found, again)
    assert torch.equal(found, F.dense_crf(*on_device))
    assert ((found.cpu() > 0.5) == (wanted > 0.5)).float().mean() > 0.9999
    assert (found.cpu() - wanted).abs().mean() < 1e-4


@pytest.mark.cuda
def test_cuda_graph(generator: torch.Generator) -> None:
    from gpuvos import functional as F

    p, image = (value.cuda() for value in scene(generator))
    wanted = F.dense_crf(p, image, iterations=3)
    still, picture = torch.zeros_like(p) + 0.5, torch.zeros_like(image)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        F.dense_crf(still, picture, iterations=3, lattice_points=6 * 480 * 854, validate=False)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = F.dense_crf(still, picture, iterations=3, lattice_points=6 * 480 * 854, validate=False)
    still.copy_(p)
    picture.copy_(image)
    graph.replay()
    assert torch.equal(out, wanted)
