"""Independent brute force in plain Python, and inputs, for the tests of the ops."""

from __future__ import annotations

import heapq
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from gpuvos.kernels.blocks import blocks

Edges = list[tuple[float, int, int]]


def _edge_list(right: Tensor, down: Tensor) -> Edges:
    """(weight, pixel, pixel) in edge order: pixels in raster order, the edge to the right before the one down."""
    h, w = right.shape[0], down.shape[1]
    across, along = right.tolist(), down.tolist()
    edges: Edges = []
    for p in range(h * w):
        y, x = divmod(p, w)
        if x + 1 < w:
            edges.append((across[y][x], p, p + 1))
        if y + 1 < h:
            edges.append((along[y][x], p, p + w))
    return edges


def _adjacency(right: Tensor, down: Tensor) -> list[list[tuple[int, float]]]:
    near: list[list[tuple[int, float]]] = [[] for _ in range(right.shape[0] * down.shape[1])]
    for cost, p, q in _edge_list(right, down):
        near[p].append((q, cost))
        near[q].append((p, cost))
    return near


def _kruskal(right: Tensor, down: Tensor, index: Tensor, valid: Tensor) -> Tensor:
    edges = _edge_list(right, down)
    pixels = right.shape[0] * down.shape[1]
    parent, seed = list(range(pixels)), [-1] * pixels
    for number, (p, there) in enumerate(zip(index.tolist(), valid.tolist(), strict=True)):
        if there and seed[p] < 0:
            seed[p] = number

    def find(p: int) -> int:
        while parent[p] != p:
            parent[p] = parent[parent[p]]
            p = parent[p]
        return p

    for e in sorted(range(len(edges)), key=lambda e: (edges[e][0], e)):
        one, two = find(edges[e][1]), find(edges[e][2])
        if one != two and (seed[one] < 0 or seed[two] < 0):
            parent[two] = one
            seed[one] = max(seed[one], seed[two])
    return torch.tensor([seed[find(p)] for p in range(pixels)]).view(right.shape[0], down.shape[1])


def _minimax_from(right: Tensor, down: Tensor, source: int) -> Tensor:
    near = _adjacency(right, down)
    best = [float("inf")] * len(near)
    done = [False] * len(near)
    heap = [(0.0, source)]
    best[source] = 0.0
    while heap:
        height, p = heapq.heappop(heap)
        if done[p]:
            continue
        done[p] = True
        for q, cost in near[p]:
            if max(height, cost) < best[q]:
                best[q] = max(height, cost)
                heapq.heappush(heap, (best[q], q))
    return torch.tensor(best, dtype=torch.float64).view(right.shape[0], down.shape[1])


def _dijkstra(right: Tensor, down: Tensor, index: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    near = _adjacency(right, down)
    nothing: tuple[float, int, float] = (float("inf"), -1, float("inf"))
    state = [nothing] * len(near)
    seeds = [(p, k) for k, (p, there) in enumerate(zip(index.tolist(), valid.tolist(), strict=True)) if there]
    heap: list[tuple[float, int, float, int]] = [(0.0, number, 0.0, p) for p, number in seeds]
    heapq.heapify(heap)
    while heap:
        length, number, height, p = heapq.heappop(heap)
        if state[p] != nothing:
            continue
        state[p] = (length, number, height)
        for q, cost in near[p]:
            if state[q] == nothing and length + cost < float("inf"):
                heapq.heappush(heap, (length + cost, number, max(height, cost), q))
    grid = (right.shape[0], down.shape[1])
    lengths, numbers, heights = (
        torch.tensor(value, dtype=torch.float64).view(grid) for value in zip(*state, strict=True)
    )
    return numbers.long(), lengths, heights


def _assert_regions_connected(label: Tensor, index: Tensor, valid: Tensor) -> None:
    """Every region is one piece that holds the pixel of its own seed."""
    h, w = label.shape
    flat = label.flatten().tolist()
    for number in sorted(set(flat) - {-1}):
        assert valid[number]
        start = int(index[number])
        assert flat[start] == number
        piece, stack = {start}, [start]
        while stack:
            p = stack.pop()
            y, x = divmod(p, w)
            around = [(y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)]
            for q in [v * w + u for v, u in around if 0 <= v < h and 0 <= u < w]:
                if flat[q] == number and q not in piece:
                    piece.add(q)
                    stack.append(q)
        assert len(piece) == flat.count(number)


def _snake(h: int, w: int, light: Tensor, heavy: float) -> tuple[Tensor, Tensor, list[int]]:
    """One corridor over the whole grid, row by row and back; also its pixels in order."""
    order = [y * w + (x if y % 2 == 0 else w - 1 - x) for y in range(h) for x in range(w)]
    right, down = torch.zeros(h, w - 1), torch.full((h - 1, w), heavy)
    for cost, p, q in zip(light.tolist(), order, order[1:], strict=False):
        y, x = divmod(min(p, q), w)
        (right if abs(p - q) == 1 else down)[y, x] = cost
    return right, down, order


def _random_graph(
    n: int, h: int, w: int, k: int, generator: torch.Generator, *, levels: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights (integers below ``levels``, or real numbers) and ``k`` different seeds a frame, about 3 of 4 valid."""

    def draw(*shape: int) -> Tensor:
        if levels:
            return torch.randint(levels, shape, generator=generator).float()
        return torch.rand(shape, generator=generator)

    index = torch.stack([torch.randperm(h * w, generator=generator)[:k] for _ in range(n)])
    valid = torch.rand(n, k, generator=generator) < 0.75
    valid[:, 0] = True
    return draw(n, h, w - 1), draw(n, h - 1, w), index.masked_fill(~valid, -1), valid


def _lattice_inputs(
    name: str, n: int, d: int, p: int, dtype: torch.dtype, generator: torch.Generator
) -> tuple[Any, ...]:
    """Inputs of an op of the dense CRF's lattice, made by the references of the ops before it."""
    build, neighbors = (
        importlib.import_module(f"gpuvos.kernels.{op}.reference")
        for op in ("permutohedral_lattice", "lattice_neighbors")
    )
    features, extent = (torch.rand(n, d, p, generator=generator) * 3).to(dtype), [3.0] * d
    if name == "permutohedral_lattice":
        return features, extent
    index, weight, key, order, row, first = build.permutohedral_lattice(features, extent)
    if name == "lattice_neighbors":
        return key, extent, n, int(first[-1]) + 2
    neighbor = neighbors.lattice_neighbors(key, extent, n, int(first[-1]))
    values = torch.rand(n, 2, p, generator=generator).to(dtype)
    return values, index, weight, order, row, first, neighbor, False


def _region_inputs(name: str, dtype: torch.dtype, generator: torch.Generator) -> list[tuple[Any, ...]]:
    """Inputs of an op over labels, some of which are no region's."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(dtype)

    label = torch.randint(-1, 4, (2, 12), generator=generator)
    if name == "region_sum":
        return [
            (rand(2, 3, 12), label, 3),
            (rand(1, 1, 1), label[:1, :1], 2),
            (rand(2, 3, 12), label, 3, 4, rand(2, 1, 12), rand(2, 2, 12)),
        ]
    background, seed = torch.rand(2, 4, generator=generator) < 0.5, torch.tensor([2, -1])
    no_seeds = (label[:1, :1], rand(1, 1), rand(1, 0, 0), seed[:1], background[:1, :0])
    return [(label, rand(2, 12), rand(2, 4, 4), seed, background), no_seeds]


def _label_inputs(name: str, rand: Callable[..., Tensor], generator: torch.Generator) -> list[tuple[Any, ...]]:
    """Inputs of an op that tells object and background seeds apart."""
    if name == "residual_flow":
        return [(rand(n, 2, h, w), rand(n, h, w), 3) for n, h, w in ((2, 9, 7), (1, 1, 6), (1, 1, 1))]
    if name == "neighbor_mean":
        some, wanted = torch.rand(2, 9, generator=generator) < 0.7, torch.tensor([2, 4])
        case = (rand(2, 5, 3), rand(2, 9, 3), some, rand(2, 9), wanted, 4)
        return [
            case,
            (*case[:2], some & False, *case[3:]),
            (rand(1, 1, 1), rand(1, 1, 1), some[:1, :1] | True, rand(1, 1), wanted[:1] - 1, 1),
        ]
    if name != "link_tracks":
        raise NotImplementedError(f"give the new op {name} some inputs here")
    some = torch.rand(2, 4, 3, generator=generator) < 0.7
    some[1, 2] = False
    return [(rand(2, 4, 3, 5), some, True), (rand(2, 4, 3, 5), some, False), (rand(1, 1, 1, 1), some[:1, :1, :1], True)]


def _op_inputs(name: str, dtype: torch.dtype = torch.float32) -> list[tuple[Any, ...]]:
    """A few argument tuples of an op: an ordinary one, one with nothing to find, one as thin as it gets."""
    g = torch.Generator().manual_seed(3)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=g).to(dtype)

    if name == "edge_candidates":
        sizes = ((2, 5, 7), (1, 1, 6), (1, 1, 1))
        edges = [(rand(n, h, w - 1), rand(n, h - 1, w)) for n, h, w in sizes]
        return [(*edges[0], 3, "max", 1.0), (*edges[1], 3, "mean", 0.5), (*edges[2], 9, "mean", 1.0)]
    if name == "grid_edges":
        return [(rand(2, 5, 4, 3),), (rand(1, 2, 1, 6),), (rand(1, 1, 1, 1),)]
    if name in ("minimax_forest", "shortest_forest"):
        cases = [(2, 4, 5, 3), (1, 1, 6, 2), (1, 1, 1, 1)]
        graphs = [_random_graph(*case, g) for case in cases]
        given = [(a.to(dtype), b.to(dtype), index, valid) for a, b, index, valid in graphs]
        right, down, index, valid = given[0]
        return [*given, (right, down, index, torch.zeros_like(valid))]
    if name == "farthest_points":
        some = torch.rand(2, 12, generator=g) < 0.5
        none = torch.zeros(2, 12, dtype=torch.bool)
        return [(rand(2, 3, 12), rand(2, 12), mask, 4) for mask in (some, none)]
    if name in ("region_sum", "initial_foreground"):
        return _region_inputs(name, dtype, g)
    if name in ("nearest_seeds", "foreground_probability"):
        more = () if name == "nearest_seeds" else (torch.tensor(0.5, dtype=dtype),)
        sides = torch.tensor([[True, False, False, True], [False, True, False, True]])
        none = torch.zeros(2, 4, dtype=torch.bool)
        return [(rand(2, 3, 12), rand(2, 4, 3), sides, other, *more) for other in (~sides, none)]
    if name in ("permutohedral_lattice", "lattice_neighbors", "lattice_filter"):
        return [_lattice_inputs(name, n, d, p, dtype, g) for n, d, p in ((2, 3, 9), (1, 5, 1), (1, 1, 4))]
    if name == "gaussian_filter":
        return [(rand(2, 3, 5), 1.5, 4), (rand(1, 1, 4), 1.0, 0), (rand(1, 1, 1), 0.5, 2)]
    return _label_inputs(name, rand, g)


@pytest.fixture(autouse=True, scope="session")
def _language_patched_once_a_launch() -> Iterator[None]:
    """Keeps Triton's interpreter from patching its language at every call of a function, a third of its time.

    It patches what the called function's module sees of the language; once a launch comes to the same. A Triton that
    has no such parts is left alone.
    """
    if importlib.util.find_spec("triton") is None:
        yield
        return
    interpreter = importlib.import_module("triton.runtime.interpreter")
    original = getattr(interpreter, "_patch_lang", None)
    executor = getattr(interpreter, "GridExecutor", None)
    if original is None or executor is None:
        yield
        return
    launch = executor.__call__
    languages = [interpreter.tl, interpreter.tl.core]
    patched: set[tuple[bool, ...]] = set()  # in this launch, by the languages that a module sees

    def launch_anew(self: Any, *arguments: Any, **options: Any) -> Any:
        patched.clear()
        return launch(self, *arguments, **options)

    def patch_once(function: Any) -> Any:
        seen = tuple(any(value is one for value in function.__globals__.values()) for one in languages)
        if seen in patched:
            return None
        patched.add(seen)
        return original(function)  # a launch restores what it is given: its own call is the first

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(interpreter, "_patch_lang", patch_once)
        patches.setattr(executor, "__call__", launch_anew)
        yield


@pytest.fixture(scope="session")
def kruskal() -> Callable[..., Tensor]:
    """Labels ``[H, W]`` of one frame by Kruskal's algorithm, which joins no two components that hold a seed."""
    return _kruskal


@pytest.fixture(scope="session")
def minimax_from() -> Callable[..., Tensor]:
    """Minimax distances ``[H, W]`` from one pixel of one frame."""
    return _minimax_from


@pytest.fixture(scope="session")
def dijkstra() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """Label, length and largest edge ``[H, W]`` of one frame, the least by (length, label, largest edge)."""
    return _dijkstra


@pytest.fixture(scope="session")
def assert_regions_connected() -> Callable[..., None]:
    return _assert_regions_connected


@pytest.fixture(scope="session")
def snake() -> Callable[..., tuple[Tensor, Tensor, list[int]]]:
    return _snake


@pytest.fixture(scope="session")
def random_graph() -> Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]:
    return _random_graph


@pytest.fixture(scope="session")
def op_inputs() -> Callable[..., list[tuple[Any, ...]]]:
    return _op_inputs


def _cuda_path(name: str, *arguments: Any) -> Any:
    op = getattr(torch.ops.gpuvos, name).default
    return op.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA), *arguments)


@pytest.fixture(scope="session")
def cuda_path() -> Callable[..., Any]:
    """Calls an op the way CUDA tensors do, whatever the device."""
    return _cuda_path


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[int]]:
    """Makes the reference of an op work on one frame at a time; the list returned collects the frames."""

    def patch(name: str) -> list[int]:
        frames: list[int] = []

        def one_by_one(count: int, _bytes_each: int, **_: int) -> Iterator[slice]:
            for block in blocks(count, 1, budget=1):
                frames.append(block.start)
                yield block

        monkeypatch.setattr(importlib.import_module(f"gpuvos.kernels.{name}.reference"), "blocks", one_by_one)
        return frames

    return patch


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType, str], list[tuple[int, ...]]]:
    """Notes the grid of every launch of a module's kernel in the list returned."""

    def watch(module: ModuleType, name: str) -> list[tuple[int, ...]]:
        grids: list[tuple[int, ...]] = []
        function = getattr(module, name)

        class Watched:
            def __getitem__(self, grid: tuple[int, ...]) -> Any:
                grids.append(grid)
                return function[grid]

        monkeypatch.setattr(module, name, Watched())
        return grids

    return watch


@pytest.fixture
def poisoned_buffers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Fills every uninitialised tensor made from Python with NaN, a large integer or True; collects their shapes."""
    shapes: list[tuple[int, ...]] = []

    def poisoned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def wrapper(*args: Any, **kwargs: Any) -> Tensor:
            value = make(*args, **kwargs)
            shapes.append(tuple(value.shape))
            if value.dtype == torch.bool:
                return value.fill_(True)
            return value.fill_(torch.nan if value.dtype.is_floating_point else torch.iinfo(value.dtype).max)

        return wrapper

    for owner, attribute in (
        (torch, "empty"),
        (torch, "empty_like"),
        (torch, "empty_strided"),
        (torch.Tensor, "new_empty"),
        (torch.Tensor, "new_empty_strided"),
    ):
        monkeypatch.setattr(owner, attribute, poisoned(getattr(owner, attribute)))
    return shapes
