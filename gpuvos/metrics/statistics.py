"""From values of frames to the numbers of a table: mean, recall, decay, and the frames DAVIS-2016 counts."""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

from torch import Tensor

from gpuvos.errors import check_count, check_tensor, check_values, fail


class Summary(NamedTuple):
    """What DAVIS reports for a measure of one sequence."""

    mean: Tensor  # [...]
    recall: Tensor  # [...] share of the frames above the threshold
    decay: Tensor  # [...] mean of the first quarter less that of the last: positive if the result gets worse


def davis2016_frames(count: int) -> slice:
    """The frames of a sequence that the DAVIS-2016 protocol counts: all but the first and the last.

    Args:
        count: number of frames of the whole sequence.

    Returns:
        A slice for the values (or masks) of all frames.

    Raises:
        InputError: if ``count`` is below 3, which leaves no frame.

    Example:
        >>> [0.1, 0.7, 0.8, 0.2][davis2016_frames(4)]
        [0.7, 0.8]
    """
    check_count("count", count, 3)  # the first and the last are not counted
    return slice(1, count - 1)


def summary(values: Tensor, *, threshold: float = 0.5) -> Summary:
    """Mean, recall and decay of a measure over the frames of a sequence, as DAVIS reports them.

    With frames numbered from 1 to T, quarter i = 1..4 goes from frame ``1 + (i - 1) (T - 1) / 4`` to frame
    ``1 + i (T - 1) / 4``, rounded half up and both included, so neighbouring quarters share a frame. This
    is the binning of the official toolkit, except that its 8-bit frame numbers wrap after frame 256.

    Args:
        values: ``[..., T]`` float, one value a frame, only of the frames that count (see ``davis2016_frames``).
        threshold: recall counts the frames strictly above it.

    Returns:
        Summary of [...] each, of the dtype of ``values``.

    Raises:
        InputError: if there is no frame, or a value is NaN or infinite.

    Example:
        >>> import torch
        >>> mean, recall, decay = summary(torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]))
        >>> print(f"{mean:.2f} {recall:.2f} {decay:.2f}")  # decay = (0.9 + 0.8) / 2 - (0.6 + 0.5) / 2
        0.70 0.80 0.30
    """
    frames = check_tensor("values", values, "... T")["T"]
    number: object = threshold
    if not isinstance(number, Real):
        raise fail("threshold", repr(threshold), "a number")
    if frames == 0:
        raise fail("values", f"shape {tuple(values.shape)}", "at least one frame in the last dimension")
    check_values("values", values)
    # Quarter i ends at index floor(i (T - 1) / 4 + 1 / 2).
    first_end, last_start = (frames + 1) // 4, (3 * frames - 1) // 4
    return Summary(
        mean=values.mean(dim=-1),
        recall=(values > threshold).to(values.dtype).mean(dim=-1),
        decay=values[..., : first_end + 1].mean(dim=-1) - values[..., last_start:].mean(dim=-1),
    )
