"""The training loop: one process or many, stopped and resumed at any step without a difference.

N processes of ``torchrun`` draw N batches a step, each of ``batch_size`` images, and take one step together with the
mean of their gradients: the objective is the mean of their losses, and that is what the log holds. The learning rate
is not scaled by N. Process 0 alone measures, logs and writes checkpoints; all of them resume from its checkpoint.
"""

from __future__ import annotations

import copy
import csv
import io
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

from gpuvos.data.atomic import atomic_file
from gpuvos.errors import fail
from gpuvos.training.augment import Batch, Targets, to_grid
from gpuvos.training.checkpoint import load_optimizer, read_checkpoint, sealed
from gpuvos.training.config import PRETRAINED, TrainingConfig, TrainingState
from gpuvos.training.evaluation import HeldOut, evaluate, held_out_batches
from gpuvos.training.images import StillSource
from gpuvos.training.objective import losses, measure_temperature, set_mode
from gpuvos.training.sampler import BatchSampler


@contextmanager
def distributed() -> Iterator[tuple[int, int]]:
    """Joins the processes that ``torchrun`` started; gives (number of this one, number of all), (0, 1) without.

    A group that the program has joined already is used, and not left at the end.
    """
    if dist.is_initialized() or not dist.is_torchelastic_launched():
        yield (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()


def train(
    network: nn.Module,
    stills: StillSource,
    held_out: StillSource | None,
    folder: Path,
    config: TrainingConfig,
    *,
    distil: bool,
    device: torch.device | None = None,
    process: int = 0,
    resume: bool = False,
    workers: int = 0,
    progress: bool = True,
) -> TrainingState:
    """Trains the network in place.

    Args:
        network: images ``[N, 3, h, w]`` in [0, 1] to ``embedding``, ``class_logits``, ``object_logit`` at stride 4;
            children called ``encoder`` and ``decoder`` have learning rates of their own.
        stills: to train on.
        held_out: to measure on before, between and after; None: nothing is measured.
        folder: receives ``checkpoint.pt`` and ``log.csv``, each replaced as a whole, by process 0 alone.
        config: everything else.
        distil: hold the network, as it comes in, as teacher of the classes and reference of the embedding.
        device: the device on which the network runs; the CPU where it is None. On CUDA it runs in bfloat16.
        process: number of this process; inside of ``distributed()`` gradients are averaged over all.
        resume: go on from ``folder/checkpoint.pt``. Where only ``steps`` limit the run, the result is the same, bit
            for bit, as that of a run that was never stopped.
        workers: processes that draw batches beside this one, for a GPU that would wait for them; the batches are the
            same.
        progress: show a bar, on a terminal.

    Raises:
        InputError: resuming without a checkpoint or with another configuration, or a loss that is no longer finite.
    """
    run = _Run(network, stills, held_out, folder, config, distil, device or torch.device("cpu"), process, resume)
    with (
        torch.random.fork_rng(),
        tqdm(total=config.steps, initial=run.state.step, disable=not progress or process > 0 or None) as bar,
    ):
        batches = run.sampler.stream(run.state.step, config.steps, workers)
        while (fraction := run.fraction()) < 1:
            terms = run.step(next(batches), fraction)
            bar.update()
            if terms is not None:
                bar.set_postfix({name: f"{value:.3f}" for name, value in terms.items() if name in _SHOWN})
        run.measure()
        run.save()
    return run.state


_SHOWN = ("loss", "pair", "class", "object")


class _Run:
    """A run and what it holds."""

    def __init__(
        self,
        network: nn.Module,
        stills: StillSource,
        held_out: StillSource | None,
        folder: Path,
        config: TrainingConfig,
        distil: bool,
        device: torch.device,
        process: int,
        resume: bool,
    ) -> None:
        self.folder, self.config, self.device, self.process = folder, config, device, process
        self.network = network.to(device)
        self.sampler = BatchSampler(
            stills,
            batch_size=config.batch_size,
            size=config.size,
            paste_share=config.paste_share,
            rest=config.rest_weight == 0,
            seed=config.seed,
            process=process,
        )
        self.held_out = (
            [] if held_out is None or process else held_out_batches(held_out, config.size, config.held_out, 8)
        )
        self.teacher = copy.deepcopy(network).eval().requires_grad_(False) if distil else None
        for name in PRETRAINED:
            if getattr(config, f"{name}_scale") == 0 and hasattr(network, name):
                getattr(network, name).requires_grad_(False)
        if self.teacher is not None and config.encoder_scale == 0 and config.freeze_statistics:
            share_encoder(network, self.teacher)
        self.optimizer = torch.optim.AdamW(parameter_groups(network, config), weight_decay=config.weight_decay)
        self.state = TrainingState(0, 0.0, 1.0, [])
        if resume:
            self._load()
        else:
            self.state.temperature = config.temperature or measure_temperature(network, stills, config, device)
            self.measure()
        self.started = time.monotonic() - self.state.seconds
        self.model: nn.Module = network
        if dist.is_initialized() and dist.get_world_size() > 1:
            where = [device.index or 0] if device.type == "cuda" else None
            self.model = nn.parallel.DistributedDataParallel(network, device_ids=where)
        set_mode(network, config.freeze_statistics)

    def fraction(self) -> float:
        """How far the run is, 1 at the end; the same in all processes."""
        fraction = self.state.step / self.config.steps
        if self.config.minutes is None:
            return fraction
        elapsed = torch.tensor((time.monotonic() - self.started) / (60 * self.config.minutes), device=self.device)
        if self.model is not self.network:
            dist.broadcast(elapsed, 0)
        return max(fraction, float(elapsed))

    def step(self, batch: Batch, fraction: float) -> dict[str, float] | None:
        """One step; the terms of the loss where they are logged."""
        config, state = self.config, self.state
        seed = self.sampler.generator(state.step).initial_seed()
        torch.manual_seed(seed)  # dropout, if there is any
        rate = learning_rate_factor(fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * config.learning_rate * group["scale"]
        image = batch.image.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            output = self.model(image)
            with torch.no_grad():
                before = None if self.teacher is None else self.teacher(image)
        targets = Targets(*(part.to(self.device) for part in to_grid(batch, *output.object_logit.shape[1:])))
        chance = torch.Generator(self.device).manual_seed(seed)
        terms = losses(output, targets, before, config, state.temperature, chance)
        self.optimizer.zero_grad()
        torch.autograd.backward(terms["loss"])
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step()
        state.step += 1
        state.seconds = time.monotonic() - self.started
        logged = None
        if state.step % config.log_every == 0 or state.step == 1:
            logged = self._means(terms) | {"gradient": float(norm)}
            self._log(logged | {"rate": rate * config.learning_rate})
        if state.step % config.evaluate_every == 0 and state.step < config.steps:
            self.measure()
        if state.step % config.save_every == 0:
            self.save()
        return logged

    def _means(self, terms: dict[str, Tensor]) -> dict[str, float]:
        """Means over all processes: what their averaged gradients are the gradients of."""
        values = torch.stack([value.detach().double() for value in terms.values()])
        if self.model is not self.network:
            dist.all_reduce(values)
            values /= dist.get_world_size()
        return dict(zip(terms, values.tolist(), strict=True))

    def measure(self) -> None:
        """Adds a row of held-out measurements to the log, unless a run that was stopped has done so at its end."""
        last = self.state.history[-1] if self.state.history else {}
        if self.held_out and not (last.get("step") == self.state.step and "seed_iou" in last):
            measured = evaluate(self.network, self.held_out, self.device)
            row: dict[str, float] = {"step": self.state.step, "seconds": self.state.seconds}
            self.state.history.append(row | measured._asdict())
            self._write_log()

    def save(self) -> None:
        """Writes the checkpoint and the log. Those before stay, with an InputError, where weights are not finite."""
        if self.process:
            return
        if not all(bool(value.isfinite().all()) for value in self.network.state_dict().values()):
            got = f"weights that are not finite at step {self.state.step}"
            raise fail("learning_rate", got, "finite weights", "lower it")
        content = {
            "network": self.network.state_dict(),
            "teacher": None if self.teacher is None else self.teacher.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": asdict(self.state),
            "config": asdict(self.config),
        }
        written = io.BytesIO()
        torch.save(content, written)  # its own writer would not say that a disk is full
        with atomic_file(self.folder / "checkpoint.pt") as temporary:
            temporary.write_bytes(sealed(written.getvalue()))
        self._write_log()

    def _write_log(self) -> None:
        columns = ["step", "seconds", "rate", "loss", "pair", "class", "object", "gradient", *HeldOut._fields]
        with atomic_file(self.folder / "log.csv") as temporary, temporary.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in self.state.history)

    def _log(self, row: dict[str, float]) -> None:
        if not math.isfinite(row["loss"]):
            raise fail(
                "learning_rate",
                f"a loss of {row['loss']} at step {self.state.step}",
                "finite losses",
                "lower it",
            )
        self.state.history.append({"step": self.state.step, "seconds": self.state.seconds} | row)

    def _load(self) -> None:
        file = self.folder / "checkpoint.pt"
        content = read_checkpoint(file, self.device)
        # Longer runs, and other intervals of logging, are no other run.
        free = {"steps", "minutes", "log_every", "save_every", "evaluate_every"}
        ours = asdict(self.config)
        changed = sorted(name for name in ours.keys() - free if content["config"].get(name) != ours[name])
        if changed or (content["teacher"] is None) != (self.teacher is None):
            raise fail("resume", f"other values of {', '.join(changed) or 'distil'}", "those the run began with")
        try:
            self.network.load_state_dict(content["network"])
            if self.teacher is not None:
                self.teacher.load_state_dict(content["teacher"])
            load_optimizer(self.optimizer, content["optimizer"])
            self.state = TrainingState(**content["state"])
        except Exception as error:  # state of anything else makes torch raise almost anything
            reason = " ".join((str(error) or type(error).__name__).split())[:200]
            raise fail("resume", f"'{file}' ({reason})", "a checkpoint of this network") from error


def learning_rate_factor(fraction: float, *, warmup: float = 0.03) -> float:
    """Linear from 0 over the first part of the run, then half a cosine to 0 at its end."""
    if fraction < warmup:
        return (fraction + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (fraction - warmup) / (1 - warmup)))


def parameter_groups(network: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Encoder, decoder and the rest, each with the scale of its learning rate; frozen parts are in none."""
    groups: dict[str, dict[str, Any]] = {
        "encoder": {"params": [], "scale": config.encoder_scale},
        "decoder": {"params": [], "scale": config.decoder_scale},
        "heads": {"params": [], "scale": 1.0},
    }
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            child = name.split(".")[0]
            groups[child if child in PRETRAINED else "heads"]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def share_encoder(network: nn.Module, teacher: nn.Module) -> None:
    """Lets the teacher use what the network's encoder found last, for encoders that are and stay the same."""
    found: list[Any] = []

    def remember(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found[:] = [output]

    class Recall(nn.Module):
        """Stands in for the teacher's encoder."""

        def forward(self, _images: Tensor) -> Any:
            """What the network's encoder made of the same images."""
            return found[0]

    network.get_submodule("encoder").register_forward_hook(remember)
    teacher.set_submodule("encoder", Recall())
