"""Soft masks of several objects from the owners of seeds, kept up to date: a change costs what depends on it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gpuvos.errors import check_count, check_tensor
from gpuvos.functional.precision import full_precision
from gpuvos.interactive.session import config_of
from gpuvos.kernels.nearest_seeds import nearest_seeds
from gpuvos.types import Segmentation


class ObjectMasks:
    """Which object every pixel of the grid belongs to, given which object every seed belongs to (Eq. 13-15).

    Eq. 15 compares a pixel's nearest foreground seed with its nearest background seed. With several objects the seeds
    of one are its foreground, and those of the ground and of all others its background; with one it is Eq. 15. The
    nearest seed of every object is kept for every pixel. When seeds change hands, pixels whose nearest seed was among
    them look again, and all others only at the seeds that came.

    Args:
        result: a result of ``segment`` for one video, with a seed set of its own in every frame.
        embedding: ``[T, D, H, W]``, the embedding that it was segmented from.
        owner: ``[T, K]`` int64: 0 the ground, 1, 2, ... objects, below 0 neither.

    Example:
        >>> from gpuvos import VideoSegmenter
        >>> from gpuvos.data import render_clip
        >>> segmenter = VideoSegmenter()
        >>> frames = render_clip("single", num_frames=3, height=64, width=96).frames
        >>> result, features = segmenter(frames), segmenter.features(frames)
        >>> masks = ObjectMasks(result, features.embedding, result.foreground.long())
        >>> masks.probability(1)[0].shape
        torch.Size([64, 96])
    """

    def __init__(self, result: Segmentation, embedding: Tensor, owner: Tensor) -> None:
        self._temperature = config_of(result, None).temperature
        t, h, w = result.forest.label.shape
        check_tensor("embedding", embedding, "T D H W", sizes={"T": t, "H": h, "W": w}, like=result.seeds.embedding)
        self._size = (h, w)
        self._embedding = embedding.detach().flatten(2)
        self._length = torch.stack([value.square().sum(0) for value in self._embedding])  # [T, H W]
        self._seeds = result.seeds.embedding.detach()
        self._valid = result.seeds.valid
        self.owner = torch.full_like(owner, -1)
        self._near: list[Tensor] = []  # of the ground and every object, [T, H W] squared distance
        self._who: list[Tensor] = []  # likewise, the seed, -1 for none
        self.assign(owner)

    @property
    def count(self) -> int:
        """Objects that were ever named."""
        return len(self._near) - 1

    @full_precision
    def assign(self, owner: Tensor) -> list[int]:
        """Gives seeds to objects; returns the frames in which anything changed."""
        check_tensor("owner", owner, "T K", kind="int64", like=self.owner)
        owner = torch.where(self._valid, owner, -1)
        check_count("owner", int(owner.max()), -1)
        for _ in range(len(self._near), max(2, int(owner.max()) + 1)):  # the ground and one object at least
            self._near.append(self._seeds.new_full((len(owner), self._size[0] * self._size[1]), torch.inf))
            self._who.append(torch.full_like(self._near[-1], -1, dtype=torch.int16))
        frames = (owner != self.owner).any(1).nonzero().flatten().tolist()
        for frame in frames:
            for number in range(len(self._near)):
                self._update(number, frame, self.owner[frame] == number, owner[frame] == number)
        self.owner = owner
        return frames

    def probability(self, frame: int) -> Tensor:
        """Probability of every object in one frame ``[N, H, W]``; at most one is above one half at a pixel."""
        near = torch.stack([value[frame] for value in self._near])  # [N + 1, H W]
        rival = torch.full_like(near, torch.inf)
        for number in range(len(near)):
            others = torch.cat((near[:number], near[number + 1 :]))
            if len(others):
                rival[number] = others.amin(0)
        own, rival = (softplus(value[1:] / self._temperature) for value in (near, rival))
        there = own.isfinite()
        found = torch.sigmoid(torch.where(there, rival - own, -torch.inf))
        return found.view(-1, *self._size)

    def deciding(self, frame: int, row: int, column: int) -> tuple[int, int, float]:
        """What decides a pixel of the grid: the owner of its nearest seed, that seed (-1 for none), and the margin.

        The margin is that of ``explain``: (far - near) / (far + near) of the distances to the nearest seed and to the
        nearest seed of anything else.
        """
        pixel = row * self._size[1] + column
        near = torch.stack([value[frame, pixel] for value in self._near]).sqrt()
        order = near.argsort(stable=True)
        own = int(order[0])
        seed = int(self._who[own][frame, pixel])
        if len(order) < 2 or not bool(near[order[1]].isfinite()):
            return own, seed, float(seed >= 0)
        first, second = float(near[order[0]]), float(near[order[1]])
        return own, seed, (second - first) / max(second + first, 1e-30)

    def _update(self, number: int, frame: int, before: Tensor, now: Tensor) -> None:
        near, who = self._near[number][frame], self._who[number][frame]
        lost, gained = before & ~now, now & ~before
        if bool(lost.any()):
            again = (lost[who.long().clamp(min=0)] & (who >= 0)).nonzero().flatten()
            near[again], who[again] = self._nearest(frame, now, again)
        if bool(gained.any()):
            closer, seed = self._nearer(frame, gained) if bool(before.any()) else self._nearest(frame, gained, None)
            better = closer < near
            near.copy_(torch.where(better, closer, near))
            who.copy_(torch.where(better, seed, who))

    def _nearer(self, frame: int, members: Tensor) -> tuple[Tensor, Tensor]:
        """As ``_nearest`` for all pixels, but by one product: quicker, and exact to the rounding of its terms."""
        seeds = self._seeds[frame, members]
        product = torch.addmm(seeds.square().sum(1, keepdim=True), seeds, self._embedding[frame], alpha=-2)
        least, place = product.min(0)
        number = members.nonzero().flatten().to(torch.int16)
        return (least + self._length[frame]).clamp_(min=0), number[place]

    def _nearest(self, frame: int, members: Tensor, pixels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Squared distance and number of the nearest of some seeds, for some pixels or all."""
        embedding = self._embedding[frame : frame + 1]
        if pixels is not None:
            embedding = embedding[:, :, pixels]
        number = members.nonzero().flatten()
        if not len(number):
            empty = embedding.new_full(embedding.shape[2:], torch.inf)
            return empty, torch.full_like(empty, -1, dtype=torch.int16)
        all_of = torch.ones(1, len(number), dtype=torch.bool, device=number.device)
        near, _, seed, _ = nearest_seeds(embedding, self._seeds[frame : frame + 1, number], all_of, ~all_of)
        return near[0], number[seed[0]].to(torch.int16)
