"""Segmenters in a folder or on the Hugging Face Hub: a configuration as JSON, weights as safetensors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpuvos.config import Config
from gpuvos.errors import fail
from gpuvos.features.stored import build_front_end, describe_front_end
from gpuvos.pipeline.stored import build_refinement, describe_refinement
from gpuvos.pipeline.video import VideoSegmenter

CONFIGURATION, WEIGHTS = "config.json", "model.safetensors"


class PretrainedSegmenter(ModelHubMixin, VideoSegmenter):  # type: ignore[misc, unused-ignore]
    """A VideoSegmenter that ``huggingface_hub`` loads and publishes; ``VideoSegmenter.from_pretrained`` makes it.

    Front end and refinement are stored where they are those of the library with the networks and the flow that come
    with it; of any other the weights alone, and loading wants such a module as an argument.
    """

    def _save_pretrained(self, save_directory: Path) -> None:
        write_folder(self, save_directory)

    # the mixin's own would add a model card, for which it asks the network
    save_pretrained = VideoSegmenter.save_pretrained

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **options: Any,
    ) -> PretrainedSegmenter:
        def find(name: str) -> Path:
            if Path(model_id).is_dir():
                return Path(model_id, name)
            found = hf_hub_download(
                model_id,
                name,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
            return Path(found)

        if not isinstance(options.get("config"), Config):
            options.pop("config", None)  # the mixin's own reading of the file
        return read_folder(cls, find(CONFIGURATION), find(WEIGHTS), **options)


def write_folder(segmenter: VideoSegmenter, folder: Path) -> None:
    """Writes what ``read_folder`` reads."""
    front = segmenter.front_end
    config = dataclasses.asdict(segmenter.config)
    if isinstance(config["temperature"], Tensor):
        config["temperature"] = float(config["temperature"])
    facts = {
        "config": config,
        "chunk": segmenter.chunk,
        "front_end": type(front).__name__,
        "options": describe_front_end(front),
        "refinement": describe_refinement(segmenter.refinement),
    }
    # below one name: the mixin would take others for arguments
    (folder / CONFIGURATION).write_text(json.dumps({"gpuvos": facts}, indent=2) + "\n")
    # front end and refinement may share a network, which safetensors would refuse
    state = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in segmenter.state_dict().items()
    }
    save_file(state, folder / WEIGHTS)


def read_folder(
    cls: type[PretrainedSegmenter], configuration: Path, weights: Path, **options: Any
) -> PretrainedSegmenter:
    """Builds the segmenter of two files; ``options`` are arguments of ``VideoSegmenter`` and come first.

    Raises:
        InputError: a file is damaged, or its front end or its refinement has to be given.
    """
    given = options.pop("front_end", None)
    try:
        facts = json.loads(configuration.read_text())["gpuvos"]
        name, stored, config = facts["front_end"], facts["options"], Config(**facts["config"])
        front_end = build_front_end(name, stored) if given is None and stored is not None else given
        refined = facts.get("refinement", {"name": None})  # files of before have none
        if "refinement" not in options and (refined["name"] is None or refined["options"] is not None):
            options["refinement"] = build_refinement(refined)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise fail("name", f"'{configuration}' ({error})", "a file that save_pretrained wrote") from None
    if front_end is None:
        raise fail("front_end", "None", f"a {name}, for which weights are stored", "pass front_end=")
    if "refinement" not in options:
        wanted = f"a {refined['name']}, with which it was saved"
        raise fail("refinement", "nothing", wanted, "pass refinement=, or None to go without")
    device = options.pop("device", None)
    segmenter = cls(front_end, **{"config": config, "chunk": facts["chunk"], **options})
    try:
        state = load_file(weights)
        if segmenter.refinement is None:  # asked to go without
            state = {name: value for name, value in state.items() if not name.startswith("refinement.")}
        segmenter.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: other names or shapes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise fail("name", f"'{weights}' ({reason})", f"the weights of the {name} beside it") from error
    segmenter.eval()
    return segmenter if device is None else segmenter.to(device)
