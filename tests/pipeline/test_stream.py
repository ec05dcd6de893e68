"""One frame in, one mask out: against the whole clip at once, and by what a stream may know."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import gpuvos
from gpuvos import (
    Config,
    Features,
    InputError,
    OutOfMemoryError,
    Segmentation,
    StreamingSegmenter,
    VideoSegmenter,
)
from gpuvos import functional as F
from gpuvos.data import render_clip
from gpuvos.features.adapters import ModuleFeatures
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.flow.clip import DenseFlow
from gpuvos.functional.voting import take_vote
from gpuvos.nn import DenseCRF

RULES = ["paper", "robust"]
SMALL = {"num_seeds": 12, "num_background": 4, "window": 3, "smoothing_neighbors": 6, "smoothing_share": 1.0}
SMALL["track_seeds"] = True  # so that tracks are compared with the robust rule as well


class Recorded(nn.Module):
    """Features that are known beforehand; the first pixel of a frame is its number."""

    def __init__(self, frames: int, seed: int = 0, h: int = 12, w: int = 16) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        inside = torch.zeros(frames, 1, h, w)
        for t in range(frames):
            inside[t, :, 3:8, 2 + t % 8 : 8 + t % 8] = 1
        self.embedding = torch.cat((2 * inside, 0 * inside, 0 * inside), 1)
        self.embedding += torch.randn(self.embedding.shape, generator=g)
        self.objectness = 0.1 + 0.6 * inside[:, 0] + 0.3 * torch.rand(frames, h, w, generator=g)
        self.flow = torch.cat((2 * inside, 0 * inside), 1) + 0.1 * torch.randn(frames, 2, h, w, generator=g)
        self.calls: list[list[int]] = []

    def frames(self) -> Tensor:
        number = torch.arange(len(self.flow), dtype=torch.uint8)
        return number[:, None, None, None].expand(-1, 3, 12, 16).contiguous()

    def forward(self, frames: Tensor) -> Features:
        number = frames[:, 0, 0, 0].tolist()
        self.calls.append(number)
        flow = self.flow[number].clone()
        if number[-1] < len(self.flow) - 1:
            flow[-1] = 99  # flow to a frame that is not there: it must not be used
        return Features(self.embedding[number], self.objectness[number], flow)


def leaves(result: Segmentation) -> Iterator[tuple[str, Tensor]]:
    for name, value in result._asdict().items():
        parts = {"": value} if isinstance(value, Tensor) else getattr(value, "_asdict", dict)()
        yield from ((f"{name} {part}", tensor) for part, tensor in parts.items())


def assert_same(one: Segmentation | None, two: Segmentation) -> None:
    assert one is not None
    for (name, a), (_, b) in zip(leaves(one), leaves(two), strict=True):
        assert torch.equal(a, b), name


def pushed(segmenter: StreamingSegmenter, frames: Tensor) -> list[Segmentation]:
    return [result for frame in frames if (result := segmenter.push(frame)) is not None]


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("distance", ["minimax", "shortest"])
@pytest.mark.parametrize("every", [1, 3, None])
def test_equals_the_whole_clip_bit_for_bit(rule: str, distance: str, every: int | None) -> None:
    front = Recorded(20)
    config = Config(rule=rule, distance=distance, adapt_every=every, **SMALL)
    whole = VideoSegmenter(front, config)(front.frames())
    assert whole.foreground.any()
    for window, latency in ((None, None), (20, 19), (99, 50)):
        segmenter = StreamingSegmenter(front, config, history=window, latency=latency)
        for _ in range(2):  # flush begins anew
            early = pushed(segmenter, front.frames())
            assert not early or latency == 19
            if not early:
                assert_same(segmenter.flush(), whole)
            segmenter.reset()


@pytest.mark.slow
def test_the_network_sees_every_frame_once(monkeypatch: pytest.MonkeyPatch) -> None:
    front = LearnedFeatures()
    seen = []
    original = front.encode
    monkeypatch.setattr(front, "encode", lambda frames: (seen.append(len(frames)), original(frames))[1])
    frames = render_clip("single", num_frames=3, height=32, width=48).frames
    segmenter = StreamingSegmenter(front, history=4, latency=1)
    assert len(list(segmenter.stream(frames))) == 3
    assert seen == [1, 1, 1]


class ClipFlow(nn.Module):
    """Flow of somebody's, which knows clips alone."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = DenseFlow()

    def forward(self, frames: Tensor, *, size: tuple[int, int]) -> Tensor:
        return self.flow(frames, size=size)


class ClipFeatures(nn.Module):
    """A front end of somebody's, which knows clips alone."""

    def __init__(self) -> None:
        super().__init__()
        self.front = AppearanceFeatures()

    def forward(self, frames: Tensor) -> Features:
        return self.front(frames)


@pytest.mark.slow
def test_equals_the_whole_clip_of_a_real_front_end() -> None:
    frames = render_clip("single", num_frames=4, height=48, width=64).frames
    net = nn.Conv2d(3, 70, 7, stride=4, padding=3)
    fronts = (AppearanceFeatures(), ModuleFeatures(net), AppearanceFeatures(flow=ClipFlow()), ClipFeatures())
    for front in (None, *fronts):
        segmenter = StreamingSegmenter(front, history=None, latency=None)
        assert pushed(segmenter, frames) == []
        assert_same(segmenter.flush(), VideoSegmenter(front)(frames))
    assert segmenter.flush() is None


@pytest.mark.sampled
@pytest.mark.parametrize("latency", [0, 1, 2, 11, 12, 30])
def test_push_returns_the_frame_of_its_latency(latency: int) -> None:
    front = Recorded(12)
    config = Config(rule="paper", **SMALL)
    whole = VideoSegmenter(front, config)(front.frames())
    segmenter = StreamingSegmenter(front, config, history=40, latency=latency)
    order = []
    for t, frame in enumerate(front.frames()):
        result = segmenter.push(frame)
        assert (result is None) == (t < latency)
        if result is not None:
            assert torch.equal(result.seeds.index[0], whole.seeds.index[t - latency])
            order.append(t - latency)
    rest = segmenter.flush()
    if latency == 0:
        assert rest is None
    else:
        assert rest is not None
        assert torch.equal(rest.seeds.index, whole.seeds.index[len(order) :])
        assert torch.equal(rest.region_flow, whole.region_flow[len(order) :])  # the last frame's own flow
    assert segmenter.flush() is None


@pytest.mark.sampled
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("window", "latency"), [(4, 1), (5, 3), (2, 1), (6, 5)])
def test_what_a_window_decides(rule: str, window: int, latency: int) -> None:
    """Each mask is that of the method on the seeds of the window alone."""
    front = Recorded(11)
    config = Config(rule=rule, adjacent_sets=0, **SMALL)
    whole = VideoSegmenter(front, config)(front.frames())
    evidence = F.region_mean(front.objectness[:, None], whole.forest.label, 12)[..., 0]
    evidence = (whole.saliency * evidence.clamp(min=0)).sqrt()
    segmenter = StreamingSegmenter(front, config, history=window, latency=latency)
    results = pushed(segmenter, front.frames())
    assert len(results) == 11 - latency
    differs = votes = False
    for number, result in enumerate(results):
        newest = number + latency - 1  # its flow is known
        span = slice(max(0, newest - window + 1), newest + 1)
        place = number - span.start
        seeds = gpuvos.Seeds(*(value[span] for value in whole.seeds))
        tracks = F.link_tracks(seeds)
        score = F.track_scores(tracks, seeds.objectness, whole.saliency[span])
        assert torch.equal(result.tracks[0], tracks[place])
        assert torch.equal(result.track_score, score)
        assert result.foreground_seed == F.best_track(tracks, score)[place]
        if rule == "robust":
            vote = take_vote(seeds.embedding, evidence[span], seeds.valid, neighbors=6, largest_share=1.0)
            assert torch.equal(result.foreground[0], (vote.share[place] > config.vote_threshold))
            assert torch.equal(result.seed_score[0], vote.share[place])
            assert torch.equal(result.confident[0], vote.confident[place])
        expected = F.foreground_probability(
            front.embedding[number], result.seeds.embedding[0], result.foreground[0], result.background[0]
        )
        assert torch.equal(result.probability[0], expected)
        differs |= not torch.equal(result.tracks[0], whole.tracks[number])
        votes |= not torch.equal(result.foreground[0], whole.foreground[number])
    assert differs  # else nothing above has been shown
    assert votes or rule == "paper"


@pytest.mark.sampled
@pytest.mark.parametrize("rule", RULES)
def test_sees_no_frame_beyond_its_latency(rule: str) -> None:
    one, two = Recorded(12, seed=0), Recorded(12, seed=1)
    for name in ("embedding", "objectness", "flow"):
        getattr(two, name)[:8] = getattr(one, name)[:8]
    config = Config(rule=rule, **SMALL)
    results = [
        list(StreamingSegmenter(front, config, history=6, latency=2).stream(front.frames())) for front in (one, two)
    ]
    for a, b in zip(results[0][:7], results[1][:7], strict=True):  # 6 + latency = 8 shows the flow of 7
        assert_same(a, b)
    assert not torch.equal(results[0][8].probability, results[1][8].probability)


@pytest.mark.parametrize("every", [1, 3, None])
def test_seed_sets_are_renewed_as_asked(every: int | None) -> None:
    front = Recorded(10)
    config = Config(rule="paper", adapt_every=every, **SMALL)
    results = list(StreamingSegmenter(front, config, history=5, latency=2).stream(front.frames()))
    for number, result in enumerate(results):
        source = results[0 if every is None else number - number % every]
        expected = F.foreground_probability(
            front.embedding[number], source.seeds.embedding[0], source.foreground[0], source.background[0]
        )
        assert torch.equal(result.probability[0], expected)


def held(segmenter: StreamingSegmenter) -> int:
    """Bytes of all that a stream remembers."""

    def count(value: object) -> int:
        if isinstance(value, Tensor):
            return value.untyped_storage().nbytes()
        return sum(count(part) for part in value) if hasattr(value, "__iter__") else 0

    state = segmenter._own
    seen, window = state._seen, state._window
    values = [getattr(state, name) for name in ("_waiting", "_first", "_first_mask")]
    values.append([[*one] for one in state._sets.values()])
    bank = (window.bank.members, window.bank.smoothed, window.bank.confident)
    return sum(map(count, (*values, window.frames, bank, seen._frames, seen._seen)))


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_memory_does_not_grow(rule: str) -> None:
    front = Recorded(60)
    segmenter = StreamingSegmenter(front, Config(rule=rule, **SMALL), history=8, latency=3)
    sizes = []
    for frame in front.frames():
        segmenter.push(frame)
        sizes.append(held(segmenter))
    assert sizes[8] > sizes[4] > 0
    assert set(sizes[20:]) == {sizes[20]}
    assert all(len(numbers) <= 2 for numbers in front.calls)


def test_stream_reads_no_further_than_it_must_and_keeps_the_order() -> None:
    front = Recorded(9)
    config = Config(rule="paper", **SMALL)
    taken = []

    def source() -> Iterator[Tensor]:
        for number, frame in enumerate(front.frames()):
            taken.append(number)
            yield frame

    segmenter = StreamingSegmenter(front, config, history=5, latency=3)
    stream = segmenter.stream(source())
    first = next(stream)
    assert taken == [0, 1, 2, 3]
    results = [first, *stream]
    whole = VideoSegmenter(front, config)(front.frames())
    assert torch.equal(torch.cat([result.seeds.index for result in results]), whole.seeds.index)
    assert all(result.mask.shape == (1, 12, 16) for result in results)
    assert list(segmenter.stream(iter(()))) == []


@pytest.mark.parametrize(("window", "latency"), [(None, None), (9, 2)])
def test_a_crf_refines_as_it_does_offline(window: int | None, latency: int | None) -> None:
    front, config = Recorded(6), Config(rule="paper", **SMALL)
    frames = torch.randint(0, 256, (6, 3, 12, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    frames[:, 0, 0, 0] = torch.arange(6)
    crf = DenseCRF(iterations=2)
    segmenter = StreamingSegmenter(front, config, refinement=crf, history=window, latency=latency)
    plain = StreamingSegmenter(front, config, history=window, latency=latency)
    found, rough = list(segmenter.stream(frames)), list(plain.stream(frames))
    probability = torch.cat([one.probability for one in rough])
    refined = crf(probability, frames)
    assert not torch.equal(refined, probability)
    refined_here = torch.cat([one.probability for one in found])
    torch.testing.assert_close(refined_here, refined, rtol=0, atol=1e-3)  # a CRF of one frame, and of all
    assert torch.equal(torch.cat([one.mask for one in found]), refined_here > 0.5)
    assert torch.equal(torch.cat([one.confidence for one in found]), (2 * refined_here - 1).abs())
    if window is None:
        assert torch.equal(refined_here, VideoSegmenter(front, config, refinement=crf)(frames).probability)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "vote"), [*((rule, 0.0) for rule in RULES), ("robust", 0.5)])
def test_a_first_mask_is_followed_as_it_is_offline(rule: str, vote: float) -> None:
    front, config = Recorded(9), Config(rule=rule, mask_vote=vote, **SMALL)
    mask = torch.zeros(12, 16, dtype=torch.bool)
    mask[3:8, 2:8] = True
    whole = VideoSegmenter(front, config)(front.frames(), first_mask=mask)
    assert 0 < whole.mask.float().mean() < 0.5
    for window, latency in ((None, None), (4, 2), (3, 0)):
        segmenter = StreamingSegmenter(front, config, history=window, latency=latency)
        found = list(segmenter.stream(front.frames(), first_mask=mask))
        if vote and window is not None:  # who votes depends on the window
            assert all((one.foreground ^ one.background).equal(one.seeds.valid) for one in found)
            continue
        for name in ("mask", "probability", "foreground", "background"):
            assert torch.equal(torch.cat([getattr(one, name) for one in found]), getattr(whole, name)), name
        assert_same(list(segmenter.stream(front.frames()))[3], list(segmenter.stream(front.frames()))[3])
        segmenter.push(front.frames()[0], first_mask=mask)
        with pytest.raises(InputError, match="first_mask: got a mask of a later frame"):
            segmenter.push(front.frames()[1], first_mask=mask)
        with pytest.raises(InputError, match="first_mask: got shape"):
            StreamingSegmenter(front).push(front.frames()[0], first_mask=mask[:0])


@pytest.mark.parametrize("latency", [0, 2])
def test_features_of_what_came_out_last(latency: int) -> None:
    front = Recorded(5)
    segmenter = StreamingSegmenter(front, Config(**SMALL), history=4, latency=latency)
    seen = []
    for _ in segmenter.stream(front.frames()):
        assert segmenter.last_features is not None
        seen.append(segmenter.last_features)
    for name in ("embedding", "objectness"):
        assert torch.equal(torch.cat([getattr(one, name) for one in seen]), getattr(front, name))
    if latency:
        assert torch.equal(torch.cat([one.flow for one in seen]), front.flow)


def test_a_frame_alone() -> None:
    frame = render_clip("single", num_frames=1, height=48, width=64).frames
    front = AppearanceFeatures()
    for latency in (0, 1, None):
        segmenter = StreamingSegmenter(front, history=None, latency=latency)
        assert_same(segmenter.push(frame[0]) or segmenter.flush(), VideoSegmenter(front)(frame))


def test_out_of_memory_is_said_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    front = Recorded(6)
    segmenter = StreamingSegmenter(front, Config(**SMALL), history=4, latency=2)
    expected = list(segmenter.stream(front.frames()))

    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(F, "foreground_probability", exhausted)
    with pytest.raises(OutOfMemoryError, match=r"^frame: got more than fits into memory"):
        list(segmenter.stream(front.frames()))
    monkeypatch.undo()
    for a, b in zip(segmenter.stream(front.frames()), expected, strict=True):  # begins anew
        assert_same(a, b)


def test_bad_input_changes_nothing() -> None:
    front = Recorded(6)
    config = Config(**SMALL)
    frames = front.frames()
    good = list(StreamingSegmenter(front, config, history=4, latency=2).stream(frames))
    segmenter = StreamingSegmenter(front, config, history=4, latency=2)
    results = []
    for frame in frames:
        result = segmenter.push(frame)
        results += [] if result is None else [result]
        with pytest.raises(InputError, match=r"frame: got shape \(3, 5, 6\).*reset\(\)"):
            segmenter.push(frame[:, :5, :6])
        with pytest.raises(InputError, match=r"frame: got .*float32, cpu, wanted .*uint8"):
            segmenter.push(frame.float() / 255)
        with pytest.raises(InputError, match="frame: got shape"):
            segmenter.push(frame[None])
    for a, b in zip(results, good, strict=False):
        assert_same(a, b)
    segmenter.reset()
    floats = StreamingSegmenter(front, config)
    with pytest.raises(InputError, match="frame: got values"):
        floats.push(frames[0].float() + 2)
    with pytest.raises(InputError, match="frame: got shape"):
        floats.push(frames[0, :, :0])
    assert floats.flush() is None
    for window, latency in ((3, 3), (2, 5), (4, None)):
        with pytest.raises(InputError, match=r"history: got .* more frames than the latency"):
            StreamingSegmenter(front, history=window, latency=latency)
    with pytest.raises(InputError, match="latency"):
        StreamingSegmenter(front, latency=-1)
    with pytest.raises(InputError, match="config"):
        StreamingSegmenter(front, 3)  # type: ignore[arg-type]
    assert segmenter.config == config
