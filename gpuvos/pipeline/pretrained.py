"""Segmenters in a folder or on the Hugging Face Hub: a configuration as JSON, weights as safetensors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, hf_hub_download
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpuvos.config import Config
from gpuvos.errors import fail
from gpuvos.features.stored import build_front_end, describe_front_end
from gpuvos.pipeline.video import VideoSegmenter

CONFIGURATION, WEIGHTS = "config.json", "model.safetensors"


class PretrainedSegmenter(ModelHubMixin, VideoSegmenter):  # type: ignore[misc, unused-ignore]
    """A VideoSegmenter that ``huggingface_hub`` loads and publishes; ``VideoSegmenter.from_pretrained`` makes it.

    The front end is stored where it is one of the library with the networks and the flow that come with it; of any
    other the weights alone, and loading wants such a front end as an argument.
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
    }
    # below one name: the mixin would take others for arguments
    (folder / CONFIGURATION).write_text(json.dumps({"gpuvos": facts}, indent=2) + "\n")
    save_file(
        {name: value.detach().contiguous().cpu() for name, value in segmenter.state_dict().items()}, folder / WEIGHTS
    )


def read_folder(
    cls: type[PretrainedSegmenter], configuration: Path, weights: Path, **options: Any
) -> PretrainedSegmenter:
    """Builds the segmenter of two files; ``options`` are arguments of ``VideoSegmenter`` and come first.

    Raises:
        InputError: a file is damaged, or its front end has to be given.
    """
    given = options.pop("front_end", None)
    try:
        facts = json.loads(configuration.read_text())["gpuvos"]
        name, stored, config = facts["front_end"], facts["options"], Config(**facts["config"])
        front_end = build_front_end(name, stored) if given is None and stored is not None else given
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise fail("name", f"'{configuration}' ({error})", "a file that save_pretrained wrote") from None
    if front_end is None:
        raise fail("front_end", "None", f"a {name}, for which weights are stored", "pass front_end=")
    device = options.pop("device", None)
    segmenter = cls(front_end, **{"config": config, "chunk": facts["chunk"], **options})
    segmenter.load_state_dict(load_file(weights))
    segmenter.eval()
    return segmenter if device is None else segmenter.to(device)
