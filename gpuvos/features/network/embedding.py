"""The learned front end's network: instance embedding, classes and objectness of single images."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gpuvos.data.atomic import as_path
from gpuvos.data.side_files import check_regular
from gpuvos.errors import check_count, check_tensor, fail
from gpuvos.features.network.colors import register_colors
from gpuvos.features.network.espnet import ConvNorm, Decoder, Encoder, NormAct, PyramidPooling, grow
from gpuvos.features.network.layout import laid_out

CLASSES = 21  # of PASCAL VOC; 0 is the background
# Blocks of the neck: channels, and standard deviation (total over the channels) that a block has in the embedding
# before training; tuned on DAVIS train. Blocks of 0 are seen by the corrections alone, until training differs.
_BLOCKS = {
    "encoder2": (32, 0.5),
    "encoder4": (128, 0.7),
    "decoder8": (48, 0.0),
    "decoder4": (32, 0.7),
    "decoder2": (32, 1.0),
    "logits2": (CLASSES, 0.0),
}


class NetworkOutput(NamedTuple):
    """What the network says about a batch of images ``[N, 3, h, w]``; H = ceil(h / 4), W = ceil(w / 4)."""

    embedding: Tensor  # [N, D, H, W], for its scale see fit_projection
    class_logits: Tensor  # [N, 21, H, W], PASCAL VOC with the background as class 0
    object_logit: Tensor  # [N, H, W], logit of "some object", whatever its class


class EmbeddingNetwork(nn.Module):
    """ESPNetv2 with a neck at stride 4 and heads for embedding, classes and objectness.

    The neck is maps of the encoder and the decoder and the class logits, all brought to stride 4. The embedding is
    a linear projection of the neck (``fit_projection`` makes it the principal components) plus a correction; the object
    logit is that of 1 - P_background (Eq. 3) plus a correction. Both corrections start at 0: with the weights of a
    trained segmentation network the features are useful before any training.

    Args:
        dimensions: channels D of the embedding.
        width: channels of the corrections' hidden layer; 0: there is none, the object logit's correction is linear in
            the neck, and the embedding is the projection alone. It takes a tenth less time on a CPU.

    Example:
        >>> output = EmbeddingNetwork(dimensions=16).eval()(torch.rand(1, 3, 61, 90))
        >>> output.embedding.shape, output.class_logits.shape, output.object_logit.shape
        (torch.Size([1, 16, 16, 23]), torch.Size([1, 21, 16, 23]), torch.Size([1, 16, 23]))
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, dimensions: int = 48, width: int = 64) -> None:
        super().__init__()
        check_count("dimensions", dimensions)
        check_count("width", width, low=0)
        self.dimensions, self.width = dimensions, width
        channels = sum(size for size, _ in _BLOCKS.values())
        register_colors(self)
        self.encoder, self.decoder = Encoder(), Decoder(CLASSES)
        self.project = nn.Conv2d(channels, dimensions, 1)
        self.hidden = nn.Sequential(ConvNorm(channels, width, 1), ConvNorm(width, width, 3)) if width else None
        self.correct = nn.Conv2d(width, dimensions, 1) if width else None
        self.objectness = nn.Conv2d(width or channels, 1, 1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.orthogonal_(self.project.weight.data.flatten(1))
        nn.init.zeros_(self.objectness.weight)
        if self.correct is not None:
            nn.init.zeros_(self.correct.weight)

    def forward(self, images: Tensor) -> NetworkOutput:
        """Runs the network.

        Args:
            images: ``[N, 3, h, w]`` float in [0, 1], of any size.

        Returns:
            NetworkOutput on the grid ``ceil(h / 4) x ceil(w / 4)``.

        Raises:
            InputError: images of another shape or dtype.
        """
        check_tensor("images", images, "N 3 h w", filled=True)
        if (quick := laid_out(self, images, _lay_out)) is not None:
            return quick(images)
        neck, class_logits = self.neck(images)
        embedding, hidden = self.project(neck), neck
        if self.hidden is not None and self.correct is not None:
            hidden = self.hidden(neck)
            embedding = embedding + self.correct(hidden)
        return NetworkOutput(embedding, class_logits, foreground_logit(class_logits) + self.objectness(hidden)[:, 0])

    def neck(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``[N, C, H, W]`` that the heads see, and class logits ``[N, 21, H, W]``."""
        maps = self.decoder(self.encoder((images - self.mean) / self.std))
        class_logits = half_grid(maps.logits2)
        blocks = (
            half_grid(maps.encoder2),
            maps.encoder4,
            grow(maps.decoder8, maps.encoder4),
            maps.decoder4,
            half_grid(maps.decoder2),
            class_logits,
        )
        return torch.cat(blocks, 1), class_logits


def _lay_out(network: EmbeddingNetwork) -> Callable[[Tensor], NetworkOutput] | None:
    from gpuvos.features.network.embedding_cpu import CpuNetwork  # which is made of what stands here

    return CpuNetwork.derive(network)


def foreground_logit(class_logits: Tensor) -> Tensor:
    """Logit ``[N, H, W]`` of 1 - P_background (Eq. 3) from class logits ``[N, classes, H, W]``."""
    return class_logits[:, 1:].logsumexp(1) - class_logits[:, 0]


def half_grid(x: Tensor) -> Tensor:
    """Mean of every 2 x 2 pixels: ``[N, C, H, W]`` to ``[N, C, ceil(H/2), ceil(W/2)]``."""
    return avg_pool2d(x, 2, ceil_mode=True)


@torch.no_grad()
def fit_projection(network: EmbeddingNetwork, batches: Iterable[Tensor]) -> EmbeddingNetwork:
    """Makes the embedding the principal components of the neck, its blocks scaled to fixed variances.

    Over the images each block then contributes the same to distances, whatever the scale of its maps: a total variance
    of 0.25 to 1, 2.2 together, less that of the components left out (5 % with 48).

    Args:
        network: its weights of the projection are replaced, in place.
        batches: natural images ``[N, 3, h, w]`` float in [0, 1]; some hundred are enough.

    Returns:
        The network itself, in the mode (training or evaluation) it came in.

    Raises:
        InputError: no images.
    """
    training = network.training
    network.eval()
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for images in batches:
        neck = network.neck(images)[0].double().transpose(0, 1).flatten(1)  # [C, pixels]
        count += neck.shape[1]
        total = neck.sum(1) + total.to(neck)
        products = neck @ neck.mT + products.to(neck)
    network.train(training)
    if count == 0:
        raise fail("batches", "no images", "at least one batch [N, 3, h, w]")
    mean = total / count
    covariance = products / count - mean[:, None] * mean
    sizes = [size for size, _ in _BLOCKS.values()]
    deviations = [deviation for _, deviation in _BLOCKS.values()]
    scale = torch.cat(
        [
            (part.sum().clamp(min=1e-12).rsqrt() * deviation).expand(len(part))
            for part, deviation in zip(torch.split(covariance.diagonal(), sizes), deviations, strict=True)
        ]
    )
    components = torch.linalg.eigh(scale[:, None] * covariance * scale)[1].flip(1)[:, : network.dimensions].mT
    weight = components * scale  # [D, C]
    network.project.weight.zero_()
    network.project.weight[: len(weight)] = weight[:, :, None, None].to(network.project.weight)
    assert network.project.bias is not None
    network.project.bias.zero_()
    network.project.bias[: len(weight)] = -(weight @ mean).to(network.project.bias)
    return network


def fuse(network: EmbeddingNetwork) -> EmbeddingNetwork:
    """A copy for inference, every normalisation that follows a convolution folded into its weights.

    The result is the same up to rounding, a little faster, and cannot be trained.
    """
    fused = copy.deepcopy(network).eval().requires_grad_(False)
    for module in fused.modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()
        if isinstance(module, PyramidPooling) and isinstance(module.out, NormAct):
            assert isinstance(module.out.norm, nn.BatchNorm2d)
            module.expand = fuse_conv_bn_eval(module.expand, module.out.norm)
            module.out = module.out.act
    return fused.eval()


# A key of the published network of the teacher is renamed by all of these, in this order.
_RENAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^base_net\.level1\.", "encoder.stem."),
        (r"^base_net\.level2_0\.", "encoder.down4."),
        (r"^base_net\.level3_0\.", "encoder.down8."),
        (r"^base_net\.level4_0\.", "encoder.down16."),
        (r"^base_net\.level3\.", "encoder.stage8."),
        (r"^base_net\.level4\.", "encoder.stage16."),
        (r"^bu_dec_l1\.", "decoder.pool16."),
        (r"^bu_dec_l2\.", "decoder.pool8."),
        (r"^bu_dec_l3\.", "decoder.pool4."),
        (r"^bu_dec_l4\.", "decoder.pool2."),
        (r"^merge_enc_dec_l2\.", "decoder.skip8."),
        (r"^merge_enc_dec_l3\.", "decoder.skip4."),
        (r"^merge_enc_dec_l4\.", "decoder.skip2."),
        (r"^bu_br_l2\.", "decoder.join8.br."),
        (r"^bu_br_l3\.", "decoder.join4.br."),
        (r"^bu_br_l4\.", "decoder.join2.br."),
        (r"\.eesp\.", ".unit."),
        (r"\.inp_reinf\.", ".image."),
        (r"\.proj_1x1\.|\.projection_layer\.", ".reduce."),
        (r"\.spp_dw\.(\d)\.conv\.", r".branches.\1."),
        (r"\.stages\.", ".branches."),
        (r"\.conv_1x1_exp\.|\.merge_layer\.3\.", ".expand."),
        (r"\.br_after_cat\.|\.merge_layer\.0\.", ".middle."),
        (r"\.merge_layer\.2\.", ".merge."),
        (r"\.module_act\.", ".act."),
        (r"\.wt_layer\.1\.", ".gate."),
        (r"\.expansion_layer\.", ".conv."),
        (r"\.br\.br\.", ".out.br."),
        (r"\.cbr\.0\.", ".conv."),
        (r"\.bn\.|\.cbr\.1\.|\.br\.0\.", ".norm."),
        (r"\.cbr\.2\.|\.br\.1\.", ".act."),
    )
)
_UNUSED = re.compile(r"^encoder\.down\d+\.unit\.act\.")  # in the teacher's file, but its network never applies them


def load_teacher(path: str | Path) -> dict[str, Tensor]:
    """Reads the published ESPNetv2 (s = 2.0, PASCAL VOC) under the names of ``EmbeddingNetwork``.

    Args:
        path: the ``.pth`` file of the teacher. Only tensors are read from it; no code in it is run.

    Returns:
        State of the encoder and the decoder, all of it: ``network.load_state_dict(state, strict=False)`` leaves
        only the neck's heads as they were.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    check_regular("path", as_path("path", path), "the teacher's weights")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        state = {_rename(key): value for key, value in stored.items()}
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("it holds more than tensors")
    except Exception as error:  # torch.load raises many types for a file that is not one of its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise fail("path", f"{path} ({reason})", "a file of tensors by name") from error
    state = {key: value for key, value in state.items() if not _UNUSED.match(key)}
    wanted = {
        key: value.shape
        for key, value in EmbeddingNetwork().state_dict().items()
        if key.startswith(("encoder.", "decoder."))
    }
    if {key: value.shape for key, value in state.items()} != wanted:
        odd = sorted(wanted.keys() ^ state.keys())[:3] or "tensors of other shapes"
        raise fail("path", f"{path} with {odd}", "the weights of ESPNetv2 (s = 2.0) for the 21 classes of PASCAL VOC")
    return state


def _rename(key: str) -> str:
    for pattern, name in _RENAMES:
        key = pattern.sub(name, key)
    return key
