"""ESPNetv2 for segmentation: the encoder and the decoder that the embedding network is built on.

After S. Mehta, M. Rastegari, L. Shapiro and H. Hajishirzi, "ESPNetv2: A Light-weight, Power Efficient, and General
Purpose Convolutional Neural Network", CVPR 2019 (width s = 2.0), and the segmentation network its authors published
for PASCAL VOC. Maps are named by their stride: ``pool8`` works at an eighth of the image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate

SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)  # of the pyramid pooling
_SMALLEST = 5  # pixels of the coarsest map of a pyramid


class Pyramid(NamedTuple):
    """Maps of the network for one batch; the number is the stride."""

    encoder2: Tensor  # [N, 32, ceil(h/2), ceil(w/2)]
    encoder4: Tensor  # [N, 128, ceil(h/4), ceil(w/4)]
    encoder8: Tensor  # [N, 256, ...]
    encoder16: Tensor  # [N, 512, ...]
    decoder8: Tensor  # [N, 48, ...]
    decoder4: Tensor  # [N, 32, ...]
    decoder2: Tensor  # [N, 32, ...]
    logits2: Tensor  # [N, classes, ...]


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation, PReLU (or none)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.act: nn.Module = nn.PReLU(outputs) if active else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, outputs, ceil(H/stride), ceil(W/stride)]``."""
        y: Tensor = self.act(self.norm(self.conv(x)))
        return y


class NormAct(nn.Module):
    """Batch normalisation and PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same shape."""
        y: Tensor = self.act(self.norm(x))
        return y


class DilatedUnit(nn.Module):
    """The paper's EESP unit: reduce, four dilated depth-wise branches summed one onto the next, expand, residual.

    Args:
        inputs: channels.
        outputs: channels, a multiple of the number of branches.
        dilations: the dilations of the branches, ascending.
        stride: 1 with residual and activation; 2 without either (``DownUnit`` adds them).
    """

    def __init__(self, inputs: int, outputs: int, dilations: tuple[int, ...], *, stride: int = 1) -> None:
        super().__init__()
        branches = len(dilations)
        width = outputs // branches
        self.reduce = ConvNorm(inputs, width, 1, groups=branches)
        self.branches = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride, dilation, dilation, groups=width, bias=False) for dilation in dilations
        )
        self.middle = NormAct(outputs)
        self.expand = ConvNorm(outputs, outputs, 1, groups=branches, active=False)
        self.act = nn.PReLU(outputs) if stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """``[N, inputs, H, W]`` to ``[N, outputs, ceil(H/stride), ceil(W/stride)]``."""
        reduced = self.reduce(x)
        maps = [self.branches[0](reduced)]
        for branch in self.branches[1:]:
            maps.append(branch(reduced) + maps[-1])  # every map is the sum of those before
        y: Tensor = self.expand(self.middle(torch.cat(maps, 1)))
        return y if self.act is None else self.act(y + x)


class DownUnit(nn.Module):
    """Half the size: average pooling beside a strided unit, plus a projection of the image at that size."""

    def __init__(self, inputs: int, outputs: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.unit = DilatedUnit(inputs, outputs - inputs, dilations, stride=2)
        self.image = nn.Sequential(ConvNorm(3, 3, 3), ConvNorm(3, outputs, 1, active=False))
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """``[N, inputs, H, W]`` and the image ``[N, 3, H/2, W/2]`` to ``[N, outputs, H/2, W/2]``, sizes rounded up."""
        y: Tensor = self.act(torch.cat((halve(x), self.unit(x)), 1) + self.image(image))
        return y


class PyramidPooling(nn.Module):
    """Depth-wise filters at five scales of a narrow map, merged channel by channel.

    Args:
        inputs: channels.
        outputs: channels.
        width: channels of the narrow map.
        last: the result is a logit: a bias, and neither normalisation nor activation.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, last: bool = False) -> None:
        super().__init__()
        self.reduce = ConvNorm(inputs, width, 1)
        self.branches = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False) for _ in SCALES)
        self.middle = NormAct(width * len(SCALES))
        self.merge = ConvNorm(width * len(SCALES), width, 3, groups=width)
        self.expand = nn.Conv2d(width, outputs, 1, bias=last)
        self.out: nn.Module = nn.Identity() if last else NormAct(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, inputs, H, W]`` to ``[N, outputs, H, W]``."""
        x = self.reduce(x)
        n, width, h, w = x.shape
        size = (h, w)
        maps = []
        for scale, branch in zip(SCALES, self.branches, strict=True):
            scaled = scaled_size(size, scale)
            if scale > 1:
                maps.append(adaptive_avg_pool2d(branch(resize(x, scaled)), size))
            elif scale < 1:
                maps.append(resize(branch(adaptive_avg_pool2d(x, scaled)), size))
            else:
                maps.append(branch(x))
        y = self.middle(torch.cat(maps, 1))
        y = y.reshape(n, len(SCALES), width, *size).transpose(1, 2).flatten(1, 2)  # scales of a channel together
        result: Tensor = self.out(self.expand(self.merge(y)))
        return result


class GatedSkip(nn.Module):
    """From the encoder to the decoder: a grouped convolution, its channels weighted by what the image holds."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.conv = ConvNorm(inputs, outputs, 3, groups=math.gcd(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, inputs, H, W]`` to ``[N, outputs, H, W]``."""
        y: Tensor = self.conv(x) * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        return y


class Encoder(nn.Module):
    """Strides 2, 4, 8 and 16 of ESPNetv2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, stride=2)
        self.down4 = DownUnit(32, 128, (1, 2, 3, 4))
        self.down8 = DownUnit(128, 256, (1, 2, 3, 4))
        self.stage8 = nn.Sequential(*(DilatedUnit(256, 256, (1, 2, 3, 4)) for _ in range(3)))
        self.down16 = DownUnit(256, 512, (1, 2, 3, 4))
        self.stage16 = nn.Sequential(*(DilatedUnit(512, 512, (1, 1, 2, 3)) for _ in range(7)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised image ``[N, 3, h, w]`` to the maps at strides 2, 4, 8 and 16."""
        image4 = halve(halve(image))
        image8 = halve(image4)
        map2 = self.stem(image)
        map4 = self.down4(map2, image4)
        map8 = self.stage8(self.down8(map4, image8))
        return map2, map4, map8, self.stage16(self.down16(map8, halve(image8)))


class Decoder(nn.Module):
    """From stride 16 up to class logits at stride 2."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        width = min(classes // 2, 16)
        self.pool16 = PyramidPooling(512, 64, width=width)
        self.pool8 = PyramidPooling(64, 48, width=width)
        self.pool4 = PyramidPooling(48, 32, width=width)
        self.pool2 = PyramidPooling(32, classes, width=width, last=True)
        self.skip8, self.join8 = GatedSkip(256, 64), NormAct(64)
        self.skip4, self.join4 = GatedSkip(128, 48), NormAct(48)
        self.skip2, self.join2 = GatedSkip(32, 32), NormAct(32)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor, Tensor]) -> Pyramid:
        """The encoder's maps to those of both."""
        map2, map4, map8, map16 = maps
        decoder8 = self.pool8(self.join8(grow(self.pool16(map16), map8) + self.skip8(map8)))
        decoder4 = self.pool4(self.join4(grow(decoder8, map4) + self.skip4(map4)))
        decoder2 = self.join2(grow(decoder4, map2) + self.skip2(map2))
        return Pyramid(map2, map4, map8, map16, decoder8, decoder4, decoder2, self.pool2(decoder2))


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Rows and columns of a map of ``size`` at one of the ``SCALES`` of the pyramid pooling."""
    return (max(math.ceil(size[0] * scale), _SMALLEST), max(math.ceil(size[1] * scale), _SMALLEST))


def halve(x: Tensor) -> Tensor:
    """Average of 3x3 pixels around every second one: ``[N, C, H, W]`` to ``[N, C, ceil(H/2), ceil(W/2)]``."""
    return avg_pool2d(x, 3, stride=2, padding=1)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, the corners of both grids in the same place, as the published network was trained."""
    return interpolate(x, size=size, mode="bilinear", align_corners=True)


def grow(x: Tensor, like: Tensor) -> Tensor:
    """``x`` on the grid of ``like``. Odd sizes come out right, so no image needs padding."""
    return resize(x, (like.shape[-2], like.shape[-1]))
