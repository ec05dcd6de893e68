"""Soft masks of several objects from the owners of seeds, kept up to date: a change costs what depends on it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gpuvos.errors import check_count, check_tensor
from gpuvos.functional.precision import full_precision
from gpuvos.functional.probability import join_probabilities
from gpuvos.interactive.session import config_of
from gpuvos.kernels.nearest_seeds import nearest_seeds
from gpuvos.types import Segmentation

_PRODUCTS = 1 << 17  # of pixels and seeds, looked at together


class Standing(NamedTuple):
    """What ``ObjectMasks`` knew at some time; ``restore`` brings it back bit for bit without computing anything."""

    owner: Tensor  # [T, K]
    near: tuple[tuple[Tensor, ...], ...]  # of the ground and every object, of every view
    who: tuple[tuple[Tensor, ...], ...]


class View(NamedTuple):
    """The pixels of a frame under the seeds of a frame that serve it."""

    frame: int
    source: int


class ObjectMasks:
    """Which object every pixel of the grid belongs to, given which object every seed belongs to (Eq. 13-15).

    Eq. 15 compares a pixel's nearest foreground seed with its nearest background seed. With several objects the seeds
    of one are its foreground, and those of the ground and of all others its background; with one it is Eq. 15. As in
    ``segment`` what the frames that serve one say is joined (``Config.adjacent_sets``). In each of these views of a
    frame the nearest seed of every object is kept for every pixel. When seeds change hands, pixels whose nearest seed
    was among them look again. All others look at the seeds that came, unless these are twice as far from the pixel's
    nearest seed as the pixel is: then they are no nearer to it.

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
        config = config_of(result, None)
        self._temperature = config.temperature
        t, h, w = result.forest.label.shape
        check_tensor("embedding", embedding, "T D H W", sizes={"T": t, "H": h, "W": w}, like=result.seeds.embedding)
        self._size = (h, w)
        self._embedding = embedding.detach().flatten(2)
        self._length = torch.stack([value.square().sum(0) for value in self._embedding])  # [T, H W]
        self._seeds = result.seeds.embedding.detach()
        self._valid = result.seeds.valid
        self.owner = torch.full_like(owner, -1)
        sources = config.source_frames(torch.arange(t, device="cpu"), t - 1)  # [n, T]
        served = [[View(frame, source) for source in row] for frame, row in enumerate(sources.T.tolist())]
        self._views = list(dict.fromkeys(view for row in served for view in row))
        number = {view: n for n, view in enumerate(self._views)}
        self._served = [[number[view] for view in row] for row in served]  # the views of every frame
        self._near: list[list[Tensor]] = []  # of the ground and every object, of every view [H W], squared distance
        self._who: list[list[Tensor]] = []  # likewise, the seed, -1 for none; tensors are replaced, never changed
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
            nothing = self._length.new_full(self._length.shape[1:], torch.inf)
            nobody = torch.full_like(nothing, -1, dtype=torch.int16)
            self._near.append([nothing] * len(self._views))
            self._who.append([nobody] * len(self._views))
        changed = self._changed(owner)
        for view in changed:
            source = self._views[view].source
            for number in range(len(self._near)):
                self._update(number, view, self.owner[source] == number, owner[source] == number)
        self.owner = owner
        return self._frames(changed)

    def standing(self) -> Standing:
        """What is known now. It shares memory with what comes later, all but the frames that change."""
        return Standing(self.owner, tuple(map(tuple, self._near)), tuple(map(tuple, self._who)))

    def restore(self, before: Standing) -> list[int]:
        """Goes back to what was known then; returns the frames in which anything changed."""
        changed = self._changed(before.owner)
        self.owner = before.owner
        self._near, self._who = [*map(list, before.near)], [*map(list, before.who)]
        return self._frames(changed)

    def _changed(self, owner: Tensor) -> list[int]:
        """The views under seeds that other owners would have."""
        differs = (owner != self.owner).any(1).tolist()
        return [number for number, view in enumerate(self._views) if differs[view.source]]

    def _frames(self, views: list[int]) -> list[int]:
        return sorted({self._views[view].frame for view in views})

    def probability(self, frame: int) -> Tensor:
        """Probability of every object in one frame ``[N, H, W]``; at most one is above one half at a pixel."""
        return join_probabilities([self._of_view(view) for view in self._served[frame]]).view(-1, *self._size)

    def _of_view(self, view: int) -> Tensor:
        """Eq. 15 of every object, ``[N, H W]``."""
        far = softplus(torch.stack([value[view] for value in self._near]) / self._temperature)  # [N + 1, H W]
        first, owner = far.min(0, keepdim=True)
        second = far.scatter(0, owner, torch.inf).amin(0, keepdim=True)
        numbers = torch.arange(1, len(far), device=far.device)[:, None]
        rival, own = torch.where(owner == numbers, second, first), far[1:]
        return torch.sigmoid(torch.where(own.isfinite(), rival - own, -torch.inf))

    def deciding(self, frame: int, row: int, column: int) -> tuple[int, int, float]:
        """What decides a pixel of the grid: the owner of its nearest seed, that seed (-1 for none), and the margin.

        The seeds are those of the frame itself.

        The margin is that of ``explain``: (far - near) / (far + near) of the distances to the nearest seed and to the
        nearest seed of anything else.
        """
        views = self._served[frame]
        pixel, view = row * self._size[1] + column, views[len(views) // 2]
        near = torch.stack([value[view][pixel] for value in self._near]).sqrt()
        order = near.argsort(stable=True)
        own = int(order[0])
        seed = int(self._who[own][view][pixel])
        if len(order) < 2 or not bool(near[order[1]].isfinite()):
            return own, seed, float(seed >= 0)
        first, second = float(near[order[0]]), float(near[order[1]])
        return own, seed, (second - first) / max(second + first, 1e-30)

    def _update(self, number: int, view: int, before: Tensor, now: Tensor) -> None:
        lost, gained = before & ~now, now & ~before
        if bool(gained.any()) and not bool(before.any()):
            self._near[number][view], self._who[number][view] = self._first(view, gained)
            return
        if bool(lost.any()):
            who = self._who[number][view]
            self._put(number, view, lost[who.long().clamp(min=0)] & (who >= 0), now)
        if bool(gained.any()):
            self._put(number, view, self._in_reach(number, view, gained), gained, nearer=True)

    def _in_reach(self, number: int, view: int, gained: Tensor) -> Tensor:
        """Pixels that some of the seeds that came may be nearest to, by the triangle inequality."""
        near, who = self._near[number][view], self._who[number][view].long().clamp(min=0)
        seeds = self._seeds[self._views[view].source]
        squared = seeds.square().sum(1)
        apart = torch.addmm(squared[gained], seeds, seeds[gained].T, alpha=-2).amin(1) + squared  # [K]
        rounding = 1e-4 * self._length[self._views[view].frame]
        return apart[who] <= 4 * near + rounding

    def _put(self, number: int, view: int, where: Tensor, members: Tensor, *, nearer: bool = False) -> None:
        """Lets some pixels have the nearest of some seeds, ``nearer``: only if it is nearer than what they have."""
        near, who = self._near[number][view], self._who[number][view]
        frame = self._views[view].frame
        embedding, length = self._embedding[frame], self._length[frame]
        pixels = where.nonzero().flatten()
        if 2 * len(pixels) > len(where):  # then picking them out costs more than it saves
            found, seed = self._search(view, members, embedding, length)
            changed = where & (found < near) if nearer else where
            near, who = torch.where(changed, found, near), torch.where(changed, seed, who)
        elif len(pixels):
            found, seed = self._search(view, members, embedding.index_select(1, pixels), length[pixels])
            if nearer:
                old, whose = near[pixels], who[pixels]
                closer = found < old
                found, seed = torch.where(closer, found, old), torch.where(closer, seed, whose)
            near, who = near.index_copy(0, pixels, found), who.index_copy(0, pixels, seed)
        self._near[number][view], self._who[number][view] = near, who

    def _search(self, view: int, members: Tensor, embedding: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distance and number of the nearest of some seeds, exact to the rounding of its terms."""
        number = members.nonzero().flatten().to(torch.int16)
        if not len(number):
            empty = torch.full_like(length, torch.inf)
            return empty, torch.full_like(empty, -1, dtype=torch.int16)
        seeds = self._seeds[self._views[view].source, members]
        squared = seeds.square().sum(1, keepdim=True)
        least, place = torch.empty_like(length), torch.empty_like(length, dtype=torch.int64)
        step = max(1, _PRODUCTS // len(number))  # so that products stay in the cache
        for begin in range(0, len(length), step):
            part = slice(begin, begin + step)
            product = torch.addmm(squared, seeds, embedding[:, part], alpha=-2)  # [n, pixels]
            torch.min(product, 0, out=(least[part], place[part]))
        return least.add_(length).clamp_(min=0), number[place]

    def _first(self, view: int, members: Tensor) -> tuple[Tensor, Tensor]:
        """As ``_search`` for all pixels, by exact differences."""
        number = members.nonzero().flatten()
        all_of = torch.ones(1, len(number), dtype=torch.bool, device=number.device)
        frame, source = self._views[view]
        embedding, seeds = self._embedding[frame : frame + 1], self._seeds[source : source + 1, number]
        near, _, seed, _ = nearest_seeds(embedding, seeds, all_of, ~all_of)
        return near[0], number[seed[0]].to(torch.int16)
