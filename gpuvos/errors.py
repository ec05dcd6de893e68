"""The one exception of the library and the checks that raise it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

LARGEST = 1e30  # of numbers: their products are floats still
MOST = 2**31 - 1  # of counts
MOST_SIDE = 2**16  # of an image, in pixels
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)  # torch computes with no others
_KINDS = {"float": _FLOATS, "int64": (torch.int64,), "bool": (torch.bool,), "frames": (*_FLOATS, torch.uint8)}
_KIND_NAMES = {
    "float": "a floating-point tensor",
    "int64": "an int64 tensor",
    "bool": "a bool tensor",
    "frames": "a uint8 tensor or a floating-point tensor in [0, 1]",
}


class InputError(ValueError):
    """Bad input. The message names the argument, what came, what was wanted and, where there is one, the remedy."""


class OutOfMemoryError(InputError, torch.OutOfMemoryError, MemoryError):
    """Input for which memory does not suffice, on a GPU or on the host. The message says what takes less.

    What the failed call held is free when it is raised.
    """


def fail(argument: str, got: str, wanted: str, remedy: str = "") -> InputError:
    """Builds the error for ``argument``: what came, what was wanted, what to do about it."""
    return InputError(f"{argument}: got {got}, wanted {wanted}{'; ' + remedy if remedy else ''}")


def printable(text: str) -> str:
    r"""The text with control characters written out, so that a file's name cannot give orders to a terminal.

    Example:
        >>> print(printable("a\x1b[2Jb.mp4"))
        a\x1b[2Jb.mp4
    """
    return "".join(sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text)


def check_tensor(
    argument: str,
    value: object,
    shape: str,
    *,
    kind: str = "float",
    sizes: Mapping[str, int] | None = None,
    leading: Sequence[int] | None = None,
    like: Tensor | None = None,
    filled: bool = False,
) -> dict[str, int]:
    """Checks type, dtype, device and shape of a tensor without looking at its values (so without a sync).

    Args:
        argument: the name to put into the message.
        value: the value that the caller passed.
        shape: letters or numbers separated by blanks, ``"T 3 H W"``; a leading ``...`` takes any dimensions.
        kind: ``float``, ``int64``, ``bool`` or ``frames``.
        sizes: letters that are already bound.
        leading: the dimensions that ``...`` must take.
        like: a tensor whose device ``value`` must share.
        filled: whether every letter of ``shape`` must stand for at least one element.

    Returns:
        The size of every letter of ``shape``, and those of ``sizes``.

    Raises:
        InputError: if anything differs.
    """
    _check_kind(argument, value, shape, kind, like)
    assert isinstance(value, Tensor)
    letters = shape.split()
    open_ended = letters[0] == "..."
    names = letters[1:] if open_ended else letters
    bound = dict(sizes or {})
    fits = value.ndim >= len(names) if open_ended else value.ndim == len(names)
    if fits:
        for name, size in zip(names, value.shape[value.ndim - len(names) :], strict=True):
            fits = fits and (int(name) if name.isdigit() else bound.setdefault(name, size)) == size
    if not fits:
        raise fail(argument, f"shape {tuple(value.shape)}", _wanted(shape, kind, sizes))
    lead = value.shape[: value.ndim - len(names)]
    if open_ended and leading is not None and tuple(lead) != tuple(leading):
        raise fail(argument, f"leading dimensions {tuple(lead)}", f"{tuple(leading)}, those of the other arguments")
    if filled and any(size == 0 for size in value.shape[len(lead) :]):
        raise fail(argument, f"shape {tuple(value.shape)}", _wanted(shape, kind, sizes) + ", none of them 0")
    return bound


def _check_kind(argument: str, value: object, shape: str, kind: str, like: Tensor | None) -> None:
    """What ``check_tensor`` checks besides the shape."""
    if not isinstance(value, Tensor):
        raise fail(argument, type(value).__name__, _wanted(shape, kind), "convert it with torch.as_tensor")
    if value.dtype not in _KINDS[kind]:
        raise fail(argument, str(value.dtype), _wanted(shape, kind))
    if value.is_nested:
        remedy = "fill it up with torch.nested.to_padded_tensor and pass lengths"
        raise fail(argument, "a nested tensor", _wanted(shape, kind), remedy)
    if value.layout != torch.strided:
        raise fail(argument, f"layout {value.layout}", _wanted(shape, kind), "make it dense with .to_dense()")
    if like is not None and value.device != like.device:
        raise fail(argument, f"device {value.device}", f"device {like.device}", "move it with .to(device)")


def _wanted(shape: str, kind: str, sizes: Mapping[str, int] | None = None) -> str:
    """A tensor in words, put together only for a message: to format a size would fix it in a traced program."""
    known = ", ".join(f"{name} = {(sizes or {})[name]}" for name in shape.split() if name in (sizes or {}))
    return f"{_KIND_NAMES[kind]} of shape [{', '.join(shape.split())}]" + (f" with {known}" if known else "")


def check_index(argument: str, value: Tensor, low: int, stop: int) -> None:
    """Raises InputError unless an int64 tensor lies in ``[low, stop)``.

    It looks on the CPU alone: elsewhere the look would wait for the device.
    """
    if value.device.type != "cpu" or value.numel() == 0 or not values_readable(value):
        return
    smallest, largest = (int(bound) for bound in value.detach().aminmax())
    if smallest < low or largest >= stop:
        raise fail(argument, f"values from {smallest} to {largest}", f"values in [{low}, {stop - 1}]")


def check_positive(argument: str, value: Any, *, zero: bool = False, low: float = 0, high: float = LARGEST) -> None:
    """Raises InputError unless ``value`` is a finite number above zero (or zero, where ``zero`` allows it).

    Args:
        argument: the name to put into the message.
        value: the value that the caller passed; fractions and decimals, which torch does not take, are refused.
        zero: allow zero.
        low: the smallest value, where that is above zero.
        high: the largest value.
    """
    try:
        fits = bool(value > 0 or (zero and value == 0)) and low <= value <= high
        fits = fits and (isinstance(value, int | float) or hasattr(value, "dtype"))
        if isinstance(value, int) and value > 2**63 - 1:  # torch takes no larger integer
            fits, high = False, min(high, 2**63 - 1)
    except (TypeError, ValueError, RuntimeError):  # not a number at all, or many
        fits = False
    if not fits:
        wanted = "zero or more" if zero else "a number above zero"
        bounds = f", from {low:g} to {high:g}" if low else f", at most {high:g}"
        raise fail(argument, shortened(value), wanted + bounds)


def check_count(argument: str, value: Any, low: int = 1, high: int = MOST) -> None:
    """Raises InputError unless ``value`` is a whole number (no bool, no tensor) from ``low`` to ``high``.

    Example:
        >>> check_count("num_seeds", 2.0)
        Traceback (most recent call last):
        gpuvos.errors.InputError: num_seeds: got 2.0, wanted an integer of at least 1
    """
    whole = isinstance(value, int | torch.SymInt) or _is_index(value)
    if not whole or isinstance(value, bool) or value < low:
        raise fail(argument, shortened(value), f"an integer of at least {low}")
    if value > high:
        raise fail(argument, shortened(value), f"an integer of at most {high}")


def _is_index(value: Any) -> bool:
    """Whether it is an integer of another library, such as NumPy's."""
    return hasattr(value, "__index__") and not isinstance(value, Tensor) and not getattr(value, "ndim", None)


def shortened(value: object) -> str:
    """The text of a value, cut where it is long; an integer of thousands of digits has none."""
    try:
        text = repr(value)
    except ValueError:
        return f"{type(value).__name__} of very many digits"
    return text if len(text) <= 100 else text[:97] + "..."


def check_size(argument: str, value: Any) -> None:
    """Raises InputError unless ``value`` is ``(rows, columns)``, whole numbers above zero and at most 65536."""
    try:
        rows, columns = value
        check_count(argument, rows, high=MOST_SIDE)
        check_count(argument, columns, high=MOST_SIDE)
    except (InputError, TypeError, ValueError, RuntimeError):
        wanted = f"(rows, columns), both above zero and at most {MOST_SIDE}"
        raise fail(argument, shortened(value), wanted) from None


def check_share(argument: str, value: float) -> None:
    """Raises InputError unless ``value`` is a number in [0, 1]."""
    check_positive(argument, value, zero=True)
    if value > 1:
        raise fail(argument, repr(value), "a number in [0, 1]")


def check_color(argument: str, value: Any) -> None:
    """Raises InputError unless ``value`` is red, green and blue, whole numbers from 0 to 255."""
    wanted = "(red, green, blue), each a whole number from 0 to 255"
    try:
        for part in value:
            check_count(argument, part, 0)
        fits = len(value) == 3 and max(value) <= 255
    except (InputError, TypeError):
        fits = False
    if not fits:
        raise fail(argument, repr(value), wanted)


def check_choice(argument: str, value: object, choices: tuple[str | None, ...]) -> None:
    """Raises InputError unless ``value`` is one of ``choices``."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise fail(argument, repr(value), "one of " + ", ".join(map(repr, choices)))


def values_readable(value: Tensor) -> bool:
    """Whether a check may read values.

    Not while tracing, inside of a transform of ``torch.func``, on fake or meta tensors or in a CUDA graph capture.
    """
    if torch.compiler.is_compiling() or value.is_meta or torch._guards.detect_fake_mode(value) is not None:
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(value):
        return False
    return not (value.is_cuda and torch.cuda.is_current_stream_capturing())


def check_values(
    argument: str,
    value: Tensor,
    *,
    low: float | None = None,
    high: float | None = None,
    infinite: bool = False,
) -> None:
    """Raises InputError if ``value`` holds a NaN, an infinity (unless allowed), or anything outside of ``[low, high]``.

    One reduction and one host sync; it does nothing where values cannot be read (see ``values_readable``).
    """
    if value.numel() == 0 or not value.dtype.is_floating_point or not values_readable(value):
        return
    smallest, largest = (bound.item() for bound in value.detach().aminmax())
    if smallest != smallest or not (infinite or (abs(smallest) < float("inf") and abs(largest) < float("inf"))):
        remedy = "replace them, for example with torch.nan_to_num"
        raise fail(argument, "NaN or infinite values", "finite values", remedy)
    if (low is not None and smallest < low) or (high is not None and largest > high):
        bounds = f"values in [{'-inf' if low is None else low}, {'inf' if high is None else high}]"
        raise fail(argument, f"values from {smallest:.4g} to {largest:.4g}", bounds)


def check_probability_and_image(
    probability: Tensor, image: Tensor, *, channels: int | None = None, validate: bool = True
) -> dict[str, int]:
    """Checks what every refinement takes: probabilities ``[T, H, W]``, and images ``[T, C, H, W]`` of that size.

    Args:
        probability: any leading dimensions; values in [0, 1].
        image: the same leading dimensions; uint8, or floating point in [0, 1].
        channels: C, where it is known.
        validate: look at values as well, which reads back from the device.

    Returns:
        The sizes C, H and W.

    Raises:
        InputError: if anything differs.
    """
    sizes = check_tensor("probability", probability, "... H W")
    sizes = {"H": sizes["H"], "W": sizes["W"]} | ({} if channels is None else {"C": channels})
    leading = probability.shape[:-2]
    sizes = check_tensor("image", image, "... C H W", kind="frames", sizes=sizes, leading=leading, like=probability)
    if validate:
        check_values("probability", probability, low=0, high=1)
        check_values("image", image, low=0, high=1)
    return sizes
