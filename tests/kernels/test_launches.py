"""How many launches a call takes on a CUDA device, counted with none at hand: fake tensors, kernels only noted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gpuvos

pytest.importorskip("triton")

from gpuvos.bench.launches import Noting, noted_launches


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
    ("config", "most", "sums"),
    [({}, 127, 1), ({"track_seeds": True}, 146, 1), ({"rule": "paper"}, 128, 2)],
    ids=["default", "tracks", "paper"],
)
def test_segment_takes_few_launches(config: dict[str, Any], most: int, sums: int) -> None:
    small = launches_of_segment(80, 120, 214, **config)
    assert small.launches.total() <= most, small.launches.most_common()
    # one pass for all means of regions; the paper's initial foreground, which comes later, takes another
    assert small.launches["_partial_sums"] == small.launches["_add_partials"] == sums
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
