"""Random batches of stills: which batch comes at which step depends on seed, step and process alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from gpuvos.errors import check_count, check_share
from gpuvos.training.augment import (
    Batch,
    concatenate,
    cut_out,
    paste,
    random_crop,
    spoil,
    unknown_to_rest,
)
from gpuvos.training.images import ONE_CLASS, StillSource, source_weights


class BatchSampler:
    """Draws augmented batches.

    Args:
        stills: the photographs to sample from.
        batch_size: images of a batch.
        size: side of the crops.
        paste_share: share of the images that another still's object is pasted onto. Where every object of the other
            still's source is of one class, half of those get a second one of it: two instances of one class.
        rest: make unknown pixels label 0, see ``unknown_to_rest``.
        seed: other batches for another number.
        process: number of the process of a distributed run.
    """

    def __init__(
        self,
        stills: StillSource,
        *,
        batch_size: int,
        size: int,
        paste_share: float,
        rest: bool,
        seed: int = 0,
        process: int = 0,
    ) -> None:
        check_count("batch_size", batch_size)
        check_count("size", size)
        check_share("paste_share", paste_share)
        self.stills, self.batch_size, self.size = stills, batch_size, size
        self.paste_share, self.rest, self.seed, self.process = paste_share, rest, seed, process
        self._chance = source_weights(stills.records)
        self._of_source: dict[str, list[int]] = {}
        for number, record in enumerate(stills.records):
            self._of_source.setdefault(record.source, []).append(number)

    def generator(self, step: int) -> torch.Generator:
        """The source of all chance of a step."""
        # Odd multipliers keep neighbouring steps, processes and seeds apart.
        mixed = step * 1_000_003 + self.process * 7_919 + self.seed * 15_485_863 + 1
        return torch.Generator().manual_seed(mixed % (1 << 63))

    def stream(self, start: int, stop: int, workers: int) -> Iterator[Batch]:
        """The batches of the steps from ``start`` up to ``stop``, drawn in that many processes (0: in this one)."""
        if workers == 0:
            return (self[step] for step in range(start, stop))
        loader: DataLoader[Batch] = DataLoader(
            _Steps(self), batch_size=None, sampler=range(start, stop), num_workers=workers, prefetch_factor=2
        )
        return iter(loader)

    def __getitem__(self, step: int) -> Batch:
        return self.draw(self.generator(step))

    def draw(self, generator: torch.Generator) -> Batch:
        """A batch, given the source of chance."""
        chosen = torch.multinomial(self._chance, self.batch_size, replacement=True, generator=generator)
        batch = concatenate([random_crop(self.stills[n], self.size, generator) for n in chosen.tolist()])
        first = torch.zeros(self.batch_size, 4, self.size, self.size)
        second = torch.zeros_like(first)
        pasted = torch.rand(self.batch_size, generator=generator) < self.paste_share
        for place in torch.nonzero(pasted)[:, 0].tolist():
            number = int(torch.multinomial(self._chance, 1, generator=generator))
            first[place] = cut_out(self.stills[number], self.size, generator)
            source = self.stills.records[number].source
            if source in ONE_CLASS and float(torch.rand((), generator=generator)) < 0.5:
                others = self._of_source[source]
                other = others[int(torch.randint(len(others), (1,), generator=generator))]
                second[place] = cut_out(self.stills[other], self.size, generator)
        for objects in (first, second):
            if objects[:, 3].any():
                batch = paste(batch, objects, generator)
        batch = unknown_to_rest(batch) if self.rest else batch
        return batch._replace(image=spoil(batch.image, generator))


class _Steps(Dataset[Batch]):
    """Batches by step, for worker processes."""

    def __init__(self, sampler: BatchSampler) -> None:
        self.sampler = sampler

    def __getitem__(self, step: int) -> Batch:
        return self.sampler[step]
