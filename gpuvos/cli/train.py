"""``gpuvos train``: trains the embedding network on photographs, or on rendered clips where there are none."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from gpuvos.cli.common import pick_device
from gpuvos.errors import check_count, check_positive, fail
from gpuvos.features.network.embedding import EmbeddingNetwork, fit_projection, load_teacher
from gpuvos.features.network.weights import load_weights, save_weights
from gpuvos.training.card import model_card
from gpuvos.training.config import TrainingConfig
from gpuvos.training.images import StillsDataset, StillSource, pack
from gpuvos.training.linear import linear_objectness
from gpuvos.training.loop import distributed, train
from gpuvos.training.sampler import BatchSampler
from gpuvos.training.synthetic import RenderedStills

_DEFAULT_MINUTES = 2.0
_FITTED = 128  # images that the principal components are of
_LINEAR = 1024  # images that the linear objectness is fitted to
_SMALLEST = 32  # side of a crop: the encoder halves it five times
_NO_LIMIT = 1_000_000  # steps, where only time ends a run


def run(arguments: Namespace) -> int:
    """Trains; writes weights, model card, log and checkpoint; returns the exit status."""
    config = _config(arguments)
    check_count("--size", config.size, _SMALLEST)
    check_positive("--workers", arguments.workers, zero=True)
    if arguments.threads is not None:
        check_positive("--threads", arguments.threads)
        torch.set_num_threads(arguments.threads)
    device = pick_device(arguments.device)
    with distributed() as (process, processes):
        if device.type == "cuda" and processes > 1:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        torch.manual_seed(config.seed % 2**63)
        stills, held_out = _stills(arguments, process)
        network = build_network(arguments.init, stills, config)
        if arguments.linear_objectness and not network.width:
            raise fail("--linear-objectness", f"weights without a hidden layer, '{arguments.init}'", "others")
        state = train(
            network,
            stills,
            held_out,
            arguments.output,
            config,
            distil=arguments.init is not None,
            device=device,
            process=process,
            resume=arguments.resume,
            workers=arguments.workers,
        )
        if process == 0:
            card = model_card(stills.records, config, state, origin=arguments.init, processes=processes)
            if arguments.linear_objectness:  # after what was held out was measured
                network = linear_objectness(network.cpu(), _crops(stills, config, _LINEAR))
                card["linear_objectness"] = {"images": _LINEAR, "size": config.size}
            weights = save_weights(network, arguments.output / "weights.safetensors", card=card)
            print(f"{state.step} steps in {state.seconds:.0f} s: {weights}, weights.json, log.csv")
            for row in (row for row in state.history if "seed_iou" in row):
                parts = (f"{name} {value:.3f}" for name, value in row.items() if name not in ("step", "seconds"))
                print(f"held out, step {row['step']:.0f}: {', '.join(parts)}")
    return 0


def build_network(init: Path | None, stills: StillSource, config: TrainingConfig) -> EmbeddingNetwork:
    """The network to train: random; from a teacher, its features on their principal components; or ours."""
    if init is not None and init.suffix == ".safetensors":
        return load_weights(init)
    network = EmbeddingNetwork()
    if init is None:
        return network
    network.load_state_dict(load_teacher(init), strict=False)
    return fit_projection(network, _crops(stills, config, _FITTED))


def _crops(stills: StillSource, config: TrainingConfig, count: int) -> Iterator[Tensor]:
    """Batches of ``count`` images that nothing was pasted onto."""
    sampler = BatchSampler(
        stills,
        batch_size=config.batch_size,
        size=config.size,
        paste_share=0,
        rest=False,
        seed=config.seed + 2,
    )
    return (sampler.draw(sampler.generator(step)).image for step in range(-(-count // config.batch_size)))


def _config(arguments: Namespace) -> TrainingConfig:
    minutes, steps = arguments.minutes, arguments.steps
    if minutes is None and steps is None:
        minutes = _DEFAULT_MINUTES
    names = (
        "batch_size",
        "encoder_scale",
        "decoder_scale",
        "freeze_statistics",
        "pair_weight",
        "keep_weight",
        "class_weight",
        "object_weight",
        "balance",
        "rest_weight",
        "paste_share",
        "seed",
        "log_every",
        "save_every",
        "evaluate_every",
    )
    chosen = {name: getattr(arguments, name) for name in names}
    rendered = arguments.stills is None  # small frames and random weights: quicker steps, larger ones
    chosen["size"] = (128 if rendered else 256) if arguments.size is None else arguments.size
    chosen["learning_rate"] = (
        (3e-3 if rendered else 1e-3) if arguments.learning_rate is None else arguments.learning_rate
    )
    chosen["keep"] = arguments.keep or ("spread" if arguments.init is None else "distances")
    return TrainingConfig(minutes=minutes, steps=_NO_LIMIT if steps is None else steps, **chosen)


def _stills(arguments: Namespace, process: int) -> tuple[StillSource, StillSource | None]:
    """What to train on, and what to measure on."""
    if arguments.stills is None:
        if arguments.pack is not None:
            raise fail("--pack", f"'{arguments.pack}' without --stills", "a tree of stills to pack")
        return RenderedStills(seed=arguments.seed), RenderedStills(6, seed=arguments.seed + 10_000)
    root = arguments.stills
    if arguments.pack is not None:
        if not (arguments.pack / "pixels.npy").is_file() and process == 0:
            pack(root, arguments.pack, licences=arguments.licences, progress=True)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        root = arguments.pack
    sets = [StillsDataset(root, licences=arguments.licences, split=split) for split in ("train", "held-out")]
    return sets[0], sets[1]
