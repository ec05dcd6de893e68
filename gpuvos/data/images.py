"""Image files as frames: single images and folders of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path, kind_of_path
from gpuvos.errors import InputError, fail

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
MAX_PIXELS = 64_000_000  # of a frame or a mask, unless a caller allows more: a file of kilobytes can claim any size
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")  # Pillow opens others by starting programs


class Page(NamedTuple):
    """One picture of an image file of several."""

    pixels: Tensor  # [3, H, W] uint8
    size: tuple[int, int]  # before downsizing
    seconds: float | None  # how long it is shown; None where the file does not say


def too_large(path: Path, width: int, height: int, max_pixels: int) -> InputError:
    """The error for a frame of more pixels than are allowed."""
    remedy = "scale it down, or allow more with max_pixels (--max-pixels)"
    return fail("path", f"'{path}' of {width} x {height} pixels", f"at most {max_pixels} pixels", remedy)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts ``frame2`` before ``frame10``: runs of digits compare as numbers.

    Example:
        >>> sorted(["f10", "f9", "f1"], key=natural_key)
        ['f1', 'f9', 'f10']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(part), part) if part[0] in "0123456789" else (1, 0, part.casefold()) for part in parts)


def list_images(path: PathLike) -> list[Path]:
    """The image files of a folder in natural order (hidden ones left out), or the one image ``path`` names.

    Raises:
        InputError: if the folder holds no image, or two of one stem, whose masks would overwrite each other.
    """
    source = as_path("path", path)
    if kind_of_path("path", source) == "file":
        return [source]
    try:
        entries = [entry for entry in source.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES]
    except OSError as error:
        raise fail("path", f"'{source}' ({error.strerror})", "a folder that can be read") from error
    files = [entry for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    if not files:
        raise fail(
            "path", f"'{source}', a folder without images", f"images ({', '.join(IMAGE_SUFFIXES)}) in the folder"
        )
    files.sort(key=lambda file: (natural_key(file.name), file.name))
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(file.stem, file)
        if other is not file:
            remedy = "keep images and masks in different folders"
            raise fail("path", f"'{other.name}' and '{file.name}' in '{source}'", "one image of a name", remedy)
    return files


@contextmanager
def load_image(file: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image]:
    """Opens and decodes an image; whatever Pillow finds wrong with it becomes an InputError naming it.

    Its size is read before anything is decoded. Pillow has a limit of its own, of 179 million pixels
    (twice ``PIL.Image.MAX_IMAGE_PIXELS``), which ``max_pixels`` does not raise.
    """
    if kind_of_path("path", file) == "folder":
        raise fail("path", f"'{file}', a folder", "an image file")
    with ExitStack() as stack:
        with decoding(file):
            image = stack.enter_context(_opened(file))
            check_pixels(image, file, max_pixels)
            image.load()
        yield image


@contextmanager
def decoding(file: Path) -> Iterator[None]:
    """Whatever Pillow raises inside becomes an InputError naming the file.

    A decoded image is not done with its file: the number of its pages and its orientation are looked up when they are
    asked for.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a damaged file makes the decoders raise almost anything
        raise _unreadable(file, error) from error


def check_pixels(image: Image, file: Path, max_pixels: int) -> None:
    """Raises InputError where a picture, of which no more than the header was read, has too many pixels."""
    if image.width * image.height > max_pixels:
        raise too_large(file, image.width, image.height, max_pixels)


def _opened(file: Path) -> Image:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels says more
        return Image.open(file, formats=_FORMATS)


def _unreadable(file: Path, error: Exception) -> InputError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return fail("path", f"'{file}' ({reason})", "an image that can be read", "is it complete?")


def composite_over_black(image: Image) -> np.ndarray[Any, Any]:
    """The image as uint8 RGB ``[H, W, 3]``: transparency over black, 16-bit values reduced to their high byte."""
    if image.mode == "F" or image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255 instead of scaling them.
        values = np.asarray(image).clip(0, 65535).astype(np.uint16) >> 8
        return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        return flatten_alpha(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def flatten_alpha(rgba: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Composites uint8 RGBA ``[H, W, 4]`` over black: uint8 ``[H, W, 3]``, rounded."""
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    if (alpha == 255).all():
        return np.ascontiguousarray(colour)
    composite: np.ndarray[Any, Any] = ((colour.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)
    return composite


def fit(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """Size whose longer side is at most ``max_side``, of the same proportions (rounded, at least 1).

    Example:
        >>> fit(480, 854, 427)
        (240, 427)
    """
    longest = max(height, width)
    if max_side is None or longest <= max_side:
        return height, width
    return max(1, round(height * max_side / longest)), max(1, round(width * max_side / longest))


def read_image(file: Path, max_side: int | None = None, max_pixels: int = MAX_PIXELS) -> tuple[Tensor, tuple[int, int]]:
    """Reads an image upright (its EXIF orientation applied).

    Returns:
        uint8 ``[3, H, W]``, downsized with antialiasing to ``max_side``, and the upright size (H, W) before that.

    Raises:
        InputError: if the file is missing, no image, damaged, or an animation.
    """
    with load_image(file, max_pixels) as image, decoding(file):
        if _pages(image) > 1:
            remedy = "read it by itself, or save its frames into the folder"
            raise fail("path", f"'{file}', an animation of {_pages(image)} frames", "an image", remedy)
        return _upright(image, max_side)


def count_pages(file: Path) -> int:
    """Pictures in an image file: 1 but for APNG, WebP and TIFF, and for what cannot be read."""
    try:
        with _opened(file) as image:
            return _pages(image)
    except Exception:  # read_image says what is wrong with it
        return 1


def read_pages(file: Path, max_side: int | None = None, max_pixels: int = MAX_PIXELS) -> Generator[Page, None, None]:
    """The pictures of an image file as ``read_image`` gives them; ends where the next one cannot be decoded.

    Raises:
        InputError: if not even the first one can be read.
    """
    with load_image(file, max_pixels) as image:
        with decoding(file):
            first = _first(image)
            count = _pages(image)
        for number in range(first, first + count):
            try:
                page = _page(image, number, file, max_side, max_pixels)
            except InputError:
                raise
            except Exception as error:  # a damaged file makes the decoders raise almost anything
                if number == first:
                    raise _unreadable(file, error) from error
                return
            yield page


def _page(image: Image, number: int, file: Path, max_side: int | None, max_pixels: int) -> Page:
    image.seek(number)
    check_pixels(image, file, max_pixels)
    image.load()
    milliseconds = image.info.get("duration") or 0
    return Page(*_upright(image, max_side), milliseconds / 1000 if milliseconds > 0 else None)


def _first(image: Image) -> int:
    """Number of the first picture that belongs to the animation: an APNG may have one for viewers that know none."""
    return int(bool(image.info.get("default_image")))


def _pages(image: Image) -> int:
    """Pictures of an animation, pages of a document; the second picture of an MPO is the other eye's, or a preview."""
    return 1 if image.format == "MPO" else max(1, getattr(image, "n_frames", 1) - _first(image))


def _upright(image: Image, max_side: int | None) -> tuple[Tensor, tuple[int, int]]:
    """Pixels ``[3, H, W]`` with the EXIF orientation applied, downsized, and the size before that."""
    from PIL import Image, ImageOps

    pixels = composite_over_black(ImageOps.exif_transpose(image))
    size = pixels.shape[0], pixels.shape[1]
    height, width = fit(*size, max_side)
    if (height, width) != size:
        pixels = np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0))
    return torch.from_numpy(pixels).permute(2, 0, 1), size
