"""The Triton kernels of the minimum spanning forest against the reference, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.minimax_forest import minimax_forest, reference

pytest.importorskip("triton")

from gpuvos.kernels.minimax_forest import kernel

Graph = tuple[Tensor, Tensor, Tensor, Tensor]
Launches = Callable[[ModuleType, str], list[tuple[int, ...]]]
KERNELS = ("grow_tiles", "merge_tiles", "finish_pixels", "close_seeds")


def graph(n: int, h: int, w: int, k: int, levels: int, generator: torch.Generator) -> Graph:
    """Random weights, whole numbers up to ``levels`` unless that is 0, and seeds, some of them invalid or twice."""
    right = torch.rand(n, h, w - 1, generator=generator)
    down = torch.rand(n, h - 1, w, generator=generator)
    if levels:
        right, down = (right * levels).round(), (down * levels).round()
    index = torch.randint(0, h * w, (n, k), generator=generator)
    return right, down, index, torch.rand(n, k, generator=generator) < 0.8


def assert_equal(arguments: Graph, device: str) -> None:
    found = kernel.minimax_forest(*(value.to(device) for value in arguments))
    for got, wanted in zip(found, reference.minimax_forest(*arguments), strict=True):
        assert got.dtype == wanted.dtype
        assert got.is_contiguous()
        assert torch.equal(got.cpu(), wanted)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Tiles of few pixels, and few regions left to the frame: all levels in a frame that is small."""

    def patch(side: int, children: int) -> None:
        monkeypatch.setattr(kernel, "SIDE", side)
        monkeypatch.setattr(kernel, "CHILDREN", children)

    return patch


@pytest.mark.sampled
@pytest.mark.parametrize("levels", [0, 1, 3], ids=["distinct", "zeros and ones", "ties"])
@pytest.mark.parametrize(
    "shape",
    [
        (2, 9, 11, 4),
        (1, 1, 13, 3),
        (1, 7, 1, 2),
        (1, 1, 1, 1),
        (2, 33, 35, 20),  # four tiles
    ],
    ids=str,
)
def test_equals_reference(
    shape: tuple[int, int, int, int],
    levels: int,
    generator: torch.Generator,
    kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:
    arguments = graph(*shape, levels, generator)
    poisoned_buffers.clear()
    assert_equal(arguments, kernel_device)
    assert len(poisoned_buffers) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "levels", "regions"),
    [
        ((1, 5, 1100, 7), 0, [48, 3, 1]),  # 35 tiles in a row
        pytest.param((1, 170, 165, 130), 1, [64, 4, 1], marks=pytest.mark.exhaustive),  # 36 tiles in regions of 4 x 4
    ],
    ids=str,
)
def test_two_levels_of_tiles_as_they_are(
    shape: tuple[int, int, int, int],
    levels: int,
    regions: list[int],
    generator: torch.Generator,
    kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:
    assert [level.regions for level in kernel._Layout(*shape[1:3]).levels] == regions
    arguments = graph(*shape, levels, generator)
    poisoned_buffers.clear()
    assert_equal(arguments, kernel_device)
    assert len(poisoned_buffers) > 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "children", "shape", "levels", "regions"),
    [
        (8, 32, (1, 20, 27, 6), 0, [12, 1]),
        (8, 32, (2, 17, 15, 3), 2, [6, 1]),
        (4, 2, (1, 17, 14, 5), 0, [32, 2, 1]),  # 5 x 4 tiles in 2 x 1 regions, padded, which the frame merges
        (4, 2, (1, 17, 14, 5), 2, [32, 2, 1]),
        pytest.param(
            *(4, 1, (1, 18, 19, 5), 2, [256, 16, 1, 1]),  # 5 x 5 tiles in 2 x 2 regions in one
            marks=pytest.mark.exhaustive,
        ),
        (4, 2, (1, 3, 70, 4), 2, [32, 2, 1]),  # a region is 1 x 16 tiles
        (4, 2, (1, 70, 2, 4), 2, [32, 2, 1]),  # 16 x 1
    ],
    ids=str,
)
def test_all_levels(
    side: int,
    children: int,
    shape: tuple[int, int, int, int],
    levels: int,
    regions: list[int],
    small_tiles: Callable[[int, int], None],
    generator: torch.Generator,
    kernel_device: str,
    poisoned_buffers: list[tuple[int, ...]],
) -> None:
    small_tiles(side, children)
    assert [level.regions for level in kernel._Layout(*shape[1:3]).levels] == regions
    arguments = graph(*shape, levels, generator)
    poisoned_buffers.clear()
    assert_equal(arguments, kernel_device)
    assert len(poisoned_buffers) > 3


def test_layout_of_common_sizes() -> None:
    full = kernel._Layout(480, 854).levels  # 15 x 27 tiles in 4 x 7 regions
    assert [level.regions for level in full] == [448, 28, 1]
    assert [(level.height, level.width) for level in full] == [(32, 32), (128, 128), (480, 854)]
    assert [level.regions for level in kernel._Layout(120, 214).levels] == [28, 1]
    large = kernel._Layout(2160, 3840).levels  # 68 x 120 tiles in 17 x 30 regions in 5 x 8 in 2 x 2
    assert [level.regions for level in large] == [4 * 16**3, 4 * 16**2, 4 * 16, 4, 1]
    assert kernel._Layout(1, 10_000).bytes_each < 5e6  # no padding with rows that are not there
    assert kernel._Layout(480, 854).bytes_each < 9e6


def test_launches_do_not_depend_on_data(monkeypatch: pytest.MonkeyPatch, kernel_device: str) -> None:
    grids: list[tuple[str, int]] = []

    class Silent:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
            return lambda *_, **__: grids.append((self.name, *grid))

    for name in KERNELS:
        monkeypatch.setattr(kernel, name, Silent(name))

    def launch(n: int, h: int, w: int, k: int) -> list[tuple[str, int]]:
        grids.clear()
        make = torch.zeros
        right, down = make(n, h, w - 1, device=kernel_device), make(n, h - 1, w, device=kernel_device)
        index = make(n, k, dtype=torch.int64, device=kernel_device)
        kernel.minimax_forest(right, down, index, index >= 0)
        return list(grids)

    assert launch(3, 480, 854, 100) == [
        ("grow_tiles", 3 * 448),
        ("merge_tiles", 3 * 28),
        ("merge_tiles", 3),
        ("finish_pixels", 3 * 801),
        ("close_seeds", 3),
    ]
    assert [name for name, _ in launch(2, 120, 214, 100)] == [
        "grow_tiles",
        "merge_tiles",
        "finish_pixels",
        "close_seeds",
    ]
    assert [name for name, _ in launch(2, 120, 214, 0)] == ["grow_tiles", "merge_tiles", "finish_pixels"]
    assert launch(0, 120, 214, 5) == []
    monkeypatch.setattr(kernel, "SCRATCH_BYTES", 1)  # a frame at a time
    assert [grid for name, grid in launch(3, 120, 214, 5) if name == "grow_tiles"] == [28] * 3


def test_the_kernels_run(
    launches: Launches, generator: torch.Generator, kernel_device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = graph(2, 5, 6, 3, 0, generator)
    wanted = reference.minimax_forest(*arguments)
    monkeypatch.delattr(reference, "minimax_forest")
    grids = {name: launches(kernel, name) for name in KERNELS}
    found = kernel.minimax_forest(*(value.to(kernel_device) for value in arguments))
    assert grids == {"grow_tiles": [(2,)], "merge_tiles": [(2,)], "finish_pixels": [(2,)], "close_seeds": [(2,)]}
    assert all(torch.equal(got.cpu(), want) for got, want in zip(found, wanted, strict=True))


@pytest.mark.slow
def test_frames_without_a_valid_seed(
    small_tiles: Callable[[int, int], None], generator: torch.Generator, kernel_device: str
) -> None:
    small_tiles(8, 32)
    right, down, index, valid = graph(3, 9, 12, 4, 2, generator)
    valid[1] = False
    assert_equal((right, down, index, valid), kernel_device)
    assert_equal((right, down, index.fill_(-1), torch.zeros_like(valid)), kernel_device)
    label, distance, between = kernel.minimax_forest(
        *(value.to(kernel_device) for value in (right, down, index, torch.zeros_like(valid)))
    )
    assert (label == -1).all()
    assert distance.isinf().all()
    assert between.isinf().all()


def test_no_seeds_and_no_frames(generator: torch.Generator, kernel_device: str) -> None:
    arguments = graph(2, 4, 5, 3, 0, generator)
    assert_equal((*arguments[:2], *(value[:, :0] for value in arguments[2:])), kernel_device)
    assert_equal(tuple(value[:0] for value in arguments), kernel_device)


def test_seeds_at_one_pixel(kernel_device: str) -> None:
    right, down = torch.tensor([[[1.0, 5, 2]]]), torch.zeros(1, 0, 4)
    index = torch.tensor([[3, 0, 3, 0, 0, 3]])
    assert_equal((right, down, index, torch.tensor([[True, False, True, True, True, True]])), kernel_device)


@pytest.mark.slow
@pytest.mark.parametrize("k", [130, 300])
def test_many_seeds(k: int, generator: torch.Generator, kernel_device: str) -> None:
    assert_equal(graph(1, 18, 20, k, 5, generator), kernel_device)


def test_indices_of_invalid_seeds_are_not_looked_at(generator: torch.Generator, kernel_device: str) -> None:
    right, down, index, _ = graph(1, 5, 6, 4, 2, generator)
    index[0, :3] = torch.tensor([-1, 10**12, -(10**12)])
    assert_equal((right, down, index, torch.tensor([[False, False, False, True]])), kernel_device)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["rising", "falling", "constant", "random"])
@pytest.mark.parametrize(("side", "h", "w"), [(32, 31, 32), (8, 17, 20)])
def test_a_snake_through_all_tiles(
    kind: str,
    side: int,
    h: int,
    w: int,
    small_tiles: Callable[[int, int], None],
    snake: Callable[..., tuple[Tensor, Tensor, list[int]]],
    generator: torch.Generator,
    kernel_device: str,
) -> None:
    small_tiles(side, 4)
    length = h * w - 1
    light = {
        "rising": torch.linspace(0, 1, length),  # one chain of hooks over all pixels
        "falling": torch.linspace(1, 0, length),
        "constant": torch.full((length,), 0.5),
        "random": torch.rand(length, generator=generator),
    }[kind]
    right, down, order = snake(h, w, light, 9.0)
    index = torch.tensor([[order[0], order[-1], order[length // 3]]])
    assert_equal((right[None], down[None], index, torch.ones(1, 3, dtype=torch.bool)), kernel_device)


@pytest.mark.slow
def test_a_long_chain_of_pixels(kernel_device: str) -> None:
    # every weight larger than the one before along one line: pixels hook in one chain of 1,000
    right = torch.arange(1.0, 1000.0)[None, None]
    index = torch.tensor([[999, 0, 700]])
    assert_equal((right, right.new_zeros(1, 0, 1000), index, index >= 0), kernel_device)


@pytest.mark.slow
@pytest.mark.parametrize("rising", [True, False])
def test_a_long_chain_of_nodes(rising: bool, small_tiles: Callable[[int, int], None], kernel_device: str) -> None:
    # a line of 20 tiles whose weights rise (fall) all along: the tiles' nodes hook in one chain, in the frame's program
    small_tiles(4, 64)
    weights = torch.arange(1.0, 80)
    right = (weights if rising else weights.flip(0))[None, None]
    index = torch.tensor([[79 if rising else 0]])
    assert_equal((right, right.new_zeros(1, 0, 80), index, index >= 0), kernel_device)


@pytest.mark.slow
def test_as_many_rounds_as_there_can_be(small_tiles: Callable[[int, int], None], kernel_device: str) -> None:
    # edge i of a line weighs the number of trailing zeros of i: every round joins pairs, and there are log2(pixels)
    weights = torch.tensor([float((i & -i).bit_length()) for i in range(1, 128)])
    index = torch.tensor([[127]])
    for side in (32, 8):
        small_tiles(side, 32)
        assert_equal((weights[None, None], weights.new_zeros(1, 0, 128), index, index >= 0), kernel_device)


@pytest.mark.slow
def test_a_tile_with_as_many_nodes_as_fit(small_tiles: Callable[[int, int], None], kernel_device: str) -> None:
    # in the middle one of 3 x 3 tiles every pixel of the border goes out first, and those inside are seeds
    small_tiles(4, 32)
    right, down = torch.full((1, 12, 11), 5.0), torch.full((1, 11, 12), 5.0)
    right[0, 4:8, 3], right[0, 4:8, 7], down[0, 3, 4:8], down[0, 7, 4:8] = 0.0, 1.0, 2.0, 3.0
    index = torch.tensor([[5 * 12 + 5, 5 * 12 + 6, 6 * 12 + 5, 6 * 12 + 6]])
    assert_equal((right, down, index, index >= 0), kernel_device)
    assert_equal((right, down, torch.arange(144)[None], torch.ones(1, 144, dtype=torch.bool)), kernel_device)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_and_strides(dtype: torch.dtype, generator: torch.Generator, kernel_device: str) -> None:
    right, down, index, valid = graph(2, 35, 12, 6, 0, generator)
    right, down, index, valid = (v.mT.contiguous().mT for v in (right.to(dtype), down.to(dtype), index, valid))
    assert not right.is_contiguous()
    turned = (right, down, index, valid)
    assert_equal(turned, kernel_device)


@pytest.mark.slow
def test_minus_zero_infinite_and_tiny_weights(generator: torch.Generator, kernel_device: str) -> None:
    right = torch.tensor([[[0.0, -0.0, 0.0, -0.0]]])
    index = torch.tensor([[4, 2]])
    assert_equal((right, right.new_zeros(1, 0, 5), index, index >= 0), kernel_device)
    values = torch.tensor([0.0, 1e-45, 1e-39, 1.0, 3e38, torch.inf])
    right, down, index, valid = graph(1, 9, 11, 5, 5, generator)
    assert_equal((values[right.long()], values[down.long()], index, valid), kernel_device)
    assert_equal((right + torch.inf, down + torch.inf, index, valid), kernel_device)


@pytest.mark.slow
def test_little_scratch_memory_changes_nothing(
    small_tiles: Callable[[int, int], None],
    generator: torch.Generator,
    kernel_device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_tiles(8, 32)
    monkeypatch.setattr(kernel, "SCRATCH_BYTES", 2 * kernel._Layout(7, 10).bytes_each)
    assert_equal(graph(5, 7, 10, 4, 2, generator), kernel_device)


def test_frames_of_too_many_pixels_are_refused() -> None:
    given: Any = [
        torch.empty(1, device="meta").expand(1, 1 << 14, (1 << 14) - 1),
        torch.empty(1, device="meta"),
    ]
    given[1] = given[1].expand(1, (1 << 14) - 1, 1 << 14)
    index = torch.empty(1, 1, dtype=torch.int64, device="meta")
    with pytest.raises(ValueError, match="2\\^28 pixels"):
        kernel.minimax_forest(*given, index, index.bool())


@pytest.mark.sampled
@pytest.mark.parametrize("k", [1, 37, 130])
def test_closure_equals_floyd_warshall(k: int, generator: torch.Generator, kernel_device: str) -> None:
    table = torch.randint(1, 40, (2, k, k), generator=generator).float()
    table = table.masked_fill(torch.rand(2, k, k, generator=generator) < 0.95, torch.inf)  # not all connected
    index = torch.randint(0, 4 * k, (2, k), generator=generator)  # some seeds share a pixel
    valid = torch.rand(2, k, generator=generator) < 0.9
    table = table.masked_fill(~(valid[:, :, None] & valid[:, None]), torch.inf)
    upper = torch.where(torch.ones(k, k).triu(1) > 0, table, torch.inf)
    same = (index[:, :, None] == index[:, None]) & valid[:, :, None] & valid[:, None]
    wanted = torch.minimum(upper, upper.mT).masked_fill(same, 0)
    for step in range(k):
        wanted = torch.minimum(wanted, torch.maximum(wanted[:, :, step, None], wanted[:, step, None, :]))
    found = upper.to(kernel_device).contiguous()
    size = max(32, 1 << (k - 1).bit_length())
    given = index.to(kernel_device), valid.to(kernel_device).view(torch.uint8)
    kernel.close_seeds[(2,)](*given, found.view(torch.int32), k, BLOCK=size, num_warps=1)
    assert torch.equal(found.cpu(), wanted)


@pytest.mark.cuda
def test_cuda_runs_the_kernel(generator: torch.Generator, launches: Launches) -> None:
    grids = launches(kernel, "grow_tiles")
    minimax_forest(*(value.cuda() for value in graph(1, 8, 9, 3, 0, generator)))
    assert grids == [(1,)]


@pytest.mark.cuda
@pytest.mark.parametrize("size", [(480, 854), (120, 214), (1, 5000), (700, 33)], ids=str)
@pytest.mark.parametrize("levels", [0, 5], ids=["distinct", "ties"])
def test_real_sizes_without_synchronisation_and_in_a_graph(
    size: tuple[int, int], levels: int, generator: torch.Generator
) -> None:
    arguments = graph(4, *size, 100, levels, generator)
    wanted = reference.minimax_forest(*arguments)
    given = [value.cuda() for value in arguments]
    minimax_forest(*given)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [minimax_forest(*given) for _ in range(5)]  # the same every time
        replay = torch.cuda.CUDAGraph()
        with torch.cuda.graph(replay):
            found.append(minimax_forest(*given))
        replay.replay()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for result in found:
        assert all(torch.equal(got.cpu(), want) for got, want in zip(result, wanted, strict=True))
