"""Why: pixels by seeds against brute force, seeds by rules against the rules, frames by hand; and edits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import gpuvos
from gpuvos import Config, Features, InputError, Reason, Segmentation, explain, relabel, seeds_at, segment
from gpuvos import functional as F
from gpuvos.data import render_clip
from gpuvos.features.appearance import AppearanceFeatures

SMALL = {"num_seeds": 12, "num_background": 4, "window": 3, "smoothing_neighbors": 6, "smoothing_share": 1.0}


def scene(frames: int = 5, h: int = 12, w: int = 16, seed: int = 0) -> Features:
    g = torch.Generator().manual_seed(seed)
    inside = torch.zeros(frames, 1, h, w)
    for t in range(frames):
        inside[t, :, 3:8, 2 + t : 8 + t] = 1
    embedding = torch.cat((2 * inside, 0 * inside, 0 * inside), 1)
    embedding = embedding + torch.randn(embedding.shape, generator=g)
    objectness = 0.1 + 0.6 * inside[:, 0] + 0.3 * torch.rand(frames, h, w, generator=g)
    flow = torch.cat((2 * inside, 0 * inside), 1) + 0.1 * torch.randn(frames, 2, h, w, generator=g)
    return Features(embedding, objectness, flow)


def changed(result: Segmentation, **sets: Tensor) -> Segmentation:
    return result._replace(**sets)


@pytest.mark.parametrize("every", [1, 2, None])
@pytest.mark.parametrize("rule", ["paper", "robust"])
def test_the_deciding_seed_is_the_nearest(rule: str, every: int | None) -> None:
    features = scene()
    config = Config(rule=rule, adapt_every=every, adjacent_sets=0, **SMALL)
    result = segment(*features, config=config)
    why = explain(result, features, config=config)
    for t in range(5):
        source = 0 if every is None else t - t % every
        assert why.frame[t] == source
        e, seeds = features.embedding[t].flatten(1).mT.double(), result.seeds.embedding[source].double()
        distance = torch.cdist(e, seeds)
        sides = [
            distance.masked_fill(~members[source], torch.inf).min(1)
            for members in (result.foreground, result.background)
        ]
        near = torch.minimum(sides[0].values, sides[1].values)
        expected = torch.where(sides[0].values < sides[1].values, sides[0].indices, sides[1].indices)
        assert torch.equal(why.seed[t].flatten(), expected)
        far = torch.maximum(sides[0].values, sides[1].values)
        torch.testing.assert_close(why.margin[t].flatten().double(), (far - near) / (far + near), atol=1e-5, rtol=1e-4)
        decided = result.foreground[source][why.seed[t]]
        assert torch.equal(decided, result.mask[t])  # the seed that is named explains the mask


def test_margin_where_a_set_is_empty() -> None:
    features = scene(2)
    config = Config(rule="paper", **SMALL)
    result = segment(*features, config=config)
    nothing = torch.zeros_like(result.foreground)
    alone = explain(result._replace(foreground=nothing), features, config=config)
    assert (alone.margin == 1).all()
    assert (alone.seed >= 0).all()
    none = explain(result._replace(foreground=nothing, background=nothing), features, config=config)
    assert (none.margin == 0).all()
    assert (none.seed == -1).all()
    assert (none.reason[:, 0] != Reason.QUIET).all()


def test_reasons_of_the_paper() -> None:
    features = scene()
    config = Config(rule="paper", background_objectness=0.3, background_saliency=0.01, **SMALL)
    result = segment(*features, config=config)
    why = explain(result, features, config=config)
    share = F.region_mean(result.initial_foreground[:, None].float(), result.forest.label, 12)[..., 0]
    seen = set()
    for t in range(5):
        for k in range(12):
            reason = Reason(int(why.reason[t, k]))
            seen.add(reason)
            o, m = result.seeds.objectness[t, k], result.saliency[t, k]
            if result.foreground[t, k]:
                first = k == result.foreground_seed[t]
                assert reason == (Reason.TRACK if first else Reason.COVERED)
                assert first or share[t, k] > 0.5
            elif result.background[t, k]:
                assert reason == (Reason.LOW_OBJECTNESS if o < 0.3 else Reason.LOW_SALIENCY)
                assert o < 0.3 or m < 0.01
            else:
                assert reason == Reason.NONE
            torch.testing.assert_close(why.score[t, k], o * m)
    assert {Reason.TRACK, Reason.COVERED, Reason.LOW_OBJECTNESS, Reason.LOW_SALIENCY} <= seen
    strict = Config(rule="paper", background_objectness=0.0, background_saliency=0.0, **SMALL)
    fallback = explain(segment(*features, config=strict), features, config=strict)
    assert (fallback.reason == Reason.INITIAL).any()
    assert not (fallback.reason == Reason.EDITED).any()


def test_reasons_of_the_vote() -> None:
    features = scene()
    config = Config(confident_share=0.8, **SMALL)
    result = segment(*features, config=config)
    why = explain(result, features, config=config)
    assert torch.equal(why.score > config.vote_threshold, result.foreground)
    for reason, side in ((Reason.CONFIDENT, 1), (Reason.VOTED, 1), (Reason.OUTVOTED, 0), (Reason.QUIET, 0)):
        members = why.reason == reason
        assert (result.foreground[members] == bool(side)).all()
    confident = (why.reason == Reason.CONFIDENT) | (why.reason == Reason.OUTVOTED)
    objectness = F.region_mean(features.objectness[:, None], result.forest.label, 12)[..., 0]
    score = (result.saliency * objectness).sqrt()
    smooth = F.smooth_seed_labels(result.seeds.embedding, score, result.seeds.valid, neighbors=6)
    frame = smooth.amax(1, keepdim=True)
    assert torch.equal(confident, smooth > 0.8 * torch.maximum(frame, 0.5 * frame.amax()))
    assert len(why.reason.unique()) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["paper", "robust"])
def test_reasons_of_a_stream_are_those_of_its_window(rule: str) -> None:
    frames = render_clip("two", num_frames=9, height=64, width=96).frames
    config = Config(rule=rule, num_seeds=40, window=3, smoothing_share=0.05)
    segmenter = gpuvos.StreamingSegmenter(AppearanceFeatures(), config, history=6, latency=2)
    seen = set()
    for result in segmenter.stream(frames):
        assert segmenter.last_features is not None
        why = explain(result, segmenter.last_features, config=config)
        foreground = (why.reason == Reason.CONFIDENT) | (why.reason == Reason.VOTED)
        if rule == "paper":
            foreground = (why.reason == Reason.TRACK) | (why.reason == Reason.COVERED)
        assert torch.equal(foreground, result.foreground)
        assert not (why.reason == Reason.EDITED).any()
        decided = result.foreground.gather(1, why.seed.flatten(1)).view_as(why.seed)
        clear = why.margin > 0.01
        small = interpolate(result.probability[None], size=decided.shape[1:], mode="area")[0] > 0.5
        assert (decided == small)[clear].float().mean() > 0.95  # probability is of the image's size
        seen |= set(why.reason.unique().tolist())
    assert len(seen) >= 3


def test_the_best_track_through_a_seed() -> None:
    features = scene()
    config = Config(rule="paper", **SMALL)
    result = segment(*features, config=config)
    why = explain(result, features, config=config)
    for t in range(5):
        for k in range(12):
            through = [n for n in range(12) if result.tracks[t, n] == k]
            best = max(through, key=lambda n: (float(result.track_score[n]), -n)) if through else -1
            assert why.track[t, k] == best
    assert (why.track == -1).any()


def test_flags_of_frames_by_hand() -> None:
    features = scene()
    config = Config(**SMALL)
    result = segment(*features, config=config)
    chosen = result.foreground.clone()
    chosen[0], chosen[3:] = False, False
    chosen[1:3, 0] = True
    saliency = result.saliency.clone()
    saliency[2] = 0
    tracks = torch.arange(12).expand(5, 12).clone()
    tracks[4] = 0  # all have met
    score = torch.linspace(1, 0, 12)
    score[1] = 0.96
    first = torch.zeros(5, dtype=torch.int64)
    result = result._replace(
        foreground=chosen, saliency=saliency, tracks=tracks, track_score=score, foreground_seed=first
    )
    why = explain(result, features, config=config)
    assert why.still.tolist() == [False, False, True, False, False]
    assert why.empty.tolist() == [True, False, False, True, True]
    assert why.occluded.tolist() == [False, False, False, True, True]
    assert why.tie.tolist() == [True, True, True, True, False]
    assert not explain(result, features, config=config, tie=0.03).tie.any()


def test_a_still_clip_says_so() -> None:
    e, o, flow = scene()
    config = Config(**SMALL)
    why = explain(segment(e, o, 0 * flow, config=config), Features(e, o, 0 * flow), config=config)
    assert why.still.all()
    assert why.empty.all()
    assert not why.tie.any()


@pytest.mark.parametrize("every", [1, 2, None])
def test_relabel_computes_what_depends_on_the_seed_and_no_more(
    every: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = scene()
    config = Config(rule="paper", adapt_every=every, temperature=2.0, **SMALL)
    result = segment(*features, config=config, size=(24, 30))
    first = int(result.foreground_seed[2])
    other = int((~result.foreground[2]).int().argmax())
    calls: list[int] = []
    original = F.foreground_probability

    def counted(embedding: Tensor, *rest: Tensor, **options: float) -> Tensor:
        calls.append(embedding.shape[:-3].numel())
        return original(embedding, *rest, **options)

    monkeypatch.setattr(F, "foreground_probability", counted)
    edited = relabel(
        result,
        features.embedding,
        foreground=[(2, other)],
        background=[(2, first)],
        neither=[(3, 0)],
        config=config,
    )
    affected = {1: [2, 3], 2: [2, 3], None: []}[every]  # frame 3 has no sets of its own where every is 2
    assert sum(calls) == len(affected)
    assert edited.foreground[2, other]
    assert not edited.background[2, other]
    assert edited.background[2, first]
    assert not edited.foreground[2, first]
    assert not (edited.foreground | edited.background)[3, 0]
    assert (edited.foreground != result.foreground).sum() <= 3
    for t in range(5):
        same = torch.equal(edited.probability[t], result.probability[t])
        assert same == (t not in affected or (every == 1 and t == 3 and same))
        source = 0 if every is None else t - t % every
        p = original(
            features.embedding[t],
            result.seeds.embedding[source],
            edited.foreground[source],
            edited.background[source],
            temperature=2.0,
        )
        p = torch.nn.functional.interpolate(p[None, None], size=(24, 30), mode="bilinear")[0, 0]
        torch.testing.assert_close(edited.probability[t], p)
    assert torch.equal(edited.mask, edited.probability > 0.5)
    assert explain(edited, features, config=config).reason[2, first] == Reason.EDITED
    assert torch.equal(relabel(result, features.embedding, config=config).probability, result.probability)


def test_relabel_reaches_the_frames_that_a_seed_serves() -> None:
    features = scene()
    config = Config(adjacent_sets=1, **SMALL)
    result = segment(*features, config=config)
    chosen = int(result.foreground[1].int().argmax())
    edited = relabel(result, features.embedding, background=[(1, chosen)])
    assert (edited.probability != result.probability).flatten(1).any(1).tolist() == [True, True, True, False, False]
    rows = ([0, 1, 2, 3, 4], [0, 0, 1, 2, 3], [1, 2, 3, 4, 4])
    sets = (result.seeds.embedding, edited.foreground, edited.background)
    found = [F.foreground_probability(features.embedding, *(value[row] for value in sets)) for row in rows]
    torch.testing.assert_close(edited.probability, torch.stack(found).logit(1e-6).mean(0).sigmoid())


def test_relabel_of_a_vote_is_an_edit() -> None:
    features = scene()
    config = Config(**SMALL)
    result = segment(*features, config=config)
    chosen = int(result.foreground[1].int().argmax())
    edited = relabel(result, features.embedding, background=[(1, chosen)], config=config)
    reasons = explain(edited, features, config=config).reason
    assert (reasons == Reason.EDITED).nonzero().tolist() == [[1, chosen]]


def test_seeds_at_by_hand() -> None:
    features = scene()
    result = segment(*features, config=Config(**SMALL), size=(48, 64))
    points = torch.tensor([[0.0, 0.0], [63.0, 47.0], [3.6, 0.0], [-0.5, 4.0]])
    label = result.forest.label[1]
    expected = [label[0, 0], label[11, 15], label[0, 1], label[1, 0]]
    assert seeds_at(result, points, frame=1).tolist() == [int(value) for value in expected]


def test_bad_input() -> None:
    features = scene()
    config = Config(**SMALL)
    result = segment(*features, config=config)
    several = segment(*(v[None] for v in features), config=config)
    for call in (lambda r: explain(r, features), lambda r: relabel(r, features.embedding)):
        with pytest.raises(InputError, match="result: got Segmentation, wanted a Segmentation of one video"):
            call(several)
    with pytest.raises(InputError, match=r"features\.embedding: got shape"):
        explain(result, scene(4), config=config)
    with pytest.raises(InputError, match="features: got Tensor"):
        explain(result, features.embedding)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="embedding: got shape"):
        relabel(result, features.embedding[:4], config=config)
    for pairs in ([(5, 0)], [(0, 12)], [(-1, 0)]):
        with pytest.raises(InputError, match=r"foreground: got .* (a valid seed|whole numbers)"):
            relabel(result, features.embedding, foreground=pairs)
    with pytest.raises(InputError, match="background: got frame 0, seed 1 a second time"):
        relabel(result, features.embedding, foreground=[(0, 1)], background=[(0, 1)])
    with pytest.raises(InputError, match=r"points: got .* inside of an image of 16 x 12"):
        seeds_at(result, torch.tensor([[16.0, 3.0]]))
    with pytest.raises(InputError, match="frame: got 5"):
        seeds_at(result, torch.zeros(1, 2), frame=5)
    assert gpuvos.explain is explain
