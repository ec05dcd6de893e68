"""The method as one function of features."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import gpuvos
from gpuvos import Config, Features, Segmentation, segment
from gpuvos import functional as F
from gpuvos.kernels.grid_edges import grid_edges

SMALL = {"num_seeds": 12, "num_background": 4, "window": 3, "smoothing_neighbors": 6, "track_seeds": True}
RULES = ["paper", "robust"]
DISTANCES = ["minimax", "shortest"]


def scene(frames: int = 4, h: int = 12, w: int = 16, *, noise: float = 0.2, seed: int = 0) -> tuple[Features, Tensor]:
    """A square of 5 x 6 that moves right over a textured background, and its mask ``[T, H, W]``."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.zeros(frames, h, w, dtype=torch.bool)
    for t in range(frames):
        truth[t, 3:8, 2 + t : 8 + t] = True
    inside = truth[:, None].float()
    embedding = torch.cat((4 * inside, torch.zeros(frames, 2, h, w)), 1)
    embedding = embedding + noise * torch.randn(embedding.shape, generator=generator)
    objectness = (0.1 + 0.8 * inside[:, 0] + 0.05 * torch.rand(truth.shape, generator=generator)).clamp(0, 1)
    flow = torch.cat((inside * 2, inside * 0), 1) + 0.01 * torch.randn(frames, 2, h, w, generator=generator)
    return Features(embedding, objectness, flow), truth


def tensors(result: Segmentation) -> dict[str, Tensor]:
    """Every tensor of a result, by name."""
    out = {}
    for name, value in result._asdict().items():
        if isinstance(value, Tensor):
            out[name] = value
        elif isinstance(value, tuple):
            out |= {f"{name}.{part}": tensor for part, tensor in value._asdict().items()}
    return out


def assert_same(one: Segmentation, two: Segmentation, *, exact: bool = True) -> None:
    for (name, a), b in zip(tensors(one).items(), tensors(two).values(), strict=True):
        if exact or not a.is_floating_point():
            assert torch.equal(a, b), name
        else:
            torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize("rank_by", ["both", "motion", "objectness"])
def test_every_option_finds_the_object(rule: str, distance: str, reduce: str, rank_by: str) -> None:
    features, truth = scene()
    config = Config(rule=rule, distance=distance, edge_reduce=reduce, rank_by=rank_by, **SMALL)
    result = segment(*features, config=config)
    assert gpuvos.metrics.region_similarity(result.mask, truth).min() > 0.8
    score = F.track_scores(result.tracks, result.seeds.objectness, result.saliency, rank_by=rank_by)
    assert torch.equal(result.track_score, score)
    assert truth.flatten(1).gather(1, result.seeds.index.gather(1, result.foreground_seed[:, None])).all()


def test_shapes_types_and_relations() -> None:
    features, _ = scene()
    t, k, h, w = 4, 12, 12, 16
    for rule in RULES:
        result = segment(*features, config=Config(rule=rule, **SMALL), size=(24, 40))
        shapes = {name: tuple(value.shape) for name, value in tensors(result).items()}
        assert shapes == {
            "mask": (t, 24, 40),
            "probability": (t, 24, 40),
            "confidence": (t, 24, 40),
            "seeds.index": (t, k),
            "seeds.valid": (t, k),
            "seeds.embedding": (t, k, 3),
            "seeds.objectness": (t, k),
            "forest.label": (t, h, w),
            "forest.distance": (t, h, w),
            "forest.seed_distance": (t, k, k),
            "tracks": (t, k),
            "track_score": (k,),
            "foreground_seed": (t,),
            "initial_foreground": (t, h, w),
            "foreground": (t, k),
            "background": (t, k),
            "region_flow": (t, k, 2),
            "saliency": (t, k),
            "seed_score": (t, k),
            "confident": (t, k),
        }
        assert torch.equal(result.mask, result.probability > 0.5)
        torch.testing.assert_close(result.confidence, (2 * result.probability - 1).abs())
        assert result.probability.min() >= 0
        assert result.probability.max() <= 1
        assert not (result.foreground & result.background).any()


def test_paper_rule_is_the_chain_of_its_steps() -> None:
    (e, o, flow), _ = scene(noise=1.0)
    c = Config(rule="paper", temperature=2.0, **SMALL)
    seeds = F.select_seeds(e, o, F.candidate_mask(F.edge_map(e, squared_distance=True), window=3), num_seeds=12)
    forest = F.minimax_forest(F.edge_weights(e), seeds.index, seeds.valid)
    region_flow = F.region_mean(flow, forest.label, 12)
    saliency = F.motion_saliency(region_flow, seeds.objectness, seeds.valid, num_background=4)
    start = F.initial_background(seeds.objectness, seeds.valid, num_background=4)
    tracks = F.link_tracks(seeds)
    score = F.track_scores(tracks, seeds.objectness, saliency)
    best = F.best_track(tracks, score)
    initial = F.initial_foreground(forest, best, start)
    sets = F.seed_sets(initial, forest.label, seeds.objectness, saliency, seeds.valid, best, start)
    p = F.foreground_probability(e, seeds.embedding, *sets, temperature=2.0)
    expected = Segmentation(
        mask=p > 0.5,
        probability=p,
        confidence=(2 * p - 1).abs(),
        seeds=seeds,
        forest=forest,
        foreground=sets[0],
        background=sets[1],
        region_flow=region_flow,
        saliency=saliency,
        seed_score=seeds.objectness * saliency,
        confident=torch.zeros_like(seeds.valid),
        tracks=tracks,
        track_score=score,
        foreground_seed=best,
        initial_foreground=initial,
    )
    assert_same(segment(e, o, flow, config=c), expected)


def test_robust_rule_is_the_chain_of_its_steps() -> None:
    (e, o, flow), _ = scene(noise=1.0)
    c = Config(rule="robust", smoothing_share=1.0, confident_share=0.5, vote_threshold=0.3, min_motion=0.2, **SMALL)
    result = segment(e, o, flow, config=c)
    residual = F.residual_flow(flow, weight=1 - 0.9 * o)
    means = F.region_mean(torch.cat((residual, o[:, None]), 1), result.forest.label, 12)
    length = means[..., :2].norm(dim=-1)
    length = length * (length.amax(-1, keepdim=True) >= 0.2)
    saliency = F.normalize_saliency(length, result.seeds.valid)
    torch.testing.assert_close(result.saliency, saliency)
    chosen = F.vote_labels(
        result.seeds.embedding,
        (saliency * means[..., 2]).sqrt(),
        result.seeds.valid,
        neighbors=6,
        largest_share=1.0,
        confident_share=0.5,
        vote_threshold=0.3,
    )
    assert torch.equal(result.foreground, chosen)
    assert torch.equal(result.background, result.seeds.valid & ~chosen)


@pytest.mark.sampled
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("width", [16, 13])  # a frame that vectors divide, and one that they do not
def test_ragged_batch_equals_each_video_alone(rule: str, distance: str, width: int) -> None:
    config = Config(rule=rule, distance=distance, **SMALL)
    short, long = scene(3, w=width, noise=1.0, seed=1)[0], scene(5, w=width, noise=1.0, seed=2)[0]
    for filler in (0.0, 1.0):
        padded = [torch.cat((v, torch.full((2, *v.shape[1:]), filler))) for v in short]
        both = [torch.stack(pair) for pair in zip(padded, long, strict=True)]
        batch = tensors(segment(*both, config=config, lengths=torch.tensor([3, 5])))
        for b, (video, frames) in enumerate(((short, 3), (long, 5))):
            for name, alone in tensors(segment(*video, config=config)).items():
                own = batch[name][b] if name == "track_score" else batch[name][b, :frames]
                assert torch.equal(own, alone), name
        kept = dataclasses.replace(config, adapt_every=None)  # the sets of frame 0 would reach beyond the end
        for more in ({}, {"first_mask": torch.ones(2, 12, width, dtype=torch.bool)}):
            late = segment(*both, config=kept, lengths=torch.tensor([3, 5]), **more)
            assert (late.probability[0, 3:] == 0).all()
        assert not batch["mask"][0, 3:].any()
        assert (batch["probability"][0, 3:] == 0).all()
        assert not batch["seeds.valid"][0, 3:].any()
        assert (batch["tracks"][0, 3:] == -1).all()
        assert (batch["foreground_seed"][0, 3:] == -1).all()


def test_a_video_of_no_frames_in_a_batch_is_empty() -> None:
    features, _ = scene(2)
    both = [torch.stack((v, v)) for v in features]
    for rule in RULES:
        result = segment(*both, config=Config(rule=rule, **SMALL), lengths=torch.tensor([0, 2]))
        assert not result.mask[0].any()
        assert result.mask[1].any()
        assert result.track_score[0].isneginf().all()


def test_seed_sets_are_renewed_as_asked() -> None:
    (e, o, flow), _ = scene(7, noise=1.0)
    for every, source in ((1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 0, 0, 3, 3, 3, 6]), (None, [0] * 7)):
        for rule in RULES:
            result = segment(e, o, flow, config=Config(rule=rule, adapt_every=every, adjacent_sets=0, **SMALL))
            sets = (result.seeds.embedding[source], result.foreground[source], result.background[source])
            torch.testing.assert_close(result.probability, F.foreground_probability(e, *sets))


def test_first_mask() -> None:
    features, truth = scene()
    t, k = 4, 12
    wrong = torch.zeros(12, 16, dtype=torch.bool)
    wrong[9:, 10:] = True  # somewhere in the background: it is what the user named
    for rule in RULES:
        config = Config(rule=rule, **SMALL)
        result = segment(*features, config=config, first_mask=truth[0])
        assert gpuvos.metrics.region_similarity(result.mask, truth).min() > 0.8
        seeds, foreground, background = F.mask_seed_sets(
            features.embedding[0], result.forest.label[0], truth[0], k, coverage=0.5
        )
        assert torch.equal(result.foreground, foreground.expand(t, k))
        assert torch.equal(result.background, background.expand(t, k))
        expected = F.foreground_probability(
            features.embedding, seeds.expand(t, k, 3), result.foreground, result.background
        )
        torch.testing.assert_close(result.probability, expected)
        # at four times the size of the grid, and in a batch
        large = truth[0].repeat_interleave(4, 0).repeat_interleave(4, 1)
        assert_same(segment(*features, config=config, first_mask=large), result)
        batch = segment(*(v[None] for v in features), config=config, first_mask=truth[:1])
        assert torch.equal(batch.mask[0], result.mask)
        loose = segment(*features, config=dataclasses.replace(config, mask_coverage=0.0), first_mask=wrong)
        touched = F.region_mean(wrong[None, None].float(), loose.forest.label[:1], k)[0, :, 0] > 0
        assert torch.equal(loose.foreground[0], touched)
        other = segment(*features, config=config, first_mask=wrong)
        assert not torch.equal(other.foreground, result.foreground)
        nothing = segment(*features, config=config, first_mask=wrong & False)
        assert not nothing.mask.any()
        # an object smaller than a pixel of the grid still names that pixel
        speck = torch.zeros(120, 160, dtype=torch.bool)
        speck[55, 45] = True
        assert segment(*features, config=config, first_mask=speck).foreground.any()


def test_size_upsamples_the_probability() -> None:
    features, _ = scene()
    config = Config(**SMALL)
    grid, large = segment(*features, config=config), segment(*features, config=config, size=(48, 64))
    expected = nn.functional.interpolate(grid.probability[:, None], size=(48, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(large.probability, expected)
    same = segment(*features, config=config, size=(12, 16))
    torch.testing.assert_close(same.probability, grid.probability)
    assert segment(*features, config=config, size=(1, 1)).mask.shape == (4, 1, 1)


def test_repeats_itself_and_needs_no_validation() -> None:
    features, _ = scene(noise=1.0)
    for rule in RULES:
        config = Config(rule=rule, **SMALL)
        first = segment(*features, config=config)
        for _ in range(3):
            assert_same(segment(*features, config=config), first)
        assert_same(segment(*features, config=config, validate=False), first)
    assert_same(segment(*features), segment(*features, config=Config()))


@pytest.mark.parametrize("distance", DISTANCES)
def test_scale_of_the_embedding_with_the_temperature(distance: str) -> None:
    (e, o, flow), _ = scene(noise=1.0)
    for rule in RULES:
        config = Config(
            rule=rule, distance=distance, adjacent_sets=0, **SMALL
        )  # a mean of P changes with its sharpness
        one = segment(e, o, flow, config=config)
        two = segment(16 * e, o, flow, config=dataclasses.replace(config, temperature=256.0))
        far = segment(16 * e, o, flow, config=config)  # the same decisions; only the probability is sharper
        for name in ("mask", "foreground", "background", "initial_foreground", "tracks", "foreground_seed"):
            assert torch.equal(getattr(one, name), getattr(two, name)), name
            assert torch.equal(getattr(one, name), getattr(far, name)), name
        assert torch.equal(one.forest.label, two.forest.label)
        assert torch.equal(one.probability, two.probability)


@pytest.mark.parametrize("distance", DISTANCES)
def test_order_of_channels(distance: str) -> None:
    (e, o, flow), _ = scene(noise=1.0)
    e = (8 * torch.cat((e, e.flip(2)), 1)).round() / 8  # distances are exact
    for rule in RULES:
        config = Config(rule=rule, distance=distance, **SMALL)
        one, two = (
            segment(e, o, flow, config=config),
            segment(e[:, [4, 2, 0, 5, 1, 3]], o, flow, config=config),
        )
        for name in ("index", "valid"):
            assert torch.equal(getattr(one.seeds, name), getattr(two.seeds, name))
        assert torch.equal(one.forest.label, two.forest.label)
        for name in ("tracks", "foreground", "background", "mask"):
            assert torch.equal(getattr(one, name), getattr(two, name)), name


@pytest.mark.sampled
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 5, 6), (2, 3, 1, 7), (3, 2, 4, 1), (2, 2, 2, 2)])
def test_degenerate_sizes(rule: str, distance: str, shape: tuple[int, ...], generator: torch.Generator) -> None:
    t, _, h, w = shape
    features = (
        torch.randn(shape, generator=generator),
        torch.rand(t, h, w, generator=generator),
        torch.randn(t, 2, h, w, generator=generator),
    )
    for window in (1, 9):
        result = segment(*features, config=Config(rule=rule, distance=distance, window=window), size=(3 * h, 3 * w))
        assert result.mask.shape == (t, 3 * h, 3 * w)
        assert result.probability.isfinite().all()
        assert result.seeds.valid.any(1).all()
        assert (result.forest.label >= 0).all()


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_static_scene(distance: str) -> None:
    features, _ = scene()
    for flow in (torch.zeros(4, 2, 12, 16), torch.full((4, 2, 12, 16), 5.0)):
        paper = segment(*features[:2], flow, config=Config(rule="paper", distance=distance, **SMALL))
        assert paper.probability.isfinite().all()
        assert paper.saliency.isfinite().all()
        robust = segment(*features[:2], flow, config=Config(rule="robust", distance=distance, **SMALL))
        assert not robust.mask.any()
        assert not robust.foreground.any()
        assert (robust.saliency == 0).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("distance", DISTANCES)
def test_constant_embedding_and_objectness(rule: str, distance: str) -> None:
    (e, o, flow), _ = scene()
    config = Config(rule=rule, distance=distance, **SMALL)
    for embedding, objectness in ((e * 0 + 2, o), (e, o * 0), (e, o * 0 + 1), (e * 0, o * 0)):
        result = segment(embedding, objectness, flow, config=config)
        for name, value in tensors(result).items():
            if name not in ("forest.seed_distance", "track_score"):
                assert value.isfinite().all(), name
    if rule == "robust":
        assert not segment(e, o * 0, flow, config=config).mask.any()  # no evidence, no object


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types(dtype: torch.dtype) -> None:
    features, truth = scene()
    for rule in RULES:
        config = Config(rule=rule, **SMALL)
        result = segment(*(v.to(dtype) for v in features), config=config)
        assert gpuvos.metrics.region_similarity(result.mask, truth).min() > 0.8
        # embedding in a half type, the rest not: flow keeps its digits
        mixed = segment(features.embedding.to(dtype), *features[1:], config=config)
        assert mixed.region_flow.dtype == torch.float32
        mixed = segment(features.embedding, features.objectness.to(dtype), features.flow, config=config)
        assert mixed.region_flow.dtype == torch.float32


def test_memory_layout_changes_nothing() -> None:
    features, _ = scene(noise=1.0)
    strided = [v.flip(-1).contiguous().flip(-1).transpose(0, -1).contiguous().transpose(0, -1) for v in features]
    assert not strided[0].is_contiguous()
    assert_same(segment(*strided, config=Config(**SMALL)), segment(*features, config=Config(**SMALL)))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_edges_are_taken_from_one_read_of_the_embedding(
    rule: str, distance: str, reduce: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpuvos.functional import edges

    calls = []

    def counted(embedding: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(embedding.shape)
        return grid_edges(embedding)

    monkeypatch.setattr(edges, "grid_edges", counted)
    features, _ = scene()
    segment(*features, config=Config(rule=rule, distance=distance, edge_reduce=reduce, **SMALL))
    assert calls == [features.embedding.shape]


def test_the_robust_rule_computes_tracks_only_where_they_are_asked_for() -> None:
    features, _ = scene()
    asked, plain = (segment(*features, config=Config(**(SMALL | {"track_seeds": ask}))) for ask in (True, False))
    names = ("tracks", "track_score", "foreground_seed", "initial_foreground")
    assert all(getattr(plain, name) is None for name in names)
    rest = [tensors(result._replace(**dict.fromkeys(names))) for result in (asked, plain)]
    assert rest[0].keys() == rest[1].keys()
    assert all(torch.equal(value, rest[1][name]) for name, value in rest[0].items())
    paper = segment(*features, config=Config(rule="paper", **(SMALL | {"track_seeds": False})))
    assert all(isinstance(getattr(paper, name), Tensor) for name in names)


def test_a_result_knows_its_config() -> None:
    features, _ = scene()
    config = Config(rule="paper", **SMALL)
    assert segment(*features, config=config).config is config
    assert segment(*features).config == Config()
