"""Several objects out of one foreground: by hand on rows of regions, and on rendered clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import gpuvos
from gpuvos import Forest, InputError, Seeds, Segmentation
from gpuvos.data import render_clip
from gpuvos.interactive.instances import _groups, instances
from gpuvos.types import map_tensors

pytestmark = pytest.mark.usefixtures("small_saliency")


def row(foreground: list[list[int]], embedding: list[list[float]], saliency: list[list[float]]) -> Segmentation:
    """A video of 1 x K pixels, each a region of its own; the mask is the foreground."""
    chosen, e = torch.tensor(foreground, dtype=torch.bool), torch.tensor(embedding)[..., None]
    t, k = chosen.shape
    label = torch.arange(k).expand(t, 1, k)
    seeds = Seeds(label[:, 0], torch.ones_like(chosen), e, torch.ones(t, k))
    forest = Forest(label, torch.zeros(t, 1, k), (e - e.mT).abs())
    p = chosen[:, None].float()
    return Segmentation(
        mask=chosen[:, None],
        probability=p,
        confidence=p,
        seeds=seeds,
        forest=forest,
        foreground=chosen,
        background=~chosen,
        region_flow=torch.zeros(t, k, 2),
        saliency=torch.tensor(saliency),
        seed_score=torch.zeros(t, k),
        confident=torch.zeros_like(chosen),
    )


def masks(found: gpuvos.Instances) -> list[list[list[int]]]:
    return found.mask[:, :, 0].int().tolist()


TWO = row(
    [[1, 1, 0, 1, 0]] * 2,
    [[0.0, 1.0, 5.0, 10.0, 15.0], [1.0, 2.0, 6.0, 11.0, 16.0]],
    [[0.5, 0.5, 1.0, 0.5, 1.0]] * 2,
)


def test_two_objects_by_hand() -> None:
    found = instances(TWO, num_instances=3)
    assert masks(found) == [[[1, 1, 0, 0, 0]] * 2, [[0, 0, 0, 1, 0]] * 2, [[0, 0, 0, 0, 0]] * 2]
    torch.testing.assert_close(found.score, torch.tensor([2 / 3, 1 / 3, -torch.inf]))  # 4 and 2 of 6 halves
    assert found.present.tolist() == [[True, True], [True, True], [False, False]]
    assert found.seed.tolist() == [[0, 0, -1, 1, -1]] * 2


def test_the_best_alone_leaves_out_the_other_object_but_not_its_pieces() -> None:
    assert masks(instances(TWO, num_instances=1)) == [[[1, 1, 0, 0, 0]] * 2]
    joined = instances(TWO, num_instances=1, min_share=0.5)  # a third is a piece
    assert masks(joined) == [[[1, 1, 0, 1, 0]] * 2]
    assert masks(instances(TWO, num_instances=2, min_share=0.5))[1] == [[0] * 5] * 2


def test_objects_come_and_go() -> None:
    e = [0.0, 1.0, 5.0, 10.0, 15.0]
    chosen = [[1, 1, 0, 0, 0], [1, 1, 0, 1, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    result = row(chosen, [e] * 5, [[1.0] * 5] * 5)
    found = instances(result, num_instances=4, min_share=0.01)
    assert found.present.tolist() == [
        [True, True, False, False, False],
        [False, True, True, False, False],
        [False, False, False, False, True],
        [False] * 5,
    ]
    torch.testing.assert_close(found.score[:3], torch.tensor([4 / 8, 3 / 8, 1 / 8]))
    assert torch.equal(found.mask.any(0), result.mask)


def test_objects_that_touch_for_a_while_keep_their_tracks() -> None:
    apart, together = [1, 0, 1, 0], [1, 1, 1, 0]
    e = [[0.0, 3.0, 9.0, 20.0], [0.0, 0.5, 9.0, 20.0], [0.0, 3.0, 9.0, 20.0]]
    found = instances(row([apart, together, apart], e, [[1.0, 1.0, 0.5, 1.0]] * 3), num_instances=2)
    assert masks(found) == [
        [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]],
        [[0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 1, 0]],
    ]


def test_what_comes_out_from_behind_something_first_is_no_object_of_its_own() -> None:
    """Seeds 1 and 3 come out on both sides of a pole in frame 1; from frame 2 on they are one, as in frame 0."""
    chosen = [[0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0]]
    e = [[50.0, 40.0, 0.0, 30.0, 60.0], [50.0, 9.0, 20.0, 1.0, 60.0], *[[50.0, 9.0, 5.0, 1.0, 60.0]] * 2]
    result = row(chosen, e, [[1.0] * 5] * 4)
    found = instances(result, num_instances=2, min_share=0.1)
    assert torch.equal(found.mask[0], result.mask)
    torch.testing.assert_close(found.score, torch.tensor([1.0, -torch.inf]))
    # two frames together and two apart is not more than half
    apart = instances(row([*chosen, [0, 1, 0, 1, 0]], [*e, e[1]], [[1.0] * 5] * 5), num_instances=2)
    assert apart.present.tolist() == [[False] + [True] * 4, [True] * 5]


def test_a_piece_joins_the_most_similar_seed_or_the_mean_of_an_object() -> None:
    # frame 0: the piece at 3 is nearer to the object at 4 than to that at 0; frame 1 has the piece alone
    result = row(
        [[1, 0, 1, 0, 1], [0, 0, 1, 0, 0]],
        [[0.0, 50.0, 3.0, 51.0, 4.0], [70.0, 71.0, 3.0, 72.0, 73.0]],
        [[1.0, 0.0, 0.01, 0.0, 0.9], [0.0, 0.0, 0.01, 0.0, 0.0]],
    )
    found = instances(result, num_instances=2)
    assert masks(found) == [[[1, 0, 0, 0, 0], [0] * 5], [[0, 0, 1, 0, 1], [0, 0, 1, 0, 0]]]


def test_pixels_of_background_regions_go_to_the_nearest_object() -> None:
    result = TWO._replace(mask=torch.ones_like(TWO.mask))
    found = instances(result, num_instances=2)
    assert masks(found)[0] == [[1, 1, 1, 0, 0]] * 2  # 5 is as near to 1 as 4, 15 nearest to 10
    large = TWO._replace(mask=torch.ones(2, 3, 10, dtype=torch.bool))
    assert instances(large, num_instances=2).mask[0, 0, 2].int().tolist() == [1] * 6 + [0] * 4


def test_groups_against_scipy(generator: torch.Generator) -> None:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    k = 9
    label = torch.randint(-1, k, (20, 5, 6), generator=generator)
    foreground = torch.rand(20, k, generator=generator) < 0.6
    found = _groups(label, foreground)
    for t in range(20):
        grid = label[t].numpy()
        pairs = np.concatenate(
            [np.stack((a.ravel(), b.ravel()), 1) for a, b in ((grid[:, 1:], grid[:, :-1]), (grid[1:], grid[:-1]))]
        )
        there = foreground[t].numpy()
        pairs = pairs[(pairs >= 0).all(1)]
        pairs = pairs[there[pairs].all(1)]
        graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(k, k))
        component = connected_components(graph, directed=False)[1]
        for s in np.flatnonzero(there):
            assert found[t, s] == np.flatnonzero((component == component[s]) & there)[0]


@pytest.mark.slow
def test_rendered_objects() -> None:
    clip = render_clip("two", num_frames=3, height=96, width=160)
    result = gpuvos.VideoSegmenter()(clip.frames)
    found = gpuvos.instances(result, num_instances=3)
    assert torch.equal(found.mask.any(0), result.mask)
    assert found.mask.sum(0).max() == 1
    overlap: list[Tensor] = []
    for number in (1, 2):
        truth = clip.instances == number
        overlap.append(torch.stack([gpuvos.metrics.region_similarity(m, truth).mean() for m in found.mask]))
    assert {int(value.argmax()) for value in overlap} == {0, 1}
    assert min(float(value.max()) for value in overlap) > 0.6


@pytest.mark.slow
def test_one_object_is_the_whole_mask() -> None:
    clip = render_clip("single", num_frames=4, height=96, width=160)
    result = gpuvos.VideoSegmenter()(clip.frames)
    found = instances(result, num_instances=1)
    assert result.mask.any()
    assert torch.equal(found.mask[0], result.mask)
    assert found.score[0] > 0.9
    assert found.present.all()


def test_nothing_and_bad_input() -> None:
    empty = instances(row([[0, 0]] * 2, [[0.0, 1.0]] * 2, [[0.0, 0.0]] * 2), num_instances=2)
    assert not empty.mask.any()
    assert empty.score.tolist() == [-torch.inf] * 2
    still = instances(row([[1, 0]] * 2, [[0.0, 1.0]] * 2, [[0.0, 0.0]] * 2), num_instances=9)
    assert masks(still)[0] == [[1, 0]] * 2
    assert still.mask.shape[0] == 9
    with pytest.raises(InputError, match="num_instances"):
        instances(TWO, num_instances=0)
    with pytest.raises(InputError, match="min_share"):
        instances(TWO, min_share=2)
    several = map_tensors(lambda value: value[None], TWO)
    for wrong in (several, 3):
        with pytest.raises(InputError, match=r"result: got .* a Segmentation of one video"):
            instances(wrong)  # type: ignore[arg-type]
