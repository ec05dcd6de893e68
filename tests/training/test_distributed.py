"""Processes as of torchrun: one step together with the mean of their gradients, one log, one checkpoint."""

from __future__ import annotations

import copy
import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gpuvos.training.augment import to_grid
from gpuvos.training.config import TrainingConfig
from gpuvos.training.objective import losses, measure_temperature, set_mode
from gpuvos.training.sampler import BatchSampler
from gpuvos.training.synthetic import RenderedStills

TWO_PROCESSES = Path(__file__).parents[1] / "two_processes.py"
SMALL = {"batch_size": 2, "size": 48, "num_samples": 32, "held_out": 4, "log_every": 1, "clip": 1e9}

_WORKER = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
import gpuvos.cli.train
from gpuvos.cli.main import main
from gpuvos.training.config import TrainingConfig
from gpuvos.training.loop import _Run, distributed, train
from gpuvos.training.synthetic import RenderedStills
folder, small = Path(sys.argv[1]), eval(sys.argv[3])
sys.path.insert(0, sys.argv[2])
from conftest import TinyNetwork

def fresh():
    torch.manual_seed(0)
    return TinyNetwork()

def interrupted(run, batch, fraction):
    if run.state.step == 3:  # one after the last checkpoint
        raise KeyboardInterrupt
    return whole_step(run, batch, fraction)

stills, whole_step = RenderedStills(2, height=48, width=64), _Run.step
with distributed() as (process, processes):
    assert processes == 2
    def run(name, network, steps, minutes=None, **options):
        config = TrainingConfig(steps=steps, minutes=minutes, save_every=2, **small)
        train(network, stills, stills, folder / name, config, process=process, progress=False, **options)
        torch.save(network.state_dict(), folder / f"{name}-{process}.pt")
    network = fresh()
    run("one", network, 1, minutes=10, distil=True)
    torch.save({name: value.grad for name, value in network.named_parameters()}, folder / f"gradients-{process}.pt")
    run("through", fresh(), 4, distil=False)
    _Run.step = interrupted
    try:
        run("stopped", fresh(), 4, distil=False)
    except KeyboardInterrupt:
        _Run.step = whole_step
    run("stopped", fresh(), 4, distil=False, resume=True)

    gpuvos.cli.train.RenderedStills = lambda *_, seed: RenderedStills(2, height=48, width=64, seed=seed)
    arguments = ["--steps", "2", "--size", "64", "--batch-size", "2", "--log-every", "1", "--device", "cpu"]
    assert main(["train", "-o", str(folder / "command"), *arguments]) == 0
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that two processes wrote."""
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "worker.py").write_text(_WORKER)
    launch = [sys.executable, str(TWO_PROCESSES), "gpuvos.cli.train,gpuvos.training.loop"]
    root = Path(__file__).parents[2]
    outcome = subprocess.run(
        [*launch, str(folder / "worker.py"), str(folder), str(Path(__file__).parent), repr(SMALL)],
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    (folder / "printed.txt").write_text(outcome.stdout)
    return folder


@pytest.mark.slow
def test_gradients_and_the_log_are_means_over_processes(make_tiny: Callable[[], nn.Module], run: Path) -> None:
    stills, config = RenderedStills(2, height=48, width=64), TrainingConfig(**SMALL)
    temperature = measure_temperature(make_tiny(), stills, config, torch.device("cpu"))
    terms, gradients = [], []
    for process in range(2):  # each with its own batch, dropout and batch statistics
        sampler = BatchSampler(
            stills,
            batch_size=2,
            size=48,
            paste_share=config.paste_share,
            rest=True,
            seed=config.seed,
            process=process,
        )
        network = make_tiny()
        teacher = copy.deepcopy(network).eval()
        set_mode(network, False)
        seed = sampler.generator(0).initial_seed()
        batch = sampler[0]
        torch.manual_seed(seed)
        output = network(batch.image)
        with torch.no_grad():
            before = teacher(batch.image)
        chance = torch.Generator().manual_seed(seed)
        found = losses(output, to_grid(batch, *output.object_logit.shape[1:]), before, config, temperature, chance)
        found["loss"].backward()  # type: ignore[no-untyped-call]
        terms.append({name: float(value.detach()) for name, value in found.items()})
        gradients.append({name: value.grad for name, value in network.named_parameters()})
    assert abs(terms[0]["loss"] - terms[1]["loss"]) > 1e-3  # the batches differ
    for process in range(2):
        for name, value in torch.load(run / f"gradients-{process}.pt").items():
            torch.testing.assert_close(value, (gradients[0][name] + gradients[1][name]) / 2, rtol=1e-4, atol=1e-6)
    row = next(row for row in csv.DictReader((run / "one" / "log.csv").open()) if row["loss"])
    for name in ("loss", "pair", "class", "object"):
        assert float(row[name]) == pytest.approx((terms[0][name] + terms[1][name]) / 2, rel=1e-4)


@pytest.mark.slow
def test_processes_agree_and_resume_without_a_difference(make_tiny: Callable[[], nn.Module], run: Path) -> None:
    names = [name for name, _ in make_tiny().named_parameters()]
    ends = [torch.load(run / f"{folder}-{process}.pt") for folder in ("through", "stopped") for process in range(2)]
    for name in names:
        assert ends[0][name].isfinite().all()
        assert all(torch.equal(ends[0][name], end[name]) for end in ends[1:])
    assert not torch.equal(ends[0]["heads.weight"], make_tiny().state_dict()["heads.weight"])
    logs = [list(csv.DictReader((run / folder / "log.csv").open())) for folder in ("through", "stopped")]
    for row in (row for log in logs for row in log):
        del row["seconds"]
    assert logs[0] == logs[1]
    assert [row["step"] for row in logs[0] if row["loss"]] == ["1", "2", "3", "4"]


@pytest.mark.slow
def test_the_command_in_two_processes(run: Path) -> None:
    assert sorted(path.name for path in (run / "command").iterdir()) == [
        "checkpoint.pt",
        "log.csv",
        "weights.json",
        "weights.safetensors",
    ]
    assert load_file(run / "command" / "weights.safetensors")
    assert json.loads((run / "command" / "weights.json").read_text())["images"] == 2 * 2 * 2  # steps, images, processes
    assert (run / "printed.txt").read_text().count("2 steps in") == 1  # process 0 alone
