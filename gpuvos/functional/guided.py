"""A guided filter: probabilities of a coarse grid get the edges of the image, much quicker than by the CRF."""

from __future__ import annotations

import torch
from torch import Tensor

from gpuvos.errors import check_count, check_positive, check_probability_and_image
from gpuvos.functional.batch import merge_leading
from gpuvos.functional.precision import full_precision
from gpuvos.kernels.blocks import blocks

_BYTES_A_PIXEL = 256  # of the filter's temporaries


@full_precision
def guided_filter(
    probability: Tensor,
    image: Tensor,
    *,
    radius: int = 8,
    epsilon: float = 1e-4,
    subsample: int = 4,
    validate: bool = True,
) -> Tensor:
    """Refines foreground probabilities by a linear model of the colours around every pixel (He et al., 2010).

    In the window around a pixel ``a . I + b`` is fitted to the probability; what the models of all windows say about a
    pixel is averaged. The models are fitted on every ``subsample``-th pixel and applied at all of them (He and
    Sun, 2015). The filter is kornia's, which is imported only here.

    Args:
        probability: ``[T, H, W]`` in [0, 1] (any leading dimensions), at the resolution of the image.
        image: ``[T, C, H, W]`` uint8 or floating point in [0, 1]; usually C = 3.
        radius: radius of the window in pixels of the image.
        epsilon: variance of the colour, in [0, 1], below which a window counts as flat; smaller keeps weaker edges.
        subsample: pixels of the image per pixel that the models are fitted to.
        validate: look for NaN and values out of range; it reads back from the device.

    Returns:
        Probability ``[T, H, W]`` of the foreground; float64 where ``probability`` is, else float32.

    Raises:
        InputError: a shape, dtype, device or value does not fit.

    Example:
        >>> image = torch.zeros(1, 3, 16, 16)
        >>> image[..., 8:] = 1.0
        >>> probability = torch.full((1, 16, 16), 0.2)
        >>> probability[..., 6:] = 0.8  # the edge is two pixels too far left
        >>> (guided_filter(probability, image, radius=4, subsample=1)[0, 8] > 0.6).int()
        tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1], dtype=torch.int32)
    """
    from kornia.filters import guided_blur

    check_probability_and_image(probability, image, validate=validate)
    check_count("radius", radius)
    check_count("subsample", subsample)
    check_positive("epsilon", epsilon)
    share = merge_leading(probability, 2)[:, None]  # [N, 1, H, W]
    share = share.to(torch.float64 if share.dtype == torch.float64 else torch.float32)
    if share.numel() == 0:
        return share.reshape(probability.shape)
    colors = merge_leading(image.detach(), 3)
    scale = 1 if image.is_floating_point() else 255
    refined = torch.empty_like(share)
    for block in blocks(len(share), _BYTES_A_PIXEL * share[0].numel()):
        guide = colors[block].to(share.dtype) / scale
        refined[block] = guided_blur(
            guide, share[block], 2 * radius + 1, epsilon, border_type="replicate", subsample=subsample, separable=True
        )
    return refined.clamp_(0, 1).reshape(probability.shape)
