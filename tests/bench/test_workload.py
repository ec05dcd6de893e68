"""Sizes, inputs and stages of the benchmark."""

from __future__ import annotations

import pytest
import torch

from gpuvos import InputError
from gpuvos import functional as F
from gpuvos.bench.stages import STAGES, aim, chosen_stages, output_tensors
from gpuvos.bench.workload import Inputs, Workload

TINY = Workload(height=48, width=64, frames=2, channels=4, seeds=5, robust_seeds=6)


def test_the_same_workload_makes_the_same_inputs() -> None:
    first, second = Inputs(TINY), Inputs(TINY)
    assert first.features.embedding.shape == (2, 4, 12, 16)
    assert all(map(torch.equal, first.features, second.features))
    assert torch.equal(first.forest.label, second.forest.label)


def test_half_precision_reaches_the_features() -> None:
    inputs = Inputs(TINY._replace(dtype="bfloat16"))
    assert {value.dtype for value in inputs.features} == {torch.bfloat16}
    assert inputs.robust_seeds.index.shape == (2, 6)


@pytest.mark.parametrize(("field", "value"), [("frames", 0), ("seeds", -1), ("dtype", "int8"), ("stride", 48)])
def test_a_workload_that_cannot_be_is_refused(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        Inputs(TINY._replace(**{field: value}))


def test_words_choose_stages_in_their_order() -> None:
    assert [stage.name for stage in chosen_stages(["FOREST", "seeds"])] == [
        "seeds",
        "minimax forest",
        "shortest forest",
    ]
    assert chosen_stages(None) == list(STAGES)
    with pytest.raises(InputError, match="--stages: got 'wood'"):
        chosen_stages(["seeds", "wood"])


def test_bytes_that_must_move_by_hand() -> None:
    # 480 x 854 at stride 1 in bfloat16, D = 64: the kernels' own numbers for one frame
    inputs = Inputs(Workload(stride=1, frames=1, dtype="bfloat16"))
    counts = {stage.name: stage for stage in STAGES}

    def megabytes(name: str, kind: str) -> float:
        count = getattr(counts[name], kind)
        return round(count(inputs) / 1e6, 1)

    pixels = 480 * 854
    assert megabytes("edge weights, edge map, candidates", "must") == round(pixels * (128 + 9) / 1e6, 1) == 56.2
    assert megabytes("minimax forest", "must") == 8.2
    assert megabytes("minimax forest", "moved") == 24.6
    assert megabytes("shortest forest", "must") == 9.8
    assert megabytes("probability", "must") == 54.1
    assert megabytes("probability", "moved") == 57.4
    initial = counts["initial foreground (Eq. 11)"]
    assert initial.must is not None
    assert initial.moved is not None
    assert initial.must(inputs) == 13 * pixels + 4 * 100**2 + 100  # with the distances between 100 seeds
    assert initial.moved(inputs) == initial.must(inputs) + 8 * 100
    assert "features" not in vars(inputs)  # no input was made for it


def test_bytes_of_seeds_follow_the_candidates() -> None:
    inputs = Inputs(TINY)
    inputs.__dict__["candidates"] = torch.ones(2, 12, 16, dtype=torch.bool)
    seeds = next(stage for stage in STAGES if stage.name == "seeds")
    assert seeds.must is not None
    assert seeds.must(inputs) == 12 * 16 + 12 * 16 * (4 * 4 + 4)


def test_aims_hold_for_their_workload_alone() -> None:
    assert aim("minimax forest", Workload(stride=1)) == pytest.approx(3 / 80)
    assert aim("minimax forest", Workload(stride=4)) == pytest.approx(0.1 / 80)
    assert aim("minimax forest", Workload(stride=4, channels=32)) is None
    assert aim("tracks", Workload()) is None


def test_a_stage_runs_what_it_says() -> None:
    inputs = Inputs(TINY)
    forest = next(stage for stage in STAGES if stage.name == "minimax forest").run(inputs)
    wanted = F.minimax_forest(inputs.weights, inputs.seeds.index, inputs.seeds.valid)
    assert all(map(torch.equal, output_tensors(forest), wanted))
    assert len(output_tensors((wanted, (wanted.label, "word", None)))) == 4
