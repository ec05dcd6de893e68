"""U2NetP: which pixels belong to the salient objects of an image, whatever their class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from gpuvos.errors import check_count, check_tensor
from gpuvos.features.network.colors import register_colors

_WIDTH, _MIDDLE = 64, 16  # channels between the blocks and inside them
_HEIGHTS = (7, 6, 5, 4, 4, 4)  # of the encoder's blocks; the decoder's are the same without the last
_DILATED = (False, False, False, False, True, True)  # the smallest maps are not halved any further


class ConvRelu(nn.Conv2d):
    """3 x 3 convolution and ReLU; the normalisation between them is folded into the weights.

    Args:
        inputs: channels.
        outputs: channels.
        dilation: of the kernel.
    """

    def __init__(self, inputs: int, outputs: int, *, dilation: int = 1) -> None:
        super().__init__(inputs, outputs, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """[N,inputs,H,W] to [N,outputs,H,W]."""
        return super().forward(x).relu_()


class ResidualUBlock(nn.Module):
    """The paper's RSU-L: a small U-Net whose result is added to the features it began with.

    Args:
        height: L, convolutions on the way down.
        inputs: channels.
        outputs: channels.
        dilated: RSU-4F: growing dilations in place of halved maps.
    """

    def __init__(self, height: int, inputs: int, outputs: int, *, dilated: bool = False) -> None:
        super().__init__()
        self.dilated = dilated
        steps = [2**level for level in range(height)] if dilated else [1] * (height - 1) + [2]
        widths = [outputs] + [_MIDDLE] * (height - 1)
        self.enter = ConvRelu(inputs, outputs)
        self.down = nn.ModuleList(
            ConvRelu(width, _MIDDLE, dilation=step) for width, step in zip(widths, steps, strict=True)
        )
        self.up = nn.ModuleList(
            ConvRelu(2 * _MIDDLE, width, dilation=step if dilated else 1)
            for width, step in zip(reversed(widths[:-1]), reversed(steps[:-1]), strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N,inputs,H,W] to [N,outputs,H,W]."""
        entered = x = self.enter(x)
        skips: list[Tensor] = []
        for level, conv in enumerate(self.down):
            if 0 < level < len(self.down) - 1 and not self.dilated:
                x = halve(x)
            x = conv(x)
            skips.append(x)
        skips.pop()
        for conv in self.up:
            x = conv(join(x, skips.pop()))
        return x + entered if x.requires_grad else x.add_(entered)


class U2NetP(nn.Module):
    """Saliency of single images: the small network of Qin et al. (2020), its normalisations folded.

    After X. Qin, Z. Zhang, C. Huang, M. Dehghan, O. Zaiane and M. Jagersand, "U2-Net: Going Deeper with Nested
    U-Structure for Salient Object Detection", Pattern Recognition 2020.

    Args:
        size: side of the square that images are scaled to, whatever their shape; it was trained at 320.
        detail: True runs the decoder's last block as well, which does half of the work of all, and merges the side
            outputs at full ``size`` as published. False gives the side output of the block before, at half of it.

    Raises:
        InputError: a size below 1.

    Example:
        >>> U2NetP(size=64)(torch.rand(1, 3, 48, 80)).shape
        torch.Size([1, 32, 32])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, size: int = 320, detail: bool = False) -> None:
        super().__init__()
        check_count("size", size)
        self.size, self.detail = size, detail
        register_colors(self)
        inputs = [3] + [_WIDTH] * 5
        blocks = zip(_HEIGHTS, inputs, _DILATED, strict=True)
        self.encoder = nn.ModuleList(
            ResidualUBlock(height, channels, _WIDTH, dilated=dilated) for height, channels, dilated in blocks
        )
        self.decoder = nn.ModuleList(
            ResidualUBlock(height, 2 * _WIDTH, _WIDTH, dilated=dilated)
            for height, dilated in zip(_HEIGHTS[-2::-1], _DILATED[-2::-1], strict=True)
        )
        self.side = nn.ModuleList(nn.Conv2d(_WIDTH, 1, 3, padding=1) for _ in _HEIGHTS)  # largest map first
        self.merge = nn.Conv2d(len(_HEIGHTS), 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Probability that a pixel is salient.

        Args:
            images: ``[N, 3, h, w]`` float in [0, 1], of any size.

        Returns:
            ``[N, size, size]`` in [0, 1], half of that along both sides without detail.

        Raises:
            InputError: images of another shape or dtype.
        """
        check_tensor("images", images, "N 3 h w", filled=True)
        return self.logits(self.prepare(images)).sigmoid()[:, 0]

    def prepare(self, images: Tensor) -> Tensor:
        """Images as it was trained on them: scaled, each divided by its largest value, normalised."""
        square = interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True)
        square = square.contiguous(memory_format=torch.channels_last)
        brightest = square.amax((1, 2, 3), keepdim=True).clamp(min=1 / 255)
        return (square / brightest - self.mean) / self.std

    def logits(self, x: Tensor) -> Tensor:
        """Prepared images ``[N, 3, H, W]`` to ``[N, 1, H, W]``, or half of that."""
        skips: list[Tensor] = []
        for block in self.encoder:
            x = block(halve(x) if skips else x)
            skips.append(x)
        maps = [skips.pop()]
        for block in self.decoder if self.detail else self.decoder[:-1]:
            maps.append(block(join(maps[-1], skips.pop())))
        if not self.detail:
            side: Tensor = self.side[1](maps[-1])
            return side
        sides = [side(features) for side, features in zip(self.side, reversed(maps), strict=True)]
        merged: Tensor = self.merge(torch.cat([_grown(side, sides[0]) for side in sides], 1))
        return merged


def halve(x: Tensor) -> Tensor:
    """Largest of every 2 x 2 pixels: [N,C,H,W] to [N,C,ceil(H/2),ceil(W/2)]."""
    return max_pool2d(x, 2, ceil_mode=True)


def join(x: Tensor, skip: Tensor) -> Tensor:
    """Channels of ``x``, enlarged to the grid of ``skip``, and those of ``skip``."""
    return torch.cat((_grown(x, skip), skip), 1)


def _grown(x: Tensor, like: Tensor) -> Tensor:
    size = (like.shape[-2], like.shape[-1])
    return x if x.shape[-2:] == like.shape[-2:] else interpolate(x, size=size, mode="bilinear")
