"""Networks that serve: in evaluation mode whatever a parent says."""

from __future__ import annotations

from typing import Self

from torch import nn


class InferenceModule(nn.Module):
    """A module that stays in evaluation mode when a parent's ``train()`` reaches it, until it is asked to train.

    Every front end and every flow with weights is one: batch statistics of a few frames would change features for
    good, without a word. The networks that come with the library ask for no gradient until then either, so that a
    call without ``torch.no_grad()`` keeps nothing for a backward pass.

    Example:
        >>> parent = nn.Sequential(InferenceModule()).train()
        >>> parent.training, parent[0].training
        (True, False)
        >>> parent[0].trainable().train().training
        True
    """

    _trainable = False

    def __init__(self) -> None:
        super().__init__()
        self._frozen: list[nn.Module] = []  # the networks of the library

    def freeze(self, network: nn.Module) -> None:
        """Takes the gradients of a network of this module away until ``trainable()`` is called.

        Args:
            network: one of the modules inside.
        """
        self._frozen.append(network.requires_grad_(False))

    def trainable(self, mode: bool = True) -> Self:
        """Lets ``train()`` reach this module and those inside it, or (``mode=False``) no longer; a flow never learns.

        Args:
            mode: False brings it back to evaluation mode.
        """
        self._trainable = mode
        for network in self._frozen:
            network.requires_grad_(mode)
        for inside in self.children():
            if isinstance(inside, InferenceModule) and inside is not getattr(self, "flow", None):
                inside.trainable(mode)
        return self if mode else self.eval()

    def train(self, mode: bool = True) -> Self:
        """Training mode if ``trainable()`` was called before, else evaluation mode."""
        return super().train(mode and self._trainable)
