"""Pictures of every step, on the device of their input: uint8 ``[T, 3, H, W]`` throughout.

``gpuvos.viz.contact_sheet`` puts them together on one page.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nnf
from torch import Tensor

from gpuvos.data.atomic import PathLike, atomic_file
from gpuvos.errors import (
    check_color,
    check_count,
    check_index,
    check_positive,
    check_share,
    check_size,
    check_tensor,
    fail,
)

Color = tuple[int, int, int]

# From dark to light, lightness rising evenly: night, violet, magenta, coral, amber, cream.
_HEAT = (
    (6, 6, 26),
    (60, 20, 104),
    (136, 36, 122),
    (206, 66, 98),
    (246, 126, 74),
    (253, 192, 108),
    (252, 250, 206),
)
_MOST_QUANTILE_VALUES = 1 << 20


def embedding_colors(embedding: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
    """Shows an embedding by its three principal components as red, green and blue.

    One basis serves the whole clip, so that colours compare between frames. Every component is signed so that
    its largest loading is positive, and scaled from its 1st to its 99th percentile; a constant one is grey.

    Args:
        embedding: ``[T, D, h, w]`` float.
        size: (H, W) of the picture; the embedding's own where None. Colours are interpolated.

    Returns:
        ``[T, 3, H, W]`` uint8.

    Raises:
        InputError: if ``embedding`` is not a float tensor of four dimensions.

    Example:
        >>> embedding_colors(torch.rand(2, 8, 4, 5), size=(8, 10)).shape
        torch.Size([2, 3, 8, 10])
    """
    dims = check_tensor("embedding", embedding, "T D h w")
    if size is not None:
        check_size("size", size)
    points = embedding.detach().movedim(1, -1).flatten(0, 2).double().nan_to_num(0.0, 0.0, 0.0)  # [N, D]
    if points.numel():  # a power of two, which changes no digit, keeps squares of the largest from overflowing
        points = torch.ldexp(points, -torch.frexp(points.abs().amax())[1].clamp(min=0))
    points = nnf.pad(points - points.mean(0), (0, max(0, 3 - dims["D"])))  # at least three channels
    _, basis = torch.linalg.eigh(points.T @ points / max(len(points), 1))  # ascending; 32 bits round by the threads
    basis = basis.flip(1)[:, :3]  # [D, 3]
    # Of loadings equal up to rounding the first counts, so that rounding does not choose the sign.
    order = torch.linspace(1, 0.99, len(basis), device=basis.device)[:, None]
    largest = basis.gather(0, (basis.abs() * order).argmax(0, keepdim=True))
    parts = points @ (basis * torch.where(largest < 0, -1.0, 1.0))  # [N, 3]
    low, high = (torch.stack([_quantile(part, level) for part in parts.unbind(1)]) for level in (0.01, 0.99))
    # Without a floor, a component that is constant up to rounding would be blown up into coloured noise.
    spread = (high - low).clamp(min=1e-12)
    spread = torch.maximum(spread, 1e-3 * spread.max())
    colors = (0.5 + (parts - (low + high) / 2) / spread).clamp(0, 1)
    picture = colors.reshape(dims["T"], dims["h"], dims["w"], 3).movedim(-1, 1)
    if size is not None and picture.numel():
        picture = nnf.interpolate(picture, size, mode="bilinear", align_corners=False)
    return _to_uint8(picture)


def heatmap(values: Tensor, *, low: float | None = None, high: float | None = None) -> Tensor:
    """Shows one number a pixel by a colour map whose lightness rises evenly from night blue to cream.

    Args:
        values: ``[T, h, w]`` float. NaN and -inf take the lowest colour, inf the highest.
        low: value of the lowest colour; the smallest finite value of the clip where None.
        high: value of the highest colour; the largest finite value of the clip where None.

    Returns:
        ``[T, 3, h, w]`` uint8. A constant map takes the lowest colour.

    Raises:
        InputError: if ``values`` is not a float tensor of three dimensions, or ``low`` is not below ``high``.

    Example:
        >>> heatmap(torch.tensor([[[0.0, 1.0]]]))[0, :, 0].tolist()
        [[6, 252], [6, 250], [26, 206]]
    """
    check_tensor("values", values, "T h w")
    for name, bound in (("low", low), ("high", high)):
        if bound is not None and not (isinstance(bound, int | float) and math.isfinite(bound)):
            raise fail(name, repr(bound), "a finite number, or None")
    if low is not None and high is not None and not low < high:
        raise fail("low", repr(low), f"a number below high = {high}")
    if not values.numel():
        return torch.zeros_like(values, dtype=torch.uint8)[:, None].expand(-1, 3, -1, -1)
    values = values.float()
    finite = values.isfinite()
    infinity = values.new_tensor(math.inf)
    first = torch.where(finite, values, infinity).amin() if low is None else values.new_tensor(low)
    last = torch.where(finite, values, -infinity).amax() if high is None else values.new_tensor(high)
    level = (values - first) / (last - first).clamp(min=torch.finfo(torch.float32).tiny)
    level = level.nan_to_num(0.0, 1.0, 0.0).clamp(0, 1) * (len(_HEAT) - 1)
    level = torch.where(values == math.inf, len(_HEAT) - 1.0, level)
    table = values.new_tensor(_HEAT) / 255
    below = level.long().clamp(max=len(_HEAT) - 2)
    colors = torch.lerp(table[below], table[below + 1], (level - below)[..., None])
    return _to_uint8(colors.movedim(-1, 1))


def flow_colors(flow: Tensor, *, largest: float | None = None) -> Tensor:
    """Shows a flow field by its colour wheel: hue is the direction, saturation the length, white is rest.

    Red points right, and hues go round by way of yellow-green (down), cyan (left) and violet (up).

    Args:
        flow: ``[T, 2, h, w]`` float, (x, y) in pixels. NaN and infinite vectors are shown as rest.
        largest: length of full saturation; the 99th percentile of the clip's lengths where None.

    Returns:
        ``[T, 3, h, w]`` uint8.

    Raises:
        InputError: if ``flow`` is not a float tensor ``[T, 2, h, w]``, or ``largest`` is not positive.

    Example:
        >>> flow_colors(torch.tensor([[[[0.0, 3.0]], [[0.0, 0.0]]]]), largest=3.0)[0, :, 0].tolist()
        [[255, 255], [255, 0], [255, 0]]
    """
    check_tensor("flow", flow, "T 2 h w")
    flow = torch.where(flow.isfinite().all(1, keepdim=True), flow, 0.0).float()
    length = flow.norm(dim=1)
    if largest is None:
        top = flow_scale(flow)
    else:
        check_positive("largest", largest)
        top = length.new_tensor(largest)
    hue = torch.atan2(flow[:, 1], flow[:, 0]) / math.tau
    return _to_uint8(_hsv(hue, (length / top).clamp(max=1), torch.ones_like(length)))


def flow_scale(flow: Tensor) -> Tensor:
    """The length [] that ``flow_colors`` shows in full colour: the 99th percentile of the clip's."""
    check_tensor("flow", flow, "T 2 h w")
    flow = torch.where(flow.isfinite().all(1, keepdim=True), flow, 0.0).float()
    return _quantile(flow.norm(dim=1).flatten(), 0.99).clamp(min=1e-6)


def region_colors(label: Tensor, *, borders: bool = False) -> Tensor:
    """Shows a labelling by one colour a label, the same in every frame.

    Args:
        label: ``[T, h, w]`` int64; -1 is black.
        borders: whether to paint pixels black that differ from the pixel on their right or below them.

    Returns:
        ``[T, 3, h, w]`` uint8.

    Raises:
        InputError: if ``label`` is not an int64 tensor of three dimensions.

    Example:
        >>> region_colors(torch.tensor([[[-1, 0, 1]]]))[0, :, 0, 0].tolist()
        [0, 0, 0]
    """
    check_tensor("label", label, "T h w", kind="int64")
    picture = _label_colors(label).movedim(-1, 1)
    if borders:
        below = nnf.pad(label[:, :-1] != label[:, 1:], (0, 0, 0, 1))
        beside = nnf.pad(label[:, :, :-1] != label[:, :, 1:], (0, 1))
        picture = picture.masked_fill((below | beside)[:, None], 0)
    return picture


def draw_points(
    image: Tensor,
    index: Tensor,
    grid: tuple[int, int],
    *,
    valid: Tensor | None = None,
    color: Color = (255, 255, 255),
    group: Tensor | None = None,
    radius: int = 3,
) -> Tensor:
    """Draws a disc with a dark rim at every point of a grid. Of discs that overlap, the later one is on top.

    Args:
        image: ``[T, 3, H, W]`` uint8 or float in [0, 1].
        index: ``[T, K]`` int64 raster index y * w + x of the points; -1 is not drawn, nor is
            one beyond the grid.
        grid: (h, w) of the grid, spread over the whole image: cell (y, x) is centred on
            ``((y + 1/2) H / h - 1/2, (x + 1/2) W / w - 1/2)``.
        valid: ``[T, K]`` bool, the points to draw; all where None.
        color: red, green and blue of all points.
        group: ``[T, K]`` int64; points take the colour of this number in ``region_colors`` instead of ``color``.
        radius: radius of the discs in pixels, 0 or more; the rim adds one pixel.

    Returns:
        ``[T, 3, H, W]`` uint8.

    Raises:
        InputError: if a shape or dtype is wrong, ``radius`` is negative or ``grid`` is empty.

    Example:
        >>> black = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
        >>> draw_points(black, torch.tensor([[3]]), (2, 2), radius=0)[0, 0].nonzero().tolist()
        [[2, 2]]
    """
    dims = check_tensor("image", image, "T 3 H W", kind="frames")
    dims = check_tensor("index", index, "T K", kind="int64", sizes=dims, like=image)
    for name, value, kind in (("valid", valid, "bool"), ("group", group, "int64")):
        if value is not None:
            check_tensor(name, value, "T K", kind=kind, sizes=dims, like=image)
    check_count("radius", radius, 0)
    check_size("grid", grid)
    check_color("color", color)
    drawn = (index >= 0) if valid is None else (index >= 0) & valid
    frames, points, height, width = dims["T"], dims["K"], dims["H"], dims["W"]
    # Half a pixel rounds down: a point between two pixels goes to the first.
    row = torch.ceil((index // grid[1] + 0.5) * (height / grid[0]) - 1).long()  # [T, K]
    column = torch.ceil((index % grid[1] + 0.5) * (width / grid[1]) - 1).long()
    reach = torch.arange(-radius - 1, radius + 2, device=image.device)
    down, right = torch.meshgrid(reach, reach, indexing="ij")
    distance = torch.hypot(down.float(), right.float()).flatten()  # [R]
    inside = distance <= radius + 0.35
    row, column = row[..., None] + down.flatten(), column[..., None] + right.flatten()  # [T, K, R]
    rim = ~inside & (distance <= radius + 1.35) & (radius > 0)
    kept = drawn[..., None] & (inside | rim) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    # The highest of 2 k + 1 (disc), 2 k (rim) wins a pixel: the maximum of integers is the same in every run.
    # What is not to be drawn goes to one spare pixel behind the last.
    place = torch.where(kept, row * width + column, height * width).flatten(1)
    rank = (2 * torch.arange(points, device=image.device)[:, None] + inside).expand(frames, -1, -1).flatten(1)
    owner = torch.full((frames, height * width + 1), -1, device=image.device)
    owner = owner.scatter_reduce(1, place, rank, "amax")[:, :-1].view(frames, height, width)
    paint = torch.tensor(color, dtype=torch.uint8, device=image.device).expand(frames, points, 3)
    if group is not None:
        paint = _label_colors(group)
    paint = nnf.pad(paint, (0, 0, 0, 1))  # [T, K + 1, 3]; a spare point, so that K may be 0
    point = (owner.clamp(min=0) // 2).flatten(1)[..., None].expand(-1, -1, 3)
    picture = paint.gather(1, point).view(frames, height, width, 3).movedim(-1, 1)
    picture = picture.masked_fill((owner % 2 == 0)[:, None], 12)
    return torch.where((owner >= 0)[:, None], picture, to_frames(image))


def overlay(
    frames: Tensor,
    mask: Tensor,
    *,
    color: Color = (255, 40, 160),
    alpha: float = 0.45,
    contour: bool = True,
) -> Tensor:
    """Lays a mask over frames: ``(1 - alpha) * frame + alpha * color`` inside, its contour in full colour.

    Args:
        frames: ``[T, 3, H, W]`` uint8 or float in [0, 1].
        mask: ``[T, H, W]`` bool.
        color: red, green and blue of the mask.
        alpha: share of the colour inside of the mask, 0 to 1.
        contour: whether to draw the outline (see ``mask_contour``).

    Returns:
        ``[T, 3, H, W]`` uint8.

    Raises:
        InputError: if a shape or dtype is wrong, or ``alpha`` is outside of 0 to 1.

    Example:
        >>> frames = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
        >>> mask = torch.tensor([[[True, False], [False, False]]])
        >>> overlay(frames, mask, color=(200, 0, 0), alpha=0.5, contour=False)[0, :, 0, 0].tolist()
        [150, 50, 50]
    """
    sizes = check_tensor("frames", frames, "T 3 H W", kind="frames")
    check_tensor("mask", mask, "T H W", kind="bool", sizes=sizes, like=frames)
    check_share("alpha", alpha)
    check_color("color", color)
    picture = to_frames(frames)
    paint = torch.tensor(color, dtype=torch.uint8, device=frames.device)[:, None, None]
    mixed = torch.lerp(picture.float(), paint.float().expand_as(picture), alpha).round().to(torch.uint8)
    picture = torch.where(mask[:, None], mixed, picture)
    return torch.where(mask_contour(mask)[:, None], paint, picture) if contour else picture


def mask_contour(mask: Tensor, *, thickness: int = 1) -> Tensor:
    """The pixels of a mask within ``thickness`` steps (right, left, up, down) of a pixel that is not in it.

    Args:
        mask: ``[T, H, W]`` bool. Beyond the frame the mask goes on, so that its side is no contour.
        thickness: in pixels, 1 or more.

    Returns:
        ``[T, H, W]`` bool.

    Raises:
        InputError: if ``mask`` is not a bool tensor of three dimensions, or ``thickness`` is not positive.

    Example:
        >>> mask_contour(torch.tensor([[[True, True, False]]])).tolist()
        [[[False, True, False]]]
    """
    check_tensor("mask", mask, "T H W", kind="bool")
    check_count("thickness", thickness)
    inner = mask
    for _ in range(thickness):
        padded = nnf.pad(inner, (1, 1, 1, 1), value=True)
        inner = inner & padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1] & padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    return mask & ~inner


def saliency_map(label: Tensor, values: Tensor) -> Tensor:
    """Gives every pixel the value of the seed in whose region it lies.

    Args:
        label: ``[T, h, w]`` int64 seed numbers; -1 is none.
        values: ``[T, K]`` float, one a seed.

    Returns:
        ``[T, h, w]`` of the dtype of ``values``; 0 where the label is -1.

    Raises:
        InputError: if a shape or dtype is wrong.

    Example:
        >>> saliency_map(torch.tensor([[[1, 0, -1]]]), torch.tensor([[0.25, 0.75]])).tolist()
        [[[0.75, 0.25, 0.0]]]
    """
    sizes = check_tensor("label", label, "T h w", kind="int64")
    check_tensor("values", values, "T K", sizes=sizes, like=label)
    check_index("label", label, -1, values.shape[1])
    padded = nnf.pad(values, (0, 1))  # the last one, 0, is for -1
    number = torch.where(label < 0, values.shape[1], label)
    return padded.gather(1, number.flatten(1)).view_as(label)


def to_frames(image: Tensor) -> Tensor:
    """Pictures ``[T, 3, H, W]`` as uint8, from uint8 or from float in [0, 1]."""
    check_tensor("image", image, "...", kind="frames")
    return image if image.dtype == torch.uint8 else _to_uint8(image)


def save_png(path: PathLike, image: Tensor) -> None:
    """Writes a picture to a PNG file: all of it or, if anything fails, none of it.

    Args:
        path: the file to write. It is replaced if it exists; its folder is made if it does not.
        image: ``[3, H, W]`` uint8, or float in [0, 1].

    Raises:
        InputError: if ``image`` is no such tensor, or ``path`` cannot be written.
    """
    from PIL import Image

    check_tensor("image", image, "3 H W", kind="frames", filled=True)
    pixels = to_frames(image).movedim(0, -1).contiguous().cpu().numpy()
    with atomic_file(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)  # 6 takes thrice as long


def _to_uint8(picture: Tensor) -> Tensor:
    """[0, 1] to 0 to 255."""
    return (picture.float() * 255).round().clamp(0, 255).to(torch.uint8)


def _quantile(values: Tensor, level: float) -> Tensor:
    """A quantile [] of values [N], of every n-th one where there are very many; 0 where there is none."""
    values = values[:: max(1, math.ceil(len(values) / _MOST_QUANTILE_VALUES))]
    return values.quantile(level) if len(values) else values.new_zeros(())


def _label_colors(label: Tensor) -> Tensor:
    """uint8 [..., 3] of labels [...]. Neighbouring numbers are far apart in hue; -1 is black."""
    number = label.double()
    hue = (number * 0.6180339887498949) % 1
    saturation = 0.4 + 0.16 * (number % 3)
    value = torch.where(label < 0, 0.0, 1.0 - 0.15 * (number % 4) / 3 - 0.1 * (number % 2))
    return _to_uint8(_hsv(hue, saturation, value).movedim(1, -1))


def _hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """RGB in [0, 1] of hue (1 is a full turn), saturation and value: three of ``[T, ...]`` -> ``[T, 3, ...]``."""
    channels = []
    for start in (5, 3, 1):
        sector = (start + hue * 6) % 6
        channels.append(value - value * saturation * torch.minimum(sector, 4 - sector).clamp(0, 1))
    return torch.stack(channels, dim=1)
