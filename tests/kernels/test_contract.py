"""What every op promises, whatever it computes."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.forward_ad import dual_level, make_dual
from torch.func import jvp, vmap
from torch.utils._pytree import tree_map_only

import gpuvos.kernels
from gpuvos.kernels.backend import Choice

Inputs = Callable[..., list[tuple[Any, ...]]]

FOLDER = Path(next(iter(gpuvos.kernels.__path__)))
OPS = sorted(path.parent.name for path in FOLDER.glob("*/__init__.py"))
DIFFERENTIABLE = (
    "foreground_probability",
    "gaussian_filter",
    "grid_edges",
    "lattice_filter",
    "nearest_seeds",
    "neighbor_mean",
    "region_sum",
)


def op_of(name: str) -> Any:
    return getattr(importlib.import_module(f"gpuvos.kernels.{name}"), name)


def reference_module(name: str) -> ModuleType:
    return importlib.import_module(f"gpuvos.kernels.{name}.reference")


def reference_of(name: str) -> Any:
    return getattr(reference_module(name), name)


def kernel_of(name: str) -> Any:
    pytest.importorskip("triton")
    return getattr(importlib.import_module(f"gpuvos.kernels.{name}.kernel"), name)


def outputs(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


def same(one: Any, two: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(outputs(one), outputs(two), strict=True))


def test_the_walk_finds_the_ops() -> None:
    known = {
        "edge_candidates",
        "farthest_points",
        "foreground_probability",
        "gaussian_filter",
        "grid_edges",
        "initial_foreground",
        "lattice_filter",
        "lattice_neighbors",
        "link_tracks",
        "minimax_forest",
        "nearest_seeds",
        "neighbor_mean",
        "permutohedral_lattice",
        "region_sum",
        "residual_flow",
        "shortest_forest",
    }
    assert known <= set(OPS)
    assert {path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(OPS)


@pytest.mark.parametrize("name", OPS)
def test_folder_of_an_op(name: str) -> None:
    assert (FOLDER / name / "reference.py").is_file()
    assert (FOLDER / name / "op.py").is_file()
    registered = getattr(importlib.import_module(f"gpuvos.kernels.{name}.op"), name)
    overload = getattr(torch.ops.gpuvos, name).default
    assert registered is op_of(name) is overload
    wanted = inspect.signature(reference_of(name)).parameters
    assert list(inspect.signature(kernel_of(name)).parameters) == list(wanted)
    assert [argument.name for argument in overload._schema.arguments] == list(wanted)
    assert not overload._schema.is_mutable


@pytest.mark.parametrize("name", OPS)
def test_an_op_without_a_gradient_says_so(name: str, op_inputs: Inputs) -> None:
    leaves = tree_map_only(Tensor, lambda v: v.requires_grad_(v.is_floating_point()), op_inputs(name)[0])
    real = [value for value in outputs(op_of(name)(*leaves)) if value.is_floating_point()]
    if name in DIFFERENTIABLE or not real:
        return
    with pytest.raises(RuntimeError, match=f"gpuvos::{name} has no gradient: detach its arguments"):
        real[0].sum().backward()


@pytest.mark.parametrize("through", ["dual", "jvp", "vmap"])
@pytest.mark.parametrize("name", OPS)
def test_an_op_never_loses_a_tangent(name: str, through: str, op_inputs: Inputs) -> None:
    op, arguments = op_of(name), op_inputs(name)[0]
    places = [n for n, v in enumerate(arguments) if isinstance(v, Tensor) and v.is_floating_point()]
    given = tuple(arguments[n] for n in places)

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        changed = dict(zip(places, values, strict=True))
        return outputs(op(*(changed.get(n, v) for n, v in enumerate(arguments))))

    def run() -> Any:
        if through == "dual":
            with dual_level():
                return call(*(make_dual(value, torch.ones_like(value)) for value in given))
        if through == "jvp":
            return jvp(call, given, given)
        return vmap(lambda *values: jvp(call, values, values)[0])(*(value[None] for value in given))

    if any(value.is_floating_point() for value in outputs(op(*arguments))) and given:
        with pytest.raises(RuntimeError, match=f"gpuvos::{name} has no forward-mode derivative"):
            run()
    elif given:
        run()


@pytest.mark.slow
def test_the_first_call_of_an_op_does_not_import_the_compiler() -> None:
    program = (
        "import sys, torch; from gpuvos.kernels.grid_edges import grid_edges;"
        "grid_edges(torch.rand(1, 3, 4, 5)); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_ops_with_a_gradient_have_gradient_checks() -> None:
    assert tuple(op for op in OPS if "backward=_backward" in (FOLDER / op / "op.py").read_text()) == DIFFERENTIABLE
    for op in DIFFERENTIABLE:
        assert re.search(r"\bgradcheck\(", (Path(__file__).parent / f"test_{op}.py").read_text()), op


@pytest.mark.parametrize("name", OPS)
def test_kernels_say_what_they_must_move_and_what_they_move(name: str) -> None:
    text = ast.get_docstring(ast.parse((FOLDER / name / "kernel.py").read_text())) or ""
    assert re.search(r"[Bb]ytes", text)
    assert re.search(r"must\s+move|[Cc]ompulsory", text)


@pytest.mark.parametrize("name", OPS)
def test_op_equals_its_reference(name: str, op_inputs: Inputs) -> None:
    for arguments in op_inputs(name):
        wanted = reference_of(name)(*arguments)
        assert same(op_of(name)(*arguments), wanted)
        assert same(getattr(torch.ops.gpuvos, name)(*arguments), wanted)


@pytest.mark.parametrize("name", OPS)
def test_the_device_of_the_tensors_is_the_current_one(
    name: str, op_inputs: Inputs, monkeypatch: pytest.MonkeyPatch, cuda_path: Callable[..., Any]
) -> None:
    # Triton launches on the current device, which need not be the one of the tensors
    events: list[Any] = []

    @contextmanager
    def device_of(tensor: Tensor) -> Iterator[None]:
        events.append(tensor)
        yield
        events.append("left")

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    arguments = op_inputs(name)[0]
    wanted = op_of(name)(*arguments)
    kernel = kernel_of(name).__module__
    monkeypatch.setattr(f"{kernel}.{name}", lambda *given: events.append(given) or wanted)
    monkeypatch.setattr("gpuvos.kernels.backend.choose", lambda *_: Choice("kernel", "asked for"))
    cuda_path(name, *arguments)
    assert events[0].data_ptr() == arguments[0].data_ptr()
    assert len(events[1]) == len(arguments)
    assert events[2:] == ["left"]


@pytest.mark.slow
@pytest.mark.parametrize("name", OPS)
def test_opcheck(name: str, op_inputs: Inputs) -> None:
    for arguments in op_inputs(name):
        torch.library.opcheck(op_of(name), arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_opcheck_with_gradients(name: str, op_inputs: Inputs) -> None:
    for arguments in op_inputs(name):
        leaves = tree_map_only(Tensor, lambda v: v.requires_grad_(v.is_floating_point()), arguments)
        torch.library.opcheck(op_of(name), leaves)


@pytest.mark.sampled
@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_fake_results_look_like_real_ones(name: str, dtype: torch.dtype, op_inputs: Inputs) -> None:
    for arguments in op_inputs(name, dtype):
        real = outputs(op_of(name)(*arguments))
        with FakeTensorMode() as mode:
            shadow = tree_map_only(Tensor, mode.from_tensor, arguments)
            fake = outputs(op_of(name)(*shadow))
        assert len(fake) == len(real)
        for one, two in zip(fake, real, strict=True):
            assert (one.shape, one.dtype, one.device) == (two.shape, two.dtype, two.device)
            assert one.is_contiguous()
            assert two.is_contiguous()
            assert one.stride() == two.stride()
            assert not one.requires_grad


@pytest.mark.parametrize("name", OPS)
def test_fake_results_of_strided_inputs_are_contiguous(name: str, op_inputs: Inputs) -> None:
    arguments = op_inputs(name)[0]
    turned = tree_map_only(Tensor, lambda v: v.transpose(0, -1).contiguous().transpose(0, -1), arguments)
    with FakeTensorMode() as mode:
        fake = outputs(op_of(name)(*tree_map_only(Tensor, mode.from_tensor, turned)))
    for one, two in zip(fake, outputs(op_of(name)(*turned)), strict=True):
        assert one.stride() == two.stride()
        assert two.is_contiguous()


@pytest.mark.slow
@pytest.mark.parametrize("name", OPS)
def test_compiles_into_one_graph(name: str, op_inputs: Inputs) -> None:
    torch.compiler.reset()  # or the other ops' graphs count towards the limit of recompilations
    op = op_of(name)
    compiled = torch.compile(lambda *arguments: op(*arguments), fullgraph=True, backend="eager")
    for arguments in op_inputs(name):
        assert same(compiled(*arguments), op(*arguments))


@pytest.mark.parametrize("name", OPS)
def test_uninitialised_memory_never_shows(name: str, op_inputs: Inputs, request: pytest.FixtureRequest) -> None:
    cases = op_inputs(name)
    wanted = [reference_of(name)(*arguments) for arguments in cases]
    shapes = request.getfixturevalue("poisoned_buffers")  # from here on
    assert torch.empty(3).isnan().all()
    assert torch.zeros(2).new_empty(3, dtype=torch.int64).eq(torch.iinfo(torch.int64).max).all()
    shapes.clear()
    results = [reference_of(name)(*arguments) for arguments in cases]
    assert all(same(result, want) for result, want in zip(results, wanted, strict=True))
    assert shapes or not re.search(r"empty\w*\(", (FOLDER / name / "reference.py").read_text())


@pytest.mark.parametrize("name", OPS)
def test_inputs_stay_as_they_are_and_share_no_memory(name: str, op_inputs: Inputs) -> None:
    for arguments in op_inputs(name):
        copies = tree_map_only(Tensor, torch.clone, arguments)
        result = outputs(op_of(name)(*arguments))
        given = [value for value in arguments if isinstance(value, Tensor)]
        assert all(torch.equal(a, b) for a, b in zip(given, (v for v in copies if isinstance(v, Tensor)), strict=True))
        places = [value.untyped_storage().data_ptr() for value in (*given, *result) if value.numel()]
        assert len(set(places)) == len(places)
