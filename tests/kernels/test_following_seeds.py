"""One step of Eq. 9 by hand."""

from __future__ import annotations

import torch

from gpuvos.kernels.following_seeds import following_seeds


def test_by_hand() -> None:
    here = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]])
    after = torch.tensor([[[3.0, 3.0], [0.0, 1.0], [0.0, -1.0], [9.0, 9.0]]])
    valid = torch.tensor([[True, True, True, False]])
    # squared distances 18, 1, 1 | 1, 18, 34 | 72, 145, 181: the lower of two equal ones, and not the invalid one
    assert following_seeds(here, after, valid).tolist() == [[1, 0, 0]]
    assert following_seeds(here, after, valid & False).tolist() == [[0, 0, 0]]
