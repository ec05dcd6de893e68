"""Masks as files: palette PNGs as DAVIS has them, and compressed archives of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gpuvos.data.atomic import PathLike, as_path, atomic_file, atomic_folder
from gpuvos.data.images import MAX_PIXELS, composite_over_black, decoding, load_image
from gpuvos.errors import InputError, check_count, check_tensor, fail

if TYPE_CHECKING:
    from PIL.Image import Image

_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def davis_palette() -> Tensor:
    """Colours of the ids 0 to 255 in DAVIS and PASCAL VOC: uint8 [256, 3], RGB.

    Bits 0, 3 and 6 of an id are the three highest bits of red, bits 1, 4 and 7 those of green, bits 2 and 5
    those of blue, the lowest bit of the id becoming the highest bit of the colour. So no colour occurs twice.

    Example:
        >>> davis_palette()[:3].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    ids = torch.arange(256)
    groups = torch.arange(3)
    bits = (ids[:, None, None] >> (3 * groups + torch.arange(3)[:, None])) & 1  # [256, channel, group]
    return (bits << (7 - groups)).sum(-1).to(torch.uint8)


def write_mask(path: PathLike, mask: Tensor) -> None:
    """Writes a mask as an 8-bit palette PNG in the colours of DAVIS; the pixel values are the ids themselves.

    Args:
        path: file to write, ending in ``.png``; it appears whole or not at all. Missing folders are created.
        mask: ``[H, W]`` bool (False 0, True 1) or any integer type with ids from 0 to 255; any device.

    Raises:
        InputError: for another shape, type, value or suffix, or a place that cannot be written to.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "mask.png"
        >>> write_mask(file, torch.tensor([[0, 1], [2, 255]]))
        >>> read_mask(file).tolist()
        [[0, 1], [2, 255]]
    """
    from PIL import Image

    _check_suffix(path, ".png")
    image = Image.fromarray(_check_ids("mask", mask, "H W").cpu().contiguous().numpy())
    image.putpalette(davis_palette().flatten().tolist())
    with atomic_file(path) as temporary:
        image.save(temporary, format="PNG")


def write_masks(
    folder: PathLike, masks: Tensor, names: Sequence[str] | None = None, *, overwrite: bool = False
) -> None:
    """Writes the masks of a video as palette PNGs, one a frame; the folder appears whole or not at all.

    Args:
        folder: folder to write; it must not exist or must be empty, unless ``overwrite``.
        masks: ``[T, H, W]`` bool or ids from 0 to 255, see `write_mask`.
        names: file names without suffix, one a frame, such as ``Clip.names``; by default 00000, 00001, ...
        overwrite: replace the folder and everything in it.

    Raises:
        InputError: see `write_mask`; names that are not unique or not plain names; see `atomic_folder`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "masks"
        >>> write_masks(folder, torch.ones(2, 4, 6, dtype=torch.bool))
        >>> sorted(file.name for file in folder.iterdir())
        ['00000.png', '00001.png']
    """
    ids = _check_ids("masks", masks, "T H W")
    stems = [f"{number:05d}" for number in range(len(ids))] if names is None else list(names)
    if len(stems) != len(ids):
        raise fail("names", f"{len(stems)} names", f"one for each of the {len(ids)} masks")
    if len({stem.casefold() for stem in stems}) != len(stems):
        raise fail("names", "the same name more than once", "unique names")
    for stem in stems:
        if stem in ("", ".", "..") or set(stem) & set("/\\\0"):
            raise fail("names", repr(stem), "plain file names without a folder")
    with atomic_folder(folder, overwrite=overwrite) as work:
        for stem, mask in zip(stems, ids.cpu(), strict=True):
            write_mask(work / f"{stem}.png", mask)


def read_mask(path: PathLike, *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Reads a mask image as ids.

    ==================================  ==================================================================
     image                               ids
    ==================================  ==================================================================
     palette of `davis_palette`          the indices
     palette, index 0 the darkest        the indices
     palette, any other                  as colour
     one bit                             0 and 1
     grey, only black and white          0 and 1
     grey, anything else                 the grey values (with transparency as well)
     grey of 16 bits                     the same; values above 255 other than white are refused
     colour, one colour on black         0 and 1
     colour, colours of `davis_palette`  their ids
     JPEG                                1 where the brightness is 128 or more, as compression blurs values
    ==================================  ==================================================================

    Transparency counts as black. An EXIF orientation is applied, as it is to frames.

    Args:
        path: an image file that Pillow can read (png, bmp, gif, jpg, ...).
        max_pixels: the largest image that is decoded, 64 million pixels unless more are allowed.

    Returns:
        ``[H, W]`` uint8.

    Raises:
        InputError: if the file is missing or is no image, or if its colours or values name no ids.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> file = Path(tempfile.mkdtemp()) / "mask.png"
        >>> Image.new("L", (3, 2), 255).save(file)
        >>> read_mask(file).tolist()
        [[1, 1, 1], [1, 1, 1]]
    """
    from PIL import ImageOps

    check_count("max_pixels", max_pixels)
    file = as_path("path", path)
    with load_image(file, max_pixels) as stored, decoding(file):
        image = ImageOps.exif_transpose(stored)
        if image.mode == "P" and _indices_are_ids(image):
            return torch.from_numpy(np.array(image))
        if stored.format in ("JPEG", "MPO"):
            return torch.from_numpy((np.asarray(image.convert("L")) >= 128).astype(np.uint8))
        if image.mode in ("1", "L") or image.mode.startswith("I"):
            return _grey_ids(file, np.asarray(image), image.mode)
        pixels = composite_over_black(image)
        if image.mode == "LA":
            return _grey_ids(file, pixels[..., 0], "L")
        return _colour_ids(file, pixels)


def read_ids(path: PathLike) -> Tensor:
    """Reads a mask image whose pixels are ids: the indices of a palette or the grey values, as they are stored.

    ``read_mask`` looks at colours too, and takes a grey image of one value for one object; where several objects have
    fixed numbers, as in DAVIS-2017, a frame that shows the second alone must not say 1.

    Args:
        path: an image file of mode P, L or 1.

    Returns:
        ``[H, W]`` uint8.

    Raises:
        InputError: if the file is missing, is no image, or holds colours.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "mask.png"
        >>> write_mask(file, torch.tensor([[0, 2], [2, 255]]))
        >>> read_ids(file).tolist()
        [[0, 2], [2, 255]]
    """
    file = as_path("path", path)
    with load_image(file) as image, decoding(file):
        if image.mode not in ("P", "L", "1"):
            raise fail("path", f"'{file}' of mode {image.mode}", "ids in a palette or grey image of 8 bits")
        return torch.from_numpy(np.array(image, dtype=np.uint8))


def save_npz(path: PathLike, /, **tensors: object) -> None:
    """Writes tensors into one compressed archive that ``numpy.load`` reads with ``allow_pickle=False``.

    Args:
        path: file to write, ending in ``.npz``; it appears whole or not at all.
        **tensors: tensors on any device, arrays, numbers or lists of text, each under its name. bfloat16,
            which NumPy lacks, becomes float32; a bool mask stays a plain bool array.

    Raises:
        InputError: for another suffix, a value that is not an array, or a place that cannot be written to.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "result.npz"
        >>> save_npz(file, mask=torch.ones(2, 2, dtype=torch.bool))
        >>> with np.load(file) as archive:
        ...     archive["mask"].sum().item()
        4
    """
    _check_suffix(path, ".npz")
    arrays: dict[str, Any] = {}
    for name, value in tensors.items():
        if name in ("file", "allow_pickle"):
            raise fail(name, "a tensor of that name", "another name; NumPy keeps this one for itself")
        arrays[name] = _as_array(name, value)
    with atomic_file(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def _as_array(name: str, value: object) -> np.ndarray[Any, Any]:
    if isinstance(value, Tensor):
        plain = value.detach().float() if value.dtype == torch.bfloat16 else value.detach()
        return np.asarray(plain.cpu().numpy())
    try:
        array = np.asarray(value)
    except ValueError as error:  # a ragged list
        raise fail(name, str(error), "a tensor or an array") from error
    if array.dtype.hasobject:
        raise fail(name, type(value).__name__, "a tensor or an array of numbers or text")
    return array


def _check_suffix(path: PathLike, suffix: str) -> None:
    file = as_path("path", path)
    if file.suffix.lower() != suffix:
        raise fail("path", f"'{file}'", f"a file name ending in {suffix}")


def _check_ids(argument: str, ids: Tensor, shape: str) -> Tensor:
    """Returns ``ids`` as uint8 after checking shape, type and values."""
    if isinstance(ids, Tensor) and ids.dtype not in _INTEGERS:
        remedy = "compare a probability with a threshold first, for example probability > 0.5"
        raise fail(argument, str(ids.dtype), "a bool tensor or integer ids", remedy)
    check_tensor(argument, ids.to(torch.int64) if isinstance(ids, Tensor) else ids, shape, kind="int64")
    if ids.numel() == 0:
        raise fail(argument, f"shape {tuple(ids.shape)}", "at least one pixel")
    if ids.dtype not in (torch.bool, torch.uint8):
        low, high = (int(bound) for bound in ids.aminmax())
        if low < 0 or high > 255:
            raise fail(argument, f"ids from {low} to {high}", "ids from 0 to 255, which is what a palette PNG holds")
    return ids.to(torch.uint8)


def _indices_are_ids(image: Image) -> bool:
    """Whether the indices of a palette image are ids: programs that count colours may give the ground any index."""
    used = np.unique(np.asarray(image))
    palette = np.zeros((256, 3), dtype=np.int64)
    stored = np.array(image.getpalette("RGB") or [], dtype=np.int64).reshape(-1, 3)
    palette[: len(stored)] = stored
    if (palette[used] == davis_palette().numpy()[used]).all():
        return True
    brightness = palette @ np.array([299, 587, 114])
    return bool((brightness[0] <= brightness[used]).all())


def _grey_ids(file: Path, values: np.ndarray[Any, Any], mode: str) -> Tensor:
    white = {"1": 1, "L": 255}.get(mode, 65535)
    distinct = np.unique(values).astype(np.int64)
    if np.isin(distinct, (0, white)).all():
        values = values != 0
    elif distinct[-1] > 255:
        raise InputError(f"path: got '{file}' with grey values up to {distinct[-1]}, wanted ids from 0 to 255")
    return torch.from_numpy(values.astype(np.uint8))


def _colour_ids(file: Path, pixels: np.ndarray[Any, Any]) -> Tensor:
    codes = pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])  # [H, W]
    distinct, inverse = np.unique(codes, return_inverse=True)
    colours = distinct[distinct != 0]
    palette = davis_palette().numpy().astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    if len(colours) <= 1:
        ids = (distinct != 0).astype(np.uint8)
    elif np.isin(distinct, palette).all():
        order = np.argsort(palette)
        ids = order[np.searchsorted(palette, distinct, sorter=order)].astype(np.uint8)
    else:
        wanted = "one colour on black, or the colours of the DAVIS palette"
        raise fail("path", f"'{file}' with {len(colours)} colours", wanted, "save masks as palette PNGs")
    return torch.from_numpy(ids[inverse].reshape(codes.shape))
