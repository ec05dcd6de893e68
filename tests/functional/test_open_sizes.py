"""Every function, traced once with T, H and W open: exported, and compiled in one graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils._pytree import tree_leaves

from gpuvos import functional as F
from gpuvos.types import Forest, Seeds

pytestmark = pytest.mark.slow
# of fewer than 8 rows every fourth one, as the guided filter takes them, is a single one, which a trace takes for good
SIZES = [(5, 9, 11), (6, 12, 8)]
K = 4  # seeds

# arguments out of ``values`` below, and the call; edges and forests are put together inside
CASES: dict[str, tuple[str, Callable[..., Any]]] = {
    "best_track": ("tracks rank", F.best_track),
    "candidate_mask": ("objectness", F.candidate_mask),
    "dense_crf": ("objectness image", lambda *given: F.dense_crf(*given, iterations=1)),
    "dense_crf_marginals": ("embedding image", lambda *given: F.dense_crf_marginals(*given, iterations=1)),
    "edge_map": ("embedding", F.edge_map),
    "edge_weights": ("embedding", F.edge_weights),
    "estimate_temperature": ("embedding", lambda e: F.estimate_temperature(e, num_seeds=K, window=3)),
    "foreground_probability": ("embedding seeds members others", F.foreground_probability),
    "gather_pixels": ("embedding index", F.gather_pixels),
    "guided_filter": ("objectness image", lambda *given: F.guided_filter(*given, radius=2, epsilon=0.1)),
    "initial_background": ("score valid", lambda *given: F.initial_background(*given, num_background=2)),
    "initial_foreground": (
        "label objectness between first members",
        lambda label, distance, between, *given: F.initial_foreground(Forest(label, distance, between), *given),
    ),
    "initial_foreground_shortest": (
        "embedding index first members",
        lambda e, *given: F.initial_foreground_shortest(F.edge_weights(e), *given, num_background=2),
    ),
    "largest_edges": ("embedding index valid", lambda e, *given: F.largest_edges(F.edge_weights(e), *given)),
    "link_tracks": ("index valid seeds score", lambda *given: F.link_tracks(Seeds(*given))),
    "mask_seed_sets": ("embedding label mask", lambda *given: F.mask_seed_sets(*given, K)),
    "minimax_forest": ("embedding index valid", lambda e, *given: F.minimax_forest(F.edge_weights(e), *given)),
    "motion_saliency": ("motion score valid", lambda *given: F.motion_saliency(*given, num_background=2)),
    "normalize_saliency": ("score valid", F.normalize_saliency),
    "region_mean": ("flow label", lambda *given: F.region_mean(*given, K)),
    "residual_flow": ("flow", F.residual_flow),
    "seed_sets": ("mask label score score valid first members", F.seed_sets),
    "select_seeds": ("embedding objectness mask", lambda *given: F.select_seeds(*given, num_seeds=K)),
    "shortest_forest": ("embedding index valid", lambda e, *given: F.shortest_forest(F.edge_weights(e), *given)),
    "similarity": ("seeds seeds", F.similarity),
    "smooth_seed_labels": ("seeds score valid", lambda *given: F.smooth_seed_labels(*given, neighbors=6)),
    "soft_background": ("score score members valid", F.soft_background),
    "soft_foreground_probability": ("embedding seeds score score", F.soft_foreground_probability),
    "squared_distance": ("seeds seeds", F.squared_distance),
    "track_scores": ("tracks score score", F.track_scores),
    "vote_labels": ("seeds score valid", lambda *given: F.vote_labels(*given, neighbors=6)),
}


class Call(nn.Module):
    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, *given: Tensor) -> list[Tensor]:
        return tree_leaves(self.call(*given))


def values(names: str, t: int, h: int, w: int) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(t + h + w)
    index = torch.stack([torch.randperm(h * w, generator=g)[:K] for _ in range(t)])
    label = torch.randint(K, (t, h, w), generator=g)
    made = {
        "embedding": torch.randn(t, 3, h, w, generator=g),
        "objectness": torch.rand(t, h, w, generator=g),
        "mask": torch.rand(t, h, w, generator=g) > 0.5,
        "image": torch.randint(256, (t, 3, h, w), generator=g, dtype=torch.uint8),
        "flow": torch.randn(t, 2, h, w, generator=g),
        "label": label,
        "between": torch.rand(t, K, K, generator=g),
        "index": index,
        "seeds": torch.randn(t, K, 3, generator=g),
        "score": torch.rand(t, K, generator=g),
        "valid": torch.ones(t, K, dtype=torch.bool),
        "members": torch.arange(K).expand(t, K) < 2,
        "others": torch.arange(K).expand(t, K) >= 2,
        "motion": torch.randn(t, K, 2, generator=g),
        "tracks": torch.randint(K, (t, K), generator=g),
        "rank": torch.rand(K, generator=g),
        "first": torch.randint(K, (t,), generator=g),
    }
    return tuple(made[name].clone() for name in names.split())


def test_no_function_is_left_out() -> None:
    assert sorted(CASES) == sorted(F.__all__)


@pytest.mark.parametrize("name", CASES)
def test_one_program_for_every_size(name: str) -> None:
    names, call = CASES[name]
    step, given, graphs = Call(call), [values(names, *sizes) for sizes in SIZES], []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    opened = tuple(  # the sizes that differ between the two
        {axis: Dim.DYNAMIC for axis, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b}
        for one, two in zip(*given, strict=True)
    )
    exported = torch.export.export(step, given[0], dynamic_shapes=(opened,)).module()
    torch._dynamo.reset()
    compiled = torch.compile(step, backend=count, dynamic=True, fullgraph=True)
    with torch.no_grad():
        for arguments in given:
            for wanted, found, also in zip(step(*arguments), exported(*arguments), compiled(*arguments), strict=True):
                torch.testing.assert_close(found, wanted)
                torch.testing.assert_close(also, wanted)
    torch._dynamo.reset()
    assert len(graphs) == 1
