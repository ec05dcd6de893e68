"""Calls that random arguments found, each of which ended in another error than InputError, or in NaN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import gpuvos
from gpuvos import Config, EdgeWeights, InputError, metrics, viz
from gpuvos import functional as F
from gpuvos.features.network.embedding import EmbeddingNetwork
from gpuvos.training.images import read_index
from gpuvos.training.loss import distillation_loss, objectness_loss, pair_loss, pixel_pairs, sample_pixels
from gpuvos.training.sampler import BatchSampler
from gpuvos.training.synthetic import RenderedStills

CLIP = torch.zeros(1, 3, 4, 6)
MASK = torch.ones(1, 4, 6, dtype=torch.bool)
LABEL = torch.zeros(1, 4, 6, dtype=torch.int64)
NONE = torch.zeros(0, dtype=torch.int64)


def seed_sets(h: int, w: int) -> object:
    some, all_ = torch.rand(2), torch.ones(2, dtype=torch.bool)
    label = torch.zeros(h, w, dtype=torch.int64)
    return F.seed_sets(label.bool(), label, some, some, all_, torch.tensor(0), all_)


def sampler(**options: float) -> object:
    stills = RenderedStills(1, height=8, width=8)
    return BatchSampler(stills, **({"batch_size": 1, "size": 8, "paste_share": 0.0, "rest": False} | options))  # type: ignore[arg-type]


REFUSED: dict[str, Callable[[], object]] = {
    "smoothness_sigma": lambda: F.dense_crf(CLIP[:, 0], CLIP, smoothness_sigma=float("inf")),
    "initial_foreground": lambda: seed_sets(0, 3),
    "source": lambda: F.largest_edges(EdgeWeights(torch.rand(3, 3), torch.rand(2, 4)), NONE, NONE.bool()),
    "threshold": lambda: metrics.summary(torch.rand(3), threshold=""),  # type: ignore[arg-type]
    "color": lambda: viz.overlay(CLIP, MASK, color=(1, 2, 256)),
    "label": lambda: viz.saliency_map(LABEL + 2, torch.rand(1, 2)),
    "instance": lambda: sample_pixels(LABEL + 256, 2),
    "num_samples": lambda: sample_pixels(LABEL, 1.5),  # type: ignore[arg-type]
    "index": lambda: pixel_pairs(CLIP, LABEL, torch.tensor([[24]])),
    "temperature": lambda: pixel_pairs(CLIP, LABEL, torch.tensor([[0]]), temperature=0.0),
    "distance": lambda: pair_loss([1.0], [True]),  # type: ignore[arg-type]
    "balance": lambda: objectness_loss(CLIP[:, 0], CLIP[:, 1], balance=2),
    "class_logits": lambda: distillation_loss(CLIP[:0], CLIP[:0]),
    "batch_size": lambda: sampler(batch_size=0),
    "size": lambda: sampler(size=0.5),
    "paste_share": lambda: sampler(paste_share=-1),
    "num_clips": lambda: RenderedStills(1.5),  # type: ignore[arg-type]
    "dimensions": lambda: EmbeddingNetwork(dimensions=1.5),  # type: ignore[arg-type]
    "images": lambda: EmbeddingNetwork(dimensions=8)(CLIP[:, :, :0]),
}  # fmt: skip


@pytest.mark.parametrize("argument", REFUSED)
def test_refused_by_name(argument: str) -> None:
    with pytest.raises(InputError, match=rf"^{argument}: got .+, wanted "):
        REFUSED[argument]()


@pytest.mark.parametrize("color", ["", (1, 2), (0.5, 0, 0), (-1, 0, 0), None, 3])
def test_colors(color: object) -> None:
    for draw in (
        lambda: viz.overlay(CLIP, MASK, color=color),
        lambda: viz.draw_points(CLIP, NONE[None], (2, 2), color=color),
    ):  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"^color: got .*, wanted \(red, green, blue\)"):
            draw()


@pytest.mark.parametrize("row", ["x,y,a,4", "x,y,0,4", "x,../y,3,4", "/x,y,3,4", "x,\xff,3,4"])
def test_rows_that_are_no_stills(row: str, tmp_path: Path) -> None:
    text = f"source,stem,width,height,mask_kind,licence\n{row},instance,cc0\n"
    (tmp_path / "index.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"^root: got "):
        read_index(tmp_path)


def test_features_more_precise_than_the_result() -> None:
    features = [torch.rand(2, 4, 6, 8), torch.rand(2, 6, 8), torch.rand(2, 2, 6, 8)]
    config = Config(num_seeds=4, window=3)
    result = gpuvos.segment(*features, config=config)
    seed = int(result.seeds.valid[0].nonzero()[0])
    edited = gpuvos.relabel(result, features[0].double(), foreground=[(0, seed)], config=config)
    assert edited.probability.dtype == result.probability.dtype


def test_any_whole_number_is_a_seed() -> None:
    for seed in (-1, 2**70, -(2**70)):
        clips = [gpuvos.data.render_clip(num_frames=1, height=8, width=8, seed=seed).frames for _ in range(2)]
        assert torch.equal(*clips)
