"""Published networks of others, built with an error that says what to do where they are out of reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from gpuvos.data.atomic import PathLike, as_path
from gpuvos.data.side_files import check_regular
from gpuvos.errors import InputError, check_choice, fail
from gpuvos.features.context import resize

Backbone = Literal["resnet50", "mobilenet_v3_large"]
SamVariant = Literal["mobile_sam", "vit_b", "vit_l", "vit_h"]

_PATCH, _SAM_SIZE = 16, 1024  # pixels of a patch, and of the square that the published SAMs see


class _SamEncoder(nn.Module):
    """The encoder behind frames of any shape: scaled to whole patches, filled up to its square, and cut out again."""

    def __init__(self, encoder: nn.Module, size: int) -> None:
        super().__init__()
        self.encoder, self.size = encoder, size

    def forward(self, images: Tensor) -> Tensor:
        longer = max(images.shape[-2:])
        rows, cols = (max(1, round(side * self.size / longer / _PATCH)) for side in images.shape[-2:])
        h, w = rows * _PATCH, cols * _PATCH
        images = pad(resize(images, (h, w)), (0, self.size - w, 0, self.size - h))
        features: Tensor = self.encoder(images)
        return features[..., :rows, :cols]


def build_deeplab(backbone: Backbone, weights: Literal["DEFAULT"] | Mapping[str, Tensor] | None) -> nn.Module:
    """DeepLabV3 of torchvision without its auxiliary head; arguments as of ``DeepLabFeatures``."""
    if not isinstance(weights, Mapping):
        check_choice("weights", weights, ("DEFAULT", None))
    check_choice("backbone", backbone, get_args(Backbone))
    try:
        from torchvision.models import segmentation
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another torch
        raise InputError(
            "DeepLabFeatures: torchvision cannot be imported; install the build that matches torch, "
            "or use LearnedFeatures, which needs nothing"
        ) from error
    make = getattr(segmentation, f"deeplabv3_{backbone}")
    given = isinstance(weights, Mapping)
    try:
        network: Any = make(weights=None if given else weights, weights_backbone=None, progress=False)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"weights: the download of DeepLabV3's weights failed ({error}); off-line, copy the file from a "
            "machine that has it into the folder checkpoints of torch.hub.get_dir(), or pass a state dict, "
            "or use LearnedFeatures, which comes with weights"
        ) from error
    network.aux_classifier = None  # its second head served training only
    if isinstance(weights, Mapping):
        kept = {name: value for name, value in weights.items() if not name.startswith("aux_classifier.")}
        _load(network, kept, "weights", f"DeepLabV3 with {backbone}")
    built: nn.Module = network
    return built


def build_sam_encoder(variant: SamVariant, size: int, checkpoint: PathLike | None) -> nn.Module:
    """SAM's image encoder of kornia behind frames of any shape; arguments as of ``SamFeatures``."""
    check_choice("variant", variant, get_args(SamVariant))
    if not isinstance(size, int) or size <= 0 or size % _PATCH:
        raise fail("size", repr(size), f"a multiple of {_PATCH}")
    try:
        from kornia.models.sam import Sam, SamConfig
        from kornia.models.tiny_vit import TinyViT
    except ImportError as error:
        raise InputError("SamFeatures: kornia has no models.sam; install kornia 0.9 or later") from error
    encoder: nn.Module
    if variant == "mobile_sam":
        encoder = TinyViT.from_config("5m", img_size=size, mobile_sam=True)
    else:
        encoder = Sam.from_config(SamConfig(variant)).image_encoder
    if checkpoint is not None:
        _load(encoder, _encoder_state(checkpoint), "checkpoint", f"SAM's encoder {variant}")
    if variant != "mobile_sam" and size != _SAM_SIZE:  # kornia resizes the relative positions, but not these
        known: Tensor = encoder.pos_embed.data.permute(0, 3, 1, 2)  # type: ignore[operator]
        side = size // _PATCH
        resized = interpolate(known, size=(side, side), mode="bicubic", align_corners=False)
        encoder.pos_embed = nn.Parameter(resized.permute(0, 2, 3, 1))
    return _SamEncoder(encoder, size)


def _encoder_state(checkpoint: PathLike) -> Mapping[str, Any]:
    """The encoder's part of a file of SAM's weights; no code in it is run."""
    file = as_path("checkpoint", checkpoint)
    check_regular("checkpoint", file, "a file of SAM's weights")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the reader raise almost anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise fail("checkpoint", f"'{file}' ({reason})", "a file of SAM's weights") from error
    state = state if isinstance(state, Mapping) else {}
    prefix = "image_encoder."
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
        raise fail("checkpoint", f"'{file}' with more than tensors by name", "a file of SAM's weights")
    inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return inner or state


def _load(network: nn.Module, state: Mapping[str, Any], argument: str, name: str) -> None:
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{argument}: it does not hold the weights of {name} ({reason})") from error
