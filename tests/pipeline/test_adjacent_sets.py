"""The probability of a frame under the seed sets of its neighbours as well (``Config.adjacent_sets``)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gpuvos import Config, Features, Segmentation, segment
from gpuvos import functional as F
from gpuvos.pipeline.steps import probability_under
from gpuvos.pipeline.stream import StreamingSegmenter
from gpuvos.types import SeedSets

SMALL = {"num_seeds": 12, "num_background": 4, "window": 3, "smoothing_neighbors": 6}
RULES = ["paper", "robust"]


def noisy_features(frames: int) -> Features:
    """A block in the middle stands out, and every frame has noise of its own."""
    generator = torch.Generator().manual_seed(frames)
    inside = torch.zeros(frames, 1, 12, 16)
    inside[..., 3:8, 4:11] = 1
    embedding = torch.cat((3 * inside, 0 * inside), 1) + torch.randn(frames, 2, 12, 16, generator=generator)
    objectness = 0.1 + 0.8 * inside[:, 0]
    return Features(embedding, objectness, torch.cat((2 * inside, 0 * inside), 1))


def under(sets: Segmentation, embedding: Tensor, row: list[int]) -> Tensor:
    """Eq. 15 of every frame under the seed sets of the frame that the row has for it."""
    return F.foreground_probability(embedding, sets.seeds.embedding[row], sets.foreground[row], sets.background[row])


def test_the_sets_of_two_frames_by_hand() -> None:
    """Two pixels at 0 and 3, in two frames. The foreground seed of frame 0 is at 0, its background seed at 3; the
    foreground seed of frame 1 is at 3, its background seed at 1.

    P of a pixel at x: sigmoid(softplus((x - background)^2) - softplus((x - foreground)^2)).
    """
    embedding = torch.tensor([[0.0, 3.0], [0.0, 3.0]]).view(1, 2, 1, 1, 2)
    seeds = torch.tensor([[0.0, 3.0], [1.0, 3.0]]).view(1, 2, 2, 1)
    foreground = torch.tensor([[True, False], [False, True]])[None]
    config = Config(adjacent_sets=1)
    sources = config.source_frames(torch.arange(2), 1)
    found = probability_under(embedding, SeedSets(seeds, foreground, ~foreground), config, sources)
    # under frame 0's at 0: sigmoid(9.000123 - 0.693147) = 0.999753; at 3: sigmoid(0.693147 - 9.000123) = 0.000247
    # under frame 1's at 0: sigmoid(1.313262 - 9.000123) = 0.000459; at 3: sigmoid(4.018150 - 0.693147) = 0.965278
    # each frame has its own sets, and of the frames before and after it the other's, or its own where there is none:
    # in frame 0 at 0 sigmoid((2 * 8.306976 - 7.686862) / 3) = 0.951464, at 3 sigmoid((3.325003 - 2 * 8.306976) / 3)
    expected = torch.tensor([[0.951464, 0.011778], [0.086623, 0.365325]])
    torch.testing.assert_close(found.view(2, 2), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rule", RULES)
def test_the_sets_of_frames_before_and_after(rule: str) -> None:
    features = noisy_features(5)
    config = Config(rule=rule, adjacent_sets=2, **SMALL)
    result = segment(*features, config=config)
    rows = ([0, 1, 2, 3, 4], [0, 0, 1, 2, 3], [1, 2, 3, 4, 4], [0, 0, 0, 1, 2], [2, 3, 4, 4, 4])
    each = [under(result, features.embedding, row) for row in rows]
    torch.testing.assert_close(result.probability, torch.stack(each).logit(1e-6).mean(0).sigmoid())
    assert not torch.allclose(result.probability, each[0], atol=0.01)


@pytest.mark.parametrize("rule", RULES)
def test_the_sets_of_a_first_mask_serve_all_alike(rule: str) -> None:
    features, mask = noisy_features(4), torch.zeros(12, 16, dtype=torch.bool)
    mask[3:8, 4:11] = True
    found = [
        segment(*features, config=Config(rule=rule, adjacent_sets=count, **SMALL), first_mask=mask).probability
        for count in (0, 2)
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_of_videos_of_several_lengths(rule: str) -> None:
    """The last frame of a video stands for those after it, not what fills the batch."""
    short, long = noisy_features(3), noisy_features(5)
    config = Config(rule=rule, adjacent_sets=2, **SMALL)
    filled = [torch.cat((value, torch.ones(2, *value.shape[1:]))) for value in short]
    batch = segment(
        *(torch.stack(pair) for pair in zip(filled, long, strict=True)), config=config, lengths=torch.tensor([3, 5])
    )
    assert torch.equal(batch.probability[0, :3], segment(*short, config=config).probability)
    assert torch.equal(batch.probability[1], segment(*long, config=config).probability)


class Recorded(nn.Module):
    """A front end that gives features by the number that a frame is filled with."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features

    def forward(self, frames: Tensor) -> Features:
        number = frames[:, 0, 0, 0].long()
        return Features(*(value[number] for value in self.features))


def streamed(features: Features, config: Config, *, history: int | None, latency: int | None) -> list[Segmentation]:
    count, _, h, w = features.embedding.shape
    frames = torch.arange(count)[:, None, None, None].expand(-1, 3, h, w).to(torch.uint8)
    segmenter = StreamingSegmenter(Recorded(features), config, history=history, latency=latency)
    return list(segmenter.stream(frames, validate=False))


@pytest.mark.parametrize("every", [1, 2, 3, None])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_stream_has_the_sets_of_frames_before_and_of_those_it_knows_after(count: int, every: int | None) -> None:
    """With the paper's rule and one track through the clip, what is known later changes no label here."""
    features, latency = noisy_features(9), 3
    config = Config(rule="paper", adjacent_sets=count, adapt_every=every, **SMALL)
    found = streamed(features, config, history=20, latency=latency)
    sets = [(one.seeds.embedding, one.foreground, one.background) for one in found]
    seeds, foreground, background = (torch.cat(part) for part in zip(*sets, strict=True))
    for frame, one in enumerate(found):
        # at its turn a stream knows so many frames; those that wait at the end come out together
        known = min(frame + latency - 1, 8) if frame < 9 - latency else 8
        sources = [int(row) for row in config.source_frames(torch.tensor(frame), known)]
        own = features.embedding[frame].expand(len(sources), -1, -1, -1)
        each = F.foreground_probability(own, seeds[sources], foreground[sources], background[sources])
        torch.testing.assert_close(
            one.probability[0], each.logit(1e-6).mean(0).sigmoid(), msg=lambda text, at=frame: f"frame {at}: {text}"
        )


@pytest.mark.parametrize("vote", [0.0, 0.5])
def test_a_stream_with_a_first_mask_that_waits_for_the_end_is_the_whole_clip(vote: float) -> None:
    features, mask = noisy_features(6), torch.zeros(12, 16, dtype=torch.bool)
    mask[3:8, 4:11] = True
    config = Config(mask_vote=vote, adjacent_sets=2, **SMALL)
    blank = torch.arange(6)[:, None, None, None].expand(-1, 3, 12, 16).to(torch.uint8)
    segmenter = StreamingSegmenter(Recorded(features), config, history=None, latency=None)
    found = torch.cat([one.probability for one in segmenter.stream(blank, first_mask=mask, validate=False)])
    assert torch.equal(found, segment(*features, config=config, first_mask=mask).probability)


def test_a_stream_keeps_the_sets_of_no_more_frames_than_it_needs() -> None:
    features = noisy_features(12)
    for every, most in ((1, 2), (4, 2), (None, 1)):
        config = Config(adjacent_sets=2, adapt_every=every, **SMALL)
        segmenter = StreamingSegmenter(Recorded(features), config, history=4, latency=1)
        kept = []
        for number in range(12):
            segmenter.push(torch.full((3, 12, 16), number, dtype=torch.uint8), validate=False)
            kept.append(len(segmenter._own._sets))
        assert max(kept) == most
