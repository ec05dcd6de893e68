"""The loop: it learns, it stops and goes on without a difference."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from gpuvos.errors import InputError
from gpuvos.training.augment import Batch, to_grid
from gpuvos.training.config import TrainingConfig
from gpuvos.training.loop import _Run, learning_rate_factor, parameter_groups, train
from gpuvos.training.objective import losses, measure_temperature, set_mode
from gpuvos.training.sampler import BatchSampler
from gpuvos.training.synthetic import RenderedStills

SMALL = {"batch_size": 2, "size": 48, "num_samples": 64, "held_out": 4, "log_every": 1}


@pytest.fixture(scope="module")
def stills() -> RenderedStills:
    return RenderedStills(3, height=48, width=64)


def same_state(ours: nn.Module, theirs: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


@pytest.mark.slow
def test_a_tiny_network_learns_one_batch_by_heart(tiny: nn.Module, stills: RenderedStills) -> None:
    sampler = BatchSampler(stills, batch_size=4, size=64, paste_share=0, rest=True)
    batch = sampler.draw(sampler.generator(0))
    config = TrainingConfig(num_samples=128, keep="none")
    optimizer = torch.optim.AdamW(tiny.parameters(), 1e-2)
    set_mode(tiny, False)
    tiny.decoder[-1].eval()  # no dropout
    history = []
    for _ in range(50):
        output = tiny(batch.image)
        generator = torch.Generator().manual_seed(0)
        terms = losses(output, to_grid(batch, 16, 16), None, config, 1.0, generator)
        optimizer.zero_grad()
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in terms.items()})
    assert history[-1]["loss"] < history[0]["loss"] / 2
    for name in ("pair", "class", "object"):
        assert history[-1][name] < 0.8 * history[0][name]


@pytest.mark.slow
@pytest.mark.parametrize("distil", [False, True])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    distil: bool,
    make_tiny: Callable[[], nn.Module],
    stills: RenderedStills,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole_step = _Run.step

    def interrupted_step(run: _Run, batch: Batch, fraction: float) -> dict[str, float] | None:
        logged = whole_step(run, batch, fraction)
        if run.state.step == 4:  # one after the last checkpoint, so that one step is done again
            raise KeyboardInterrupt
        return logged

    networks = []
    for name in ("through", "stopped"):
        networks.append(make_tiny())
        config = TrainingConfig(steps=6, save_every=3, evaluate_every=2, **SMALL)
        if name == "stopped":
            monkeypatch.setattr("gpuvos.training.loop._Run.step", interrupted_step)
            with pytest.raises(KeyboardInterrupt):
                train(networks[-1], stills, stills, tmp_path / name, config, distil=distil, progress=False)
            monkeypatch.undo()
            networks[-1] = make_tiny()  # whatever it holds is replaced by the checkpoint's
            torch.rand(7)  # and so is the state of the global generator
        options = {"distil": distil, "resume": name == "stopped", "progress": False}
        train(networks[-1], stills, stills, tmp_path / name, config, **options)
    assert same_state(*networks)
    logs = [list(csv.DictReader((tmp_path / name / "log.csv").open())) for name in ("through", "stopped")]
    for row in (row for log in logs for row in log):
        del row["seconds"]
    assert logs[0] == logs[1]
    assert len([row for row in logs[0] if row["loss"]]) == 6
    assert [row["step"] for row in logs[0] if row["seed_iou"]] == ["0", "2", "4", "6"]


def test_resuming_asks_for_the_same_run(tiny: nn.Module, stills: RenderedStills, tmp_path: Path) -> None:
    config = TrainingConfig(steps=1, **SMALL)
    with pytest.raises(InputError, match=r"checkpoint\.pt"):
        train(tiny, stills, None, tmp_path, config, distil=False, resume=True, progress=False)
    train(tiny, stills, None, tmp_path, config, distil=False, progress=False)
    for other, distil in ((TrainingConfig(steps=2, learning_rate=1.0, **SMALL), False), (config, True)):
        with pytest.raises(InputError, match="resume"):
            train(tiny, stills, None, tmp_path, other, distil=distil, resume=True, progress=False)
    longer = TrainingConfig(steps=2, **SMALL)
    assert train(tiny, stills, None, tmp_path, longer, distil=False, resume=True, progress=False).step == 2


def test_frozen_parts_stay(tiny: nn.Module, stills: RenderedStills, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    config = TrainingConfig(steps=2, encoder_scale=0, decoder_scale=0.5, freeze_statistics=True, **SMALL)
    train(tiny, stills, None, tmp_path, config, distil=True, progress=False)
    changed = {name for name, value in tiny.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("encoder.") or "running" in name for name in changed)
    assert {"decoder.0.weight", "heads.weight"} <= changed


def test_a_shared_encoder_changes_nothing(
    make_tiny: Callable[[], nn.Module],
    stills: RenderedStills,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    networks = []
    for share in (True, False):
        networks.append(make_tiny())
        if not share:
            monkeypatch.setattr("gpuvos.training.loop.share_encoder", lambda _network, _teacher: None)
        config = TrainingConfig(steps=3, encoder_scale=0, freeze_statistics=True, **SMALL)
        train(networks[-1], stills, None, tmp_path / str(share), config, distil=True, progress=False)
    assert same_state(*networks)


@pytest.mark.slow
def test_time_ends_a_run(tiny: nn.Module, stills: RenderedStills, tmp_path: Path) -> None:
    config = TrainingConfig(steps=10**6, minutes=0.02, **SMALL)
    state = train(tiny, stills, None, tmp_path, config, distil=False, progress=False)
    assert 1 < state.step < 10**4
    assert 1.2 <= state.seconds + 0.2 < 5


def test_a_loss_that_is_not_finite_is_an_error(
    make_tiny: Callable[[], nn.Module], stills: RenderedStills, tmp_path: Path
) -> None:
    network = make_tiny()
    torch.nn.init.constant_(network.heads.weight, torch.nan)
    config = TrainingConfig(steps=3, temperature=1.0, **SMALL)
    with pytest.raises(InputError, match="step 1"):
        train(network, stills, None, tmp_path, config, distil=False, progress=False)


def test_weights_that_are_not_finite_replace_no_checkpoint(
    tiny: nn.Module, stills: RenderedStills, tmp_path: Path
) -> None:
    options = {**SMALL, "log_every": 100}  # so that nobody looks at the losses
    config = TrainingConfig(steps=4, save_every=1, temperature=1.0, learning_rate=1e30, **options)
    with pytest.raises(InputError, match=r"^learning_rate: got weights that are not finite at step \d"):
        train(tiny, stills, None, tmp_path, config, distil=False, progress=False)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["state"]["step"] >= 1
    assert all(value.isfinite().all() for value in content["network"].values())


def test_schedule() -> None:
    assert learning_rate_factor(0.0) < 0.05
    assert learning_rate_factor(0.03) == pytest.approx(1)
    assert learning_rate_factor(0.515) == pytest.approx(0.5)
    assert learning_rate_factor(1.0) == pytest.approx(0)


def test_every_parameter_is_in_one_group(tiny: nn.Module) -> None:
    groups = parameter_groups(tiny, TrainingConfig(encoder_scale=0.1, decoder_scale=0.3))
    assert [group["scale"] for group in groups] == [0.1, 0.3, 1.0]
    assert sum(len(group["params"]) for group in groups) == len(list(tiny.parameters()))
    tiny.encoder.requires_grad_(False)
    assert [group["scale"] for group in parameter_groups(tiny, TrainingConfig())] == [1.0, 1.0]


def test_temperature_follows_the_scale(tiny: nn.Module, stills: RenderedStills) -> None:
    config = TrainingConfig(**SMALL)
    before = measure_temperature(tiny, stills, config, torch.device("cpu"))
    with torch.no_grad():
        tiny.heads.weight[:8] *= 3
    after = measure_temperature(tiny, stills, config, torch.device("cpu"))
    assert after == pytest.approx(9 * before, rel=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"keep": "all"},
        {"encoder_scale": -1.0},
        {"minutes": 0.0},
        {"size": 32.5},
        {"balance": 2},
        {"paste_share": 1.5},
    ],
)
def test_bad_configurations_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        TrainingConfig(**wrong)  # type: ignore[arg-type]
