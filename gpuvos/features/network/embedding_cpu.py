"""The embedding network laid out for a CPU: the same numbers up to rounding, in about half the time.

What differs from ``EmbeddingNetwork``, whose weights it takes:

- A 1 x 1 convolution names a dilation of 2, which means nothing for it, but with one thread PyTorch leaves a plain
  one to a slower library than oneDNN.
- A normalisation between two convolutions is folded into the first where only linear maps lie between; where branches
  are summed one onto the next, it is applied while the maps are joined, so it costs no pass of its own. It is never
  moved past an activation: that would divide by its scales, and those of a trained network may be 0 or negative.
- A convolution with few channels a group is slow. One with a single output a group is a sum of depth-wise ones, so
  the pyramid pooling needs neither a shuffle of channels nor maps joined; others get fewer groups, filled with zeros.
- Heads that read the same map are one convolution.
- The mean of every 2 x 2 logits is taken before the convolution that makes them, which is linear.

Its numbers do not depend on the number of threads, as those of the network do: all convolutions are oneDNN's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, linear, prelu

from gpuvos.features.network.embedding import EmbeddingNetwork, NetworkOutput, foreground_logit, fuse, half_grid
from gpuvos.features.network.espnet import (
    SCALES,
    ConvNorm,
    Decoder,
    DilatedUnit,
    DownUnit,
    Encoder,
    GatedSkip,
    NormAct,
    PyramidPooling,
    grow,
    halve,
    resize,
    scaled_size,
)

_GROUPS = 4  # of a convolution with some outputs a group: fewer multiply more zeros, with more oneDNN is slow
_FEW = 16  # channels: two vectors of AVX2


class CpuNetwork:
    """A network for inference on a CPU.

    Args:
        network: on the CPU, fused or not. Its weights are read now; later changes to it are not seen.

    Example:
        >>> network = CpuNetwork(EmbeddingNetwork(dimensions=16))
        >>> network(torch.rand(1, 3, 61, 90)).embedding.shape
        torch.Size([1, 16, 16, 23])
    """

    @classmethod
    def derive(cls, network: EmbeddingNetwork) -> CpuNetwork | None:
        """None where a layer is of a kind that the network was not built with."""
        return cls(network) if all(type(module) in _KINDS for module in network.modules()) else None

    @torch.no_grad()
    def __init__(self, network: EmbeddingNetwork) -> None:
        if not isinstance(network.encoder.stem.norm, nn.Identity):
            network = fuse(network)
        encoder, decoder = network.encoder, network.decoder
        self._mean, self._std = network.mean, network.std
        self._dimensions = network.dimensions
        box = self._mean.new_zeros((3, 3, 3, 3))
        box[range(3), range(3)] = 1 / 9  # ``halve`` for three channels, too few for the pooling to be quick
        self._halve = _Conv(_last(box), None, None, stride=2, padding=1)
        self._stem = _Conv.of(encoder.stem)
        self._downs = tuple(_Down(unit) for unit in (encoder.down4, encoder.down8, encoder.down16))
        self._stage8, self._stage16 = (
            tuple(_Unit(cast(DilatedUnit, unit)) for unit in stage) for stage in (encoder.stage8, encoder.stage16)
        )
        self._pools = tuple(_Pool(pool) for pool in (decoder.pool16, decoder.pool8, decoder.pool4, decoder.pool2))
        self._joins = (
            _Join(decoder.skip8, decoder.join8),
            _Join(decoder.skip4, decoder.join4),
            _Join(decoder.skip2, decoder.join2),
        )
        self._hidden: tuple[Tensor, _Conv, _Conv] | None = None
        if network.hidden is None or network.correct is None:
            self._neck_heads = _joined([network.project, network.objectness])
        else:
            first, second = (cast(ConvNorm, layer) for layer in network.hidden)
            self._neck_heads = _joined([network.project, first.conv])
            self._hidden = (_slope(first.act), _Conv.of(second), _joined([network.correct, network.objectness]))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> NetworkOutput:
        """As ``EmbeddingNetwork.forward``, without a check of the images and without gradients."""
        neck, class_logits = self._neck(images)
        size = self._dimensions
        seen = self._neck_heads(neck)
        embedding, heads = seen[:, :size], seen[:, size:]
        if self._hidden is not None:
            slope, hidden, of_hidden = self._hidden
            corrections = of_hidden(hidden(_prelu(_last(heads), slope)))
            embedding, heads = embedding + corrections[:, :size], corrections[:, size:]
        return NetworkOutput(embedding, class_logits, foreground_logit(class_logits).add_(heads[:, 0]))

    def _neck(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As ``EmbeddingNetwork.neck``."""
        image = _last((images - self._mean).div_(self._std))
        image4 = self._halve(self._halve(image))
        image8 = self._halve(image4)
        map2 = self._stem(image)
        map4 = self._downs[0](map2, image4)
        map8 = self._downs[1](map4, image8)
        for unit in self._stage8:
            map8 = unit(map8)
        map16 = self._downs[2](map8, self._halve(image8))
        for unit in self._stage16:
            map16 = unit(map16)
        decoder8 = self._pools[1](self._joins[0](map8, self._pools[0](map16)))
        decoder4 = self._pools[2](self._joins[1](map4, decoder8))
        decoder2 = self._joins[2](map2, decoder4)
        class_logits = self._pools[3](decoder2, halved=True)
        blocks = (half_grid(map2), map4, grow(decoder8, map4), decoder4, half_grid(decoder2), class_logits)
        return torch.cat(blocks, 1), class_logits


_KINDS: set[type] = {
    *(EmbeddingNetwork, Encoder, Decoder, DownUnit, DilatedUnit, PyramidPooling, GatedSkip, ConvNorm, NormAct),
    *(nn.Conv2d, nn.BatchNorm2d, nn.PReLU, nn.Identity, nn.Sequential, nn.ModuleList),
}


class _Conv(NamedTuple):
    """A convolution with what follows it."""

    weight: Tensor
    bias: Tensor | None
    slope: Tensor | None  # of the PReLU
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @classmethod
    def of(cls, layer: ConvNorm) -> _Conv:
        """A fused layer; its normalisation is in its weights already."""
        conv, slope = layer.conv, None if isinstance(layer.act, nn.Identity) else _slope(layer.act)
        return cls(_last(conv.weight), conv.bias, slope, conv.stride[0], int(conv.padding[0]), conv.groups)

    def __call__(self, x: Tensor) -> Tensor:
        dilation = 2 if self.weight.shape[-1] == 1 else 1  # see the top
        y = conv2d(x, self.weight, self.bias, self.stride, self.padding, dilation, self.groups)
        return y if self.slope is None else _prelu(y, self.slope)


class _ByInput:
    """A 3 x 3 convolution with one output a group, as the sum of a depth-wise one for every input of the groups.

    Args:
        weight: ``[groups, inputs of a group, 3, 3]``.
        bias: ``[groups]``.
        slope: of the PReLU after it.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, slope: Tensor | None) -> None:
        self._weights = [part.contiguous() for part in weight.chunk(weight.shape[1], 1)]
        self._bias, self._slope = bias, slope

    def of_one(self, x: Tensor) -> Tensor:
        """From a map whose channels are group by group."""
        inputs = len(self._weights)
        return self([x[:, number::inputs] for number in range(inputs)])

    def __call__(self, maps: Sequence[Tensor]) -> Tensor:
        """From one map ``[N, groups, H, W]`` for every input of the groups."""
        groups = len(self._weights[0])
        total = conv2d(maps[0], self._weights[0], self._bias, 1, 1, 1, groups)
        for x, weight in zip(maps[1:], self._weights[1:], strict=True):
            total.add_(conv2d(x, weight, None, 1, 1, 1, groups))
        return total if self._slope is None else _prelu(total, self._slope)


def _of_groups(layer: ConvNorm) -> _Conv | Callable[[Tensor], Tensor]:
    """A 3 x 3 convolution of groups as what is quickest for their sizes."""
    conv = _Conv.of(layer)
    outputs, inputs = conv.weight.shape[:2]
    if outputs == conv.groups:
        return conv if inputs == 1 else _ByInput(conv.weight, conv.bias, conv.slope).of_one
    fewer = math.gcd(conv.groups, _GROUPS)
    merged = conv.groups // fewer  # groups that become one
    weight = conv.weight.new_zeros((fewer, merged, outputs // conv.groups, merged, *conv.weight.shape[1:]))
    group = torch.arange(merged)
    weight[:, group, :, group] = conv.weight.view(fewer, merged, -1, *conv.weight.shape[1:]).transpose(0, 1)
    return conv._replace(weight=_last(weight.flatten(0, 2).flatten(1, 2)), groups=fewer)


class _Unit:
    """``DilatedUnit``."""

    def __init__(self, unit: DilatedUnit) -> None:
        self._reduce, self._expand = _Conv.of(unit.reduce), _Conv.of(unit.expand)
        self._branches = [cast(nn.Conv2d, branch) for branch in unit.branches]
        scale, shift = _affine(unit.middle)
        self._norms = list(zip(scale.chunk(len(self._branches)), shift.chunk(len(self._branches)), strict=True))
        self._norms = [(a.view(1, -1, 1, 1), b.view(1, -1, 1, 1)) for a, b in self._norms]
        self._middle = _slope(unit.middle.act)
        self._act = None if unit.act is None else _slope(unit.act)

    def __call__(self, x: Tensor) -> Tensor:
        reduced = self._reduce(x)
        total = self._branches[0](reduced)
        n, width, h, w = total.shape
        shape = (n, width * len(self._branches), h, w)
        joined = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        for number, (scale, shift) in enumerate(self._norms):
            if number:
                total = self._branches[number](reduced).add_(total)
            torch.addcmul(shift, total, scale, out=joined[:, number * width : (number + 1) * width])
        y = self._expand(_prelu(joined, self._middle))
        return y if self._act is None else _prelu(y.add_(x), self._act)


class _Down:
    """``DownUnit``."""

    def __init__(self, down: DownUnit) -> None:
        self._unit = _Unit(down.unit)
        first, second = (cast(ConvNorm, layer) for layer in down.image)
        self._image = _Conv.of(first)
        self._project = (second.conv.weight.flatten(1), second.conv.bias)
        self._act = _slope(down.act)

    def __call__(self, x: Tensor, image: Tensor) -> Tensor:
        y = torch.cat((halve(x), self._unit(x)), 1)
        small = self._image(image).permute(0, 2, 3, 1)  # a matrix product: three channels are too few for oneDNN
        return _prelu(y.add_(linear(small, *self._project).permute(0, 3, 1, 2)), self._act)


class _Pool:
    """``PyramidPooling``."""

    def __init__(self, pool: PyramidPooling) -> None:
        self._reduce = _Conv.of(pool.reduce)
        width = self._width = self._reduce.weight.shape[0]
        scale, shift = (value.view(len(SCALES), width) for value in _affine(pool.middle))
        # resizing and averaging keep a constant, so the norm may go before them
        weights = [cast(Tensor, branch.weight) * scale[i].view(-1, 1, 1, 1) for i, branch in enumerate(pool.branches)]
        self._branches = [(weight, shift[i].contiguous()) for i, weight in enumerate(weights)]
        box = weights[0].new_zeros((width, 1, 4, 4))
        for row in (0, 1):
            for column in (0, 1):
                box[:, :, row : row + 3, column : column + 3] += weights[0] / 4
        self._halving = box  # the branch at twice the size, then the mean of every 2 x 2 pixels
        self._middle = [slope.contiguous() for slope in _slope(pool.middle.act).chunk(len(SCALES))]
        self._merge = _ByInput(pool.merge.conv.weight, pool.merge.conv.bias, _slope(pool.merge.act))
        slope = None if isinstance(pool.out, nn.Identity) else _slope(pool.out)
        self._expand = _Conv(_last(pool.expand.weight), pool.expand.bias, slope)

    def __call__(self, x: Tensor, *, halved: bool = False) -> Tensor:
        """With ``halved`` the mean of every 2 x 2 pixels, of a pool that has no activation at its end."""
        x = self._reduce(x)
        maps = [self._map(x, *branch) for branch in zip(SCALES, self._branches, strict=True)]
        merged = self._merge([_prelu(*pair) for pair in zip(maps, self._middle, strict=True)])
        return self._expand(half_grid(merged) if halved else merged)

    def _map(self, x: Tensor, scale: float, branch: tuple[Tensor, Tensor]) -> Tensor:
        weight, bias = branch
        size = (x.shape[-2], x.shape[-1])
        scaled = scaled_size(size, scale)
        if scale > 1 and scaled == (2 * size[0], 2 * size[1]):
            return conv2d(resize(x, scaled), self._halving, bias, 2, 1, 1, self._width)
        if scale > 1:
            return adaptive_avg_pool2d(conv2d(resize(x, scaled), weight, bias, 1, 1, 1, self._width), size)
        if scale < 1:
            return resize(conv2d(adaptive_avg_pool2d(x, scaled), weight, bias, 1, 1, 1, self._width), size)
        return conv2d(x, weight, bias, 1, 1, 1, self._width)


class _Join:
    """``GatedSkip`` added to the map from below, normalisation and activation."""

    def __init__(self, skip: GatedSkip, join: NormAct) -> None:
        self._gate, self._conv = skip.gate.weight, _of_groups(skip.conv)
        self._scale, self._shift = (value.view(1, -1, 1, 1) for value in _affine(join))
        self._act = _slope(join.act)

    def __call__(self, x: Tensor, below: Tensor) -> Tensor:
        gate = conv2d(x.mean((2, 3), keepdim=True), self._gate).sigmoid_()
        below = torch.addcmul(self._shift, grow(below, x), self._scale)
        return _prelu(below.addcmul_(self._conv(x), gate.mul_(self._scale)), self._act)


def _affine(layer: NormAct) -> tuple[Tensor, Tensor]:
    """Scale and shift that a normalisation means in evaluation."""
    norm = cast(nn.BatchNorm2d, layer.norm)
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return scale, norm.bias - mean * scale


def _slope(act: nn.Module) -> Tensor:
    return cast(nn.PReLU, act).weight


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU with a slope for each channel; of few channels by rows of the image, since ATen goes pixel by pixel."""
    n, channels, height, width = x.shape
    if channels >= _FEW:
        return prelu(x, slope)
    rows = x.permute(0, 2, 3, 1).reshape(n * height, width * channels)
    return prelu(rows, slope.repeat(width)).view(n, height, width, channels).permute(0, 3, 1, 2)


def _joined(layers: Sequence[nn.Conv2d]) -> _Conv:
    """1 x 1 convolutions of one map as one."""
    biases = [conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias for conv in layers]
    return _Conv(torch.cat([conv.weight for conv in layers]), torch.cat(biases), None)


def _last(x: Tensor) -> Tensor:
    """``[N, C, H, W]`` with the channels of a pixel side by side in memory, which suits oneDNN."""
    return x.contiguous(memory_format=torch.channels_last)
