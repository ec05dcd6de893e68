"""The method as one function of features."""

from __future__ import annotations

from torch import Tensor

from gpuvos.config import COLDEST, Config, checked_config
from gpuvos.errors import check_positive, check_size, check_tensor, check_values, fail, values_readable
from gpuvos.functional.precision import full_precision
from gpuvos.pipeline import steps
from gpuvos.pipeline.chunked import explain_memory
from gpuvos.pipeline.result import build_result, first_video
from gpuvos.pipeline.rules import RULES
from gpuvos.types import Features, Segmentation, plain_tensor

_LARGEST = 1e17  # squares of its differences, summed over thousands of channels, are floats still


@explain_memory("embedding")
@full_precision
def segment(
    embedding: Tensor,
    objectness: Tensor,
    flow: Tensor,
    *,
    config: Config | None = None,
    lengths: Tensor | None = None,
    size: tuple[int, int] | None = None,
    first_mask: Tensor | None = None,
    validate: bool = True,
) -> Segmentation:
    """Segments the moving object of a video from features of its frames, all frames at once.

    Args:
        embedding: ``[T, D, H, W]`` instance embedding, or ``[B, T, D, H, W]`` for several videos.
        objectness: ``[T, H, W]`` in [0, 1].
        flow: ``[T, 2, H, W]`` optical flow from frame t to t + 1. Only ``config.min_motion`` depends on its unit.
        config: parameters of the method; ``Config()`` where absent.
        lengths: ``[B]`` int64, frames of each video in a ragged batch; later frames get empty masks. Whatever finite
            values fill them change nothing.
        size: height and width of mask and probability; the grid's own where absent.
        first_mask: ``[h, w]`` bool (``[B, h, w]``), the object in frame 0: semi-supervised mode (A.1).
        validate: look for NaN and values out of range. It reads back from the device; False keeps the call free of
            synchronisation, for CUDA graphs and latency.

    Returns:
        Segmentation; see there for shapes.

    Raises:
        InputError: a shape, dtype, device or value does not fit.
        OutOfMemoryError: memory does not suffice; it is an InputError as well.

    Example:
        >>> import torch
        >>> e = torch.zeros(2, 1, 8, 12)
        >>> e[..., 2:6, 3:8] = 3.0
        >>> flow = torch.zeros(2, 2, 8, 12)
        >>> flow[:, 0, 2:6, 3:8] = 1.0
        >>> config = Config(rule="paper", window=3, num_seeds=20)
        >>> segment(e, (e[:, 0] > 0).float(), flow, config=config).mask.sum((1, 2))
        tensor([20, 20])
    """
    config = checked_config(config)
    embedding, objectness, flow, first_mask = map(plain_tensor, (embedding, objectness, flow, first_mask))
    _check_features(embedding, objectness, flow, lengths, _known_temperature(config) if validate else 0.0)
    several = embedding.ndim == 5
    _check_output(embedding, first_mask, size)
    features = Features(embedding, objectness, flow)
    if not several:
        features = Features(embedding[None], objectness[None], flow[None])
        first_mask = None if first_mask is None else first_mask[None]
    present = steps.present_frames(features.embedding, lengths)  # [B, T]
    regions = steps.regions(features, present, config)  # Eq. 4-6
    motion = steps.motion(features, regions, config)  # Eq. 7-8
    labels = RULES[config.rule].label(features, regions, motion, config)  # Eq. 9-12, or the vote
    if first_mask is None:
        probability = steps.probability(features, regions, motion, labels, config, lengths)  # Eq. 13-15
    else:
        labels, probability = steps.probability_from_mask(features, regions, labels, first_mask, config, lengths)
    if present is not None:
        probability = probability.masked_fill(~present[..., None, None], 0)
    result = build_result(probability, regions, motion, labels, config, size)
    return result if several else first_video(result)


def _check_features(
    embedding: Tensor, objectness: Tensor, flow: Tensor, lengths: Tensor | None, temperature: float
) -> None:
    """A temperature of 0: values are not looked at."""
    validate = temperature > 0
    lead = "B T" if isinstance(embedding, Tensor) and embedding.ndim == 5 else "T"
    sizes = check_tensor("embedding", embedding, f"{lead} D H W")
    check_tensor("objectness", objectness, f"{lead} H W", sizes=sizes, like=embedding)
    check_tensor("flow", flow, f"{lead} 2 H W", sizes=sizes, like=embedding)
    for name, length in sizes.items():
        if length == 0:
            raise fail("embedding", f"shape {tuple(embedding.shape)}", f"at least one element along {name}")
    if lengths is not None:
        if lead == "T":
            raise fail("lengths", "a tensor", "None for a single video", "give the features a leading dimension B")
        check_tensor("lengths", lengths, "B", kind="int64", sizes={"B": sizes["B"]}, like=embedding)
        if validate and values_readable(lengths) and bool(((lengths < 0) | (lengths > sizes["T"])).any()):
            raise fail("lengths", str(lengths.tolist()), f"values in [0, {sizes['T']}], the frames of the batch")
    if validate:
        largest = _LARGEST * min(1.0, temperature) ** 0.5
        check_values("embedding", embedding, low=-largest, high=largest)
        check_values("objectness", objectness, low=0, high=1)
        check_values("flow", flow, low=-_LARGEST, high=_LARGEST)


def check_first_mask(first_mask: Tensor, lead: str, videos: dict[str, int], like: Tensor) -> None:
    """Raises InputError unless ``first_mask`` is bool ``[h, w]`` with the leading dimensions named, not empty."""
    sizes = check_tensor("first_mask", first_mask, f"{lead}h w", kind="bool", sizes=videos, like=like)
    if min(sizes["h"], sizes["w"]) == 0:
        raise fail("first_mask", f"shape {tuple(first_mask.shape)}", "at least one pixel")


def check_mask_of_frames(first_mask: Tensor, frames: Tensor, *, validate: bool) -> None:
    """Raises InputError unless ``first_mask`` is bool ``[H, W]`` like ``frames [..., H, W]``, with an object."""
    check_first_mask(first_mask, "", {}, frames)
    size = tuple(frames.shape[-2:])
    if tuple(first_mask.shape) != size:
        turned = tuple(first_mask.shape) == size[::-1]
        remedy = "transpose it" if turned else "resize it to the frames"
        raise fail("first_mask", f"shape {tuple(first_mask.shape)}", f"{size}, that of the frames", remedy)
    if validate and values_readable(first_mask) and not bool(first_mask.any()):
        raise fail("first_mask", "an empty mask", "one with the object in it", "without a mask the object is found")


def _check_output(embedding: Tensor, first_mask: Tensor | None, size: tuple[int, int] | None) -> None:
    if first_mask is not None:
        lead, videos = ("B ", {"B": embedding.shape[0]}) if embedding.ndim == 5 else ("", {})
        check_first_mask(first_mask, lead, videos, embedding)
    if size is not None:
        check_size("size", size)


def _known_temperature(config: Config) -> float:
    """The temperature, that of a tensor once it is checked; 1 where values cannot be read."""
    temperature = config.temperature
    if not isinstance(temperature, Tensor):
        return temperature
    if not values_readable(temperature):
        return 1.0
    value = float(temperature.detach())
    check_positive("config.temperature", value, low=COLDEST)
    return value
