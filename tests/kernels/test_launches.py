"""How many launches a call takes on a CUDA device, counted with none at hand: fake tensors, kernels only noted."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import gpuvos

pytest.importorskip("triton")

from triton.runtime.jit import KernelInterface

# Operators that only make another view of memory, look at a tensor, or take memory without writing to it.
FREE = frozenset(
    {
        "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "device", "empty", "empty_like",
        "empty_strided", "expand", "lift_fresh", "mT", "new_empty", "new_empty_strided", "permute", "promote_types",
        "select", "slice", "split", "split_with_sizes", "squeeze", "t", "to", "transpose", "unbind", "unsqueeze",
        "view",
    }
)  # fmt: skip
SEVERAL = {"sort": 4, "topk": 3}  # copies of the keys, their numbers, and the search itself


class Noting(TorchDispatchMode):
    """Notes operators; of the package's own it runs the part on the host, and notes the kernels which that launches."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.operators: Counter[str] = Counter()
        self.inside = False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.split("::")[1]
        if function.namespace == "gpuvos":
            self.operators[name] += 1
            self.inside = True
            with self:
                result = host_part(name)(*args)
            self.inside = False
            return result
        if name not in FREE:
            self.launches[name] += SEVERAL.get(name, 1)
            self.operators[name] += not self.inside
        return function(*args, **(kwargs or {}))


def host_part(name: str) -> Callable[..., Any]:
    """The function of an op's kernel module."""
    module = importlib.import_module(f"gpuvos.kernels.{ {'mean_within': 'neighbor_mean'}.get(name, name) }.kernel")
    host: Callable[..., Any] = getattr(module, name)
    return host


class Device:
    """Of an H200."""

    multi_processor_count = 132


@contextmanager
def noted_launches() -> Iterator[Noting]:
    noting = Noting()

    def note(kernel: Any, _grid: Any) -> Callable[..., None]:
        return lambda *_, **__: noting.launches.update([kernel.fn.__name__])

    with ExitStack() as stack:
        stack.enter_context(patch.object(KernelInterface, "__getitem__", note))
        stack.enter_context(patch("torch.cuda.get_device_properties", lambda _: Device()))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(torch.no_grad())
        stack.enter_context(noting)
        yield noting


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def launches_of_segment(t: int, h: int, w: int, **config: Any) -> Noting:
    with noted_launches() as noting:
        embedding = torch.empty(t, 64, h, w, device="cuda", dtype=torch.bfloat16)
        objectness, flow = torch.empty(t, h, w, device="cuda"), torch.empty(t, 2, h, w, device="cuda")
        gpuvos.segment(embedding, objectness, flow, config=gpuvos.Config(**config), validate=False)
    return noting


def test_operators_and_kernels_are_told_apart() -> None:
    from gpuvos.kernels.region_sum import region_sum

    with noted_launches() as noting:
        values = torch.zeros(2, 3, 4000, device="cuda")
        region_sum(values.transpose(0, 0) + 1, torch.zeros(2, 4000, dtype=torch.int64, device="cuda"), 7)
    assert noting.launches == {"zeros": 2, "add": 1, "_partial_sums": 1, "_add_partials": 1}
    assert noting.operators == {"zeros": 2, "add": 1, "region_sum": 1}


@pytest.mark.sampled
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(
    ("config", "most"),
    [({}, 120), ({"track_seeds": True}, 170), ({"rule": "paper"}, 154)],
    ids=["default", "tracks", "paper"],
)
def test_segment_takes_few_launches(config: dict[str, Any], most: int) -> None:
    small = launches_of_segment(80, 120, 214, **config)
    assert small.launches.total() <= most, small.launches.most_common()
    # a higher frame has one more level of the forest; nothing else depends on the number of pixels
    large = launches_of_segment(80, 480, 854, **config)
    assert large.launches - small.launches == {"merge_tiles": 1}
    assert launches_of_segment(80, 120, 214, num_seeds=100, **config).launches == small.launches


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_long_videos_take_no_more_launches_but_for_the_scratch_of_the_forest() -> None:
    long, short = (launches_of_segment(t, 480, 854).launches for t in (1000, 20))
    assert set(long - short) == {"grow_tiles", "merge_tiles", "finish_pixels", "close_seeds"}
    assert not short - long
