"""Rendered clips with exact ground truth: masks, instances, flow and visibility of textured moving objects.

A clip is a stack of layers, back to front: the scene, the objects and, in one scene, a pillar. A layer is a
texture, an outline and, for every frame, a similarity transform from its own coordinates to the view. With
points as complex numbers the transform is ``z -> turn * z + shift``, so where a visible point is in the next
frame (the flow), and whether something covers it there, has a closed form: nothing is estimated.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as nnf
from torch import Tensor

from gpuvos.errors import check_choice, check_positive, fail

_PIXELS_AT_ONCE = 1 << 20
Scene = Literal["single", "occlusion", "twins", "late", "static", "two"]
SCENES: tuple[Scene, ...] = get_args(Scene)


class RenderedClip(NamedTuple):
    """A rendered clip and everything that is true of it."""

    frames: Tensor  # [T, 3, H, W] uint8
    mask: Tensor  # [T, H, W] bool, the objects that move relative to the scene: the foreground
    instances: Tensor  # [T, H, W] int64, visible pixels: 0 scene, 1..n objects, whether they move or not
    flow: Tensor  # [T, 2, H, W] float32 (x, y) in pixels, t to t + 1; last frame: change from t - 1 to t
    visible: Tensor  # [T, H, W] bool, the surface point is in view and uncovered at t + 1; last frame: t - 1


class _Pose(NamedTuple):
    """Where a layer is: its point z is seen at ``turn * z + shift`` (complex; |turn| is the scale)."""

    turn: Tensor  # [T] complex128
    shift: Tensor  # [T] complex128, pixels from the centre of the view

    def within(self, outer: _Pose) -> _Pose:
        """The pose in the view of a layer whose pose in ``outer`` is this one."""
        return _Pose(outer.turn * self.turn, outer.turn * self.shift + outer.shift)


class _Blob(NamedTuple):
    """A smooth closed outline: radius(angle) = size * (1 + sum of amplitude * cos(order * angle + phase))."""

    size: float
    amplitude: Tensor  # [4] of the orders 2, 3, 4, 5
    phase: Tensor  # [4]

    def radius(self, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Radius, and its derivative by the angle, in every direction (complex, of length 1)."""
        # cos and sin of order * angle are the parts of the direction's powers, far cheaper than trigonometry.
        radius, slope = torch.ones_like(direction.real), torch.zeros_like(direction.real)
        power = direction
        for order, wave in enumerate(torch.polar(self.amplitude, self.phase).tolist(), start=2):
            power = power * direction
            radius = radius + wave.real * power.real - wave.imag * power.imag
            slope = slope - order * (wave.real * power.imag + wave.imag * power.real)
        return self.size * radius, self.size * slope

    def distance(self, point: Tensor) -> Tensor:
        """Signed distance to the outline, exact in sign and to first order in size: negative inside."""
        length = point.abs()
        radius, slope = self.radius(torch.where(length > 0, point / length, 1))
        return (length - radius) / torch.sqrt(1 + (slope / radius) ** 2)


class _Strip(NamedTuple):
    """An endless upright pillar about x = 0."""

    size: float

    def distance(self, point: Tensor) -> Tensor:
        """Signed distance to the nearer edge, negative inside."""
        return point.real.abs() - self.size


class _Layer(NamedTuple):
    """A textured outline in motion."""

    pose: _Pose
    outline: _Blob | _Strip | None  # None: everywhere
    texture: Tensor  # [3, h, w] in [0, 1], centred on the layer's origin, one texel a pixel at scale 1
    instance: int
    moves: bool


class _View(NamedTuple):
    """What every layer needs to know about the clip."""

    num_frames: int
    height: int
    width: int
    speed: float
    generator: torch.Generator

    def uniform(self, low: float, high: float) -> float:
        """One random number in [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))


def render_clip(
    scene: Scene = "single",
    *,
    num_frames: int = 24,
    height: int = 240,
    width: int = 432,
    seed: int = 0,
    speed: float = 5.0,
    camera_speed: float = 1.5,
    noise: float = 1.5,
    device: torch.device | str = "cpu",
) -> RenderedClip:
    """Renders a clip whose masks, instances, flow and visibility are known exactly.

    Objects are smooth blobs with a texture of their own that translate, rotate and change size over a
    textured scene, which the camera pans, zooms and turns over. Textures are smooth, so nothing is aliased.

    ===========  ==========================================================================================
    scene        what happens
    ===========  ==========================================================================================
    single       one object moves
    occlusion    one object moves behind a pillar that stands in the scene (half way through the clip)
    twins        two objects of the same look, only the first moves
    late         the object comes into view after a third of the frames; the mask is empty before
    static       one object that does not move relative to the scene; the mask is empty
    two          two objects of different looks move
    ===========  ==========================================================================================

    Args:
        scene: one of the above.
        num_frames: T, 1 or more; paths turn round before they leave the view, however long the clip.
        height: H in pixels, 1 or more.
        width: W in pixels, 1 or more.
        seed: looks, outlines and paths are drawn with it. Equal seeds give equal clips.
        speed: of the objects relative to the scene, at most, in pixels a frame.
        camera_speed: of the pan, at most, in pixels a frame; 0 holds the camera still.
        noise: standard deviation of the sensor noise in grey levels.
        device: where to render. Random numbers are drawn on the CPU, so clips agree between devices.

    Returns:
        The clip. In the last frame, flow and visibility look back: a point was at ``position - flow`` in the
        frame before, and was visible there. A clip of one frame has flow 0 and is visible everywhere.

    Raises:
        InputError: if the scene is unknown, a size is not 1 or more, the seed is no integer, or a speed or
            the noise is negative.

    Example:
        >>> clip = render_clip("twins", num_frames=4, height=48, width=64)
        >>> clip.frames.shape, int(clip.instances.max())
        (torch.Size([4, 3, 48, 64]), 2)
    """
    check_choice("scene", scene, SCENES)
    for argument, size in (("num_frames", num_frames), ("height", height), ("width", width)):
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise fail(argument, repr(size), "an integer of 1 or more")
    for argument, rate in (("speed", speed), ("camera_speed", camera_speed), ("noise", noise)):
        check_positive(argument, rate, zero=True)
    if not isinstance(seed, int):
        raise fail("seed", repr(seed), "an integer")
    generator = torch.Generator().manual_seed(seed % 2**63)
    view = _View(num_frames, height, width, speed, generator)
    layers = _layers(scene, view, camera_speed)
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    grid = torch.complex(
        (columns - (width - 1) / 2).expand(height, width),
        (rows[:, None] - (height - 1) / 2).expand(height, width),
    )  # [H, W]
    grain = torch.randn((num_frames, 1, height, width), generator=generator) * noise if noise else None
    # The frame that each frame is joined to: the next one; for the last frame, the one before.
    other = torch.cat([torch.arange(1, num_frames), torch.tensor([max(0, num_frames - 2)])])
    parts = []
    # A few frames at a time: the many intermediate results of a long clip would not fit into any cache.
    step = max(1, _PIXELS_AT_ONCE // (height * width))
    for at in (torch.arange(start, min(start + step, num_frames)) for start in range(0, num_frames, step)):
        image, top = _composite(_at(layers, at), grid)
        if grain is not None:
            image = image + grain[at].to(device)
        frames = image.round().clamp(0, 255).to(torch.uint8)
        parts.append((frames, top, *_motion(_at(layers, at), _at(layers, other[at]), grid, top)))
    frames, top, flow, visible = (torch.cat(part) for part in zip(*parts, strict=True))
    flow[-1] = -flow[-1]
    instances = torch.tensor([layer.instance for layer in layers], device=device)[top]
    mask = torch.tensor([layer.moves for layer in layers], device=device)[top]
    return RenderedClip(frames, mask, instances, flow, visible)


def _at(layers: list[_Layer], frames: Tensor) -> list[_Layer]:
    """The layers at some of the frames [n]."""
    return [layer._replace(pose=_Pose(*(part[frames] for part in layer.pose))) for layer in layers]


def _composite(layers: list[_Layer], grid: Tensor) -> tuple[Tensor, Tensor]:
    """Paints the layers back to front: grey levels ``[T, 3, H, W]``, number of the top layer ``[T, H, W]``."""
    image = _sample(layers[0].texture.to(grid.device), _inverse(layers[0].pose, grid))
    top = torch.zeros(len(layers[0].pose.turn), *grid.shape, dtype=torch.int64, device=grid.device)
    for number, layer in enumerate(layers):
        if layer.outline is None:
            continue
        point = _inverse(layer.pose, grid)  # [T, H, W]
        colour = _sample(layer.texture.to(grid.device), point)
        distance = layer.outline.distance(point)
        scale = _pixels(layer.pose.turn.abs(), grid)
        if isinstance(layer.outline, _Blob):
            # Darker towards the rim and lighter from above: roundness, painted on, so it moves along.
            inside = (-distance / layer.outline.size).clamp(0, 1)
            light = 0.72 + 0.55 * inside * (2 - inside) - 0.12 * point.imag / layer.outline.size
            colour = (colour * light[:, None]).clamp(0, 1)
        # An edge one pixel wide is what a pixel-sized sensor sees of a straight outline.
        alpha = (0.5 - distance * scale).clamp(0, 1)[:, None]
        image = torch.lerp(image, colour, alpha)
        top = torch.where(distance <= 0, number, top)
    return image * 255, top


def _motion(here: list[_Layer], there: list[_Layer], grid: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """Change of place ``[T, 2, H, W]`` of the points seen, and whether they are seen there ``[T, H, W]``."""
    # A point at z goes to turn' * (z - shift) / turn + shift'. The change is arranged to be exactly zero
    # for a pose that stays; the small differences are taken in double precision.
    turn, shift, new_turn, new_shift = (
        torch.stack([layer.pose[part] for layer in layers]) for layers in (here, there) for part in (0, 1)
    )  # [L, T]
    gain = (new_turn - turn) / turn
    offset = new_shift - shift - gain * shift
    frame = torch.arange(len(top), device=grid.device)[:, None, None]
    gain, offset = (value.to(grid.device, torch.complex64)[top, frame] for value in (gain, offset))  # [T, H, W]
    change = gain * grid + offset
    target = grid + change
    limit_x, limit_y = (grid.shape[1] - 1) / 2, (grid.shape[0] - 1) / 2
    visible = (target.real.abs() <= limit_x) & (target.imag.abs() <= limit_y)
    for number, layer in enumerate(there):
        if layer.outline is not None:
            covered = layer.outline.distance(_inverse(layer.pose, target)) <= 0
            visible &= ~(covered & (number > top))
    return torch.stack([change.real, change.imag], dim=1), visible


def _inverse(pose: _Pose, point: Tensor) -> Tensor:
    """Points ``[H, W]`` or ``[T, H, W]`` of the view in the layer's coordinates ``[T, H, W]``."""
    return (point - _pixels(pose.shift, point)) * _pixels(1 / pose.turn, point)


def _pixels(value: Tensor, like: Tensor) -> Tensor:
    """A number a frame [T], as ``[T, 1, 1]`` in single precision on the device of ``like``."""
    dtype = torch.complex64 if value.is_complex() else torch.float32
    return value.to(like.device, dtype)[:, None, None]


def _sample(texture: Tensor, point: Tensor) -> Tensor:
    """Texture ``[3, h, w]`` at points ``[T, H, W]`` -> ``[T, 3, H, W]``; mirrored at its ends, so it never runs out."""
    height, width = texture.shape[1:]
    grid = torch.stack([point.real * (2 / (width - 1)), point.imag * (2 / (height - 1))], dim=-1)
    batch = texture.expand(point.shape[0], 3, height, width)
    return nnf.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=True)


def _layers(scene: str, view: _View, camera_speed: float) -> list[_Layer]:
    """The layers of a scene, back to front."""
    camera = _camera(view, camera_speed)
    hue = view.uniform(0, 1)
    texture = _texture(view, 1.3 * view.height + 32, 1.3 * view.width + 32, (hue, hue + 0.12, hue + 0.3), 0.38)
    layers = [_Layer(camera, None, texture, 0, False)]
    outline, look = _object(view, hue + view.uniform(0.42, 0.58))
    height, width = view.height, view.width
    if scene == "static":
        place = complex(width * view.uniform(-0.2, 0.2), height * view.uniform(-0.12, 0.12))
        layers.append(_Layer(_still(view, place).within(camera), outline, look, 1, False))
    elif scene == "late":
        layers.append(_Layer(_entering_path(view, outline), outline, look, 1, True))
    elif scene == "twins":
        side = 1 if view.uniform(0, 1) < 0.5 else -1
        path = _path(view, complex(-0.17 * side * width, -0.05 * height), reach=0.17)
        twin = _still(view, complex(0.27 * side * width, 0.1 * height))
        layers.append(_Layer(twin.within(camera), outline, look, 2, False))
        layers.append(_Layer(path.within(camera), outline, look, 1, True))
    elif scene == "two":
        other_outline, other_look = _object(view, hue + view.uniform(0.7, 0.8))
        first = _path(view, complex(-0.12 * width, -0.14 * height), reach=0.2)
        second = _path(view, complex(0.12 * width, 0.2 * height), reach=0.2)
        layers.append(_Layer(first.within(camera), outline, look, 1, True))
        layers.append(_Layer(second.within(camera), other_outline, other_look, 2, True))
    else:
        layers.append(_Layer(_path(view, 0j).within(camera), outline, look, 1, True))
    if scene == "occlusion":
        # Narrower than the object, so that the object is cut in two but never lost.
        pillar = _Strip(0.5 * outline.size)
        breadth = 2 * pillar.size + 32
        stone = _texture(view, 1.3 * height + 32, breadth, (hue + 0.45, hue + 0.5, hue + 0.4), 0.15)
        layers.append(_Layer(_still(view, 0j).within(camera), pillar, stone, 0, False))
    return layers


def _object(view: _View, hue: float) -> tuple[_Blob, Tensor]:
    """An outline and a look."""
    size = 0.16 * min(view.height, view.width) * view.uniform(0.9, 1.15)
    amplitude = torch.rand(4, generator=view.generator) * torch.tensor([0.24, 0.12, 0.07, 0.04])
    phase = torch.rand(4, generator=view.generator) * math.tau
    texture = _texture(view, 3 * size + 16, 3 * size + 16, (hue, hue + 0.06, hue - 0.1), 0.85)
    return _Blob(size, amplitude, phase), texture


def _time(view: _View) -> Tensor:
    """Frames from the middle of the clip [T]."""
    return torch.arange(view.num_frames, dtype=torch.float64) - (view.num_frames - 1) / 2


def _camera(view: _View, speed: float) -> _Pose:
    """The scene in the view: a slow elliptic pan with a slight zoom and turn."""
    reach = 0.06 * view.width
    time = _time(view) * (min(speed / reach, 0.3) * (1 if view.uniform(0, 1) < 0.5 else -1))
    angle = 0.02 * torch.sin(time + view.uniform(0, math.tau))
    zoom = 1.03 + 0.03 * torch.sin(time + view.uniform(0, math.tau))
    shift = torch.complex(reach * torch.sin(time), 0.03 * view.height * torch.cos(time))
    return _Pose(torch.polar(zoom, angle), shift) if speed else _still(view, 0j)


def _still(view: _View, place: complex) -> _Pose:
    """A pose that does not change."""
    one = torch.ones(view.num_frames, dtype=torch.complex128)
    return _Pose(one, one * place)


def _turn(view: _View, time: Tensor) -> Tensor:
    """Slow rotation and change of size [T] of an object whose path has the phase ``time``."""
    angle = view.uniform(0, math.tau) + 0.3 * torch.sin(time + view.uniform(0, math.tau))
    return torch.polar(1 + 0.1 * torch.sin(time + view.uniform(0, math.tau)), angle)


def _path(view: _View, centre: complex, *, reach: float = 0.25) -> _Pose:
    """An elliptic path that is passed at full speed, straight across, in the middle of the clip."""
    across, down = reach * view.width, 0.12 * view.height
    time = _time(view) * (min(view.speed / across, 0.3) * (1 if view.uniform(0, 1) < 0.5 else -1))
    bend = 1 if view.uniform(0, 1) < 0.5 else -1
    shift = torch.complex(across * torch.sin(time), bend * down * (torch.cos(time) - 0.7)) + centre
    return _Pose(_turn(view, time), shift)


def _entering_path(view: _View, outline: _Blob) -> _Pose:
    """Waits just outside of the view for a third of the clip, then comes in and stays within."""
    side = 1 if view.uniform(0, 1) < 0.5 else -1
    reach = 0.2 * view.width
    travelled = (_time(view) - _time(view)[0] - view.num_frames // 3).clamp(min=0) * view.speed
    turn = _turn(view, travelled / reach)
    circle = torch.polar(torch.ones(721).double(), torch.linspace(0, math.tau, 721, dtype=torch.float64))
    rim = outline.radius(circle)[0] * circle * turn[:, None]  # [T, 721]
    start = view.width / 2 + 1 + float((rim.real * -side).max())
    # Straight in at full speed, then to and fro about the centre: the pieces join without a jump in speed.
    across = -start + travelled.clamp(max=start) + reach * torch.sin((travelled - start).clamp(min=0) / reach)
    return _Pose(turn, torch.complex(-side * across, torch.zeros_like(across)))


def _texture(view: _View, height: float, width: float, hues: tuple[float, float, float], saturation: float) -> Tensor:
    """Soft patches of three hues under finer changes of brightness ``[3, h, w]``, in [0, 1]."""
    size = (math.ceil(height), math.ceil(width))
    coarse = max(12.0, 0.2 * min(size))
    patches = [torch.sigmoid(9 * _noise(view, size, (coarse, coarse / 2))) for _ in range(2)]
    colours = [_colour(hue, saturation, value) for hue, value in zip(hues, (0.6, 0.36, 0.48), strict=True)]
    image = torch.lerp(colours[0], colours[1], patches[0])
    image = torch.lerp(image, colours[2], 0.7 * patches[1])
    grain = _noise(view, size, (48.0, 24.0, 12.0, 7.0))
    return (image * (1 + 0.55 * grain)).clamp(0.02, 0.98)


def _noise(view: _View, size: tuple[int, int], cells: tuple[float, ...]) -> Tensor:
    """Smooth noise about 0 ``[1, h, w]``: octaves of random grids of one knot every ``cell`` pixels."""
    rows = torch.arange(size[0], dtype=torch.float32)[:, None] - (size[0] - 1) / 2
    columns = torch.arange(size[1], dtype=torch.float32) - (size[1] - 1) / 2
    point = torch.complex(columns.expand(size), rows.expand(size))
    total = torch.zeros(1, 1, *size)
    for octave, cell in enumerate(cells):
        knots = math.ceil(math.hypot(*size) / cell) + 4
        values = torch.rand((1, 1, knots, knots), generator=view.generator) * 2 - 1
        # Every octave at an angle of its own: no direction of a grid shows in the sum.
        turned = torch.view_as_real(
            point * torch.polar(torch.tensor(1 / cell), torch.tensor(view.uniform(0, math.tau)))
        )
        grid = turned[None] * (2 / (knots - 1))
        total = total + 0.65**octave * nnf.grid_sample(values, grid, mode="bicubic", align_corners=True)
    return total[0]


def _colour(hue: float, saturation: float, value: float) -> Tensor:
    """A colour [3, 1, 1] from a smooth hue circle."""
    wave = torch.cos(math.tau * (hue - torch.tensor([0.0, 1 / 3, 2 / 3])))
    return (value * (1 + 0.75 * saturation * wave)).clamp(0, 1)[:, None, None]
