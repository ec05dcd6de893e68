"""Steps of the method as modules, each thin over its function."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from gpuvos import functional as F


class Refinement(Protocol):
    """How the refinements of the library are called, which are modules."""

    def __call__(self, probability: Tensor, image: Tensor, *, validate: bool = True) -> Tensor:
        """Probability ``[T, H, W]`` of the foreground given ``probability [T, H, W]`` and ``image [T, C, H, W]``."""
        ...


class MaskedRefinement(Protocol):
    """How ``DenseCRF`` is called."""

    def __call__(
        self, probability: Tensor, image: Tensor, *, mask: Tensor | None = None, validate: bool = True
    ) -> Tensor:
        """As a ``Refinement``; ``mask`` as of ``gpuvos.functional.dense_crf``."""
        ...


class DenseCRF(nn.Module):
    """Refines foreground probabilities by a dense CRF; see ``gpuvos.functional.dense_crf``.

    Args:
        iterations: mean-field updates.
        appearance_weight: weight of the kernel of position and colour.
        appearance_sigma: its standard deviation in pixels.
        color_sigma: its standard deviation in grey levels of 0 to 255.
        smoothness_weight: weight of the kernel of position alone.
        smoothness_sigma: its standard deviation in pixels.
        subsample: pixels of the image per pixel of the field; 2 takes a quarter of the time.
        lattice_points: memory for so many lattice points a frame, which spares reading their number back from the
            device; frames that need more come out as NaN.

    Example:
        >>> import torch
        >>> DenseCRF(iterations=5)(torch.rand(2, 6, 8), torch.rand(2, 3, 6, 8)).shape
        torch.Size([2, 6, 8])
    """

    __call__: MaskedRefinement  # what forward takes and gives, which a call of a module does not say

    def __init__(
        self,
        *,
        iterations: int = 10,
        appearance_weight: float = 4.0,
        appearance_sigma: float = 67.0,
        color_sigma: float = 3.0,
        smoothness_weight: float = 3.0,
        smoothness_sigma: float = 1.0,
        subsample: int = 1,
        lattice_points: int | None = None,
    ) -> None:
        super().__init__()
        self.iterations = iterations
        self.appearance_weight = appearance_weight
        self.appearance_sigma = appearance_sigma
        self.color_sigma = color_sigma
        self.smoothness_weight = smoothness_weight
        self.smoothness_sigma = smoothness_sigma
        self.subsample = subsample
        self.lattice_points = lattice_points

    def forward(
        self, probability: Tensor, image: Tensor, *, mask: Tensor | None = None, validate: bool = True
    ) -> Tensor:
        """Probability ``[T, H, W]`` of the foreground given ``probability [T, H, W]`` and ``image [T, C, H, W]``."""
        return F.dense_crf(
            probability,
            image,
            iterations=self.iterations,
            appearance_weight=self.appearance_weight,
            appearance_sigma=self.appearance_sigma,
            color_sigma=self.color_sigma,
            smoothness_weight=self.smoothness_weight,
            smoothness_sigma=self.smoothness_sigma,
            subsample=self.subsample,
            mask=mask,
            lattice_points=self.lattice_points,
            validate=validate,
        )

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return (
            f"iterations={self.iterations}, "
            f"appearance={self.appearance_weight} ({self.appearance_sigma} px, {self.color_sigma} levels), "
            f"smoothness={self.smoothness_weight} ({self.smoothness_sigma} px), subsample={self.subsample}"
        )


class GuidedFilter(nn.Module):
    """Refines foreground probabilities by a guided filter; see ``gpuvos.functional.guided_filter``.

    Args:
        radius: of the window, in pixels of the image.
        epsilon: variance of the colour below which a window counts as flat.
        subsample: pixels of the image per pixel that the models are fitted to.

    Example:
        >>> import torch
        >>> GuidedFilter()(torch.rand(2, 24, 32), torch.rand(2, 3, 24, 32)).shape
        torch.Size([2, 24, 32])
    """

    __call__: Refinement  # what forward takes and gives, which a call of a module does not say

    def __init__(self, *, radius: int = 8, epsilon: float = 1e-4, subsample: int = 4) -> None:
        super().__init__()
        self.radius, self.epsilon, self.subsample = radius, epsilon, subsample

    def forward(self, probability: Tensor, image: Tensor, *, validate: bool = True) -> Tensor:
        """Probability ``[T, H, W]`` of the foreground given ``probability [T, H, W]`` and ``image [T, C, H, W]``."""
        return F.guided_filter(
            probability, image, radius=self.radius, epsilon=self.epsilon, subsample=self.subsample, validate=validate
        )

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"radius={self.radius}, epsilon={self.epsilon}, subsample={self.subsample}"
