"""The measures as modules that gather sequence after sequence, in one process or in several.

>>> import torch
>>> from gpuvos.metrics.modules import RegionSimilarity
>>> j = RegionSimilarity()
>>> truth = torch.ones(2, 3, 8, 8, dtype=torch.bool)
>>> truth[1, :, :, 4:] = False
>>> for sequence in truth:
...     j.update(torch.ones(3, 8, 8, dtype=torch.bool), sequence)
>>> print(f"{j.compute().mean:.2f}")  # of 1 and 1/2
0.75
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from gpuvos.errors import InputError, fail
from gpuvos.metrics.boundary import boundary_accuracy
from gpuvos.metrics.foreground import ForegroundScore, foreground_score
from gpuvos.metrics.objects import object_scores
from gpuvos.metrics.region import region_similarity
from gpuvos.metrics.statistics import Summary, summary
from gpuvos.metrics.temporal import temporal_stability

Result = TypeVar("Result")


class SequenceMetric(nn.Module, ABC, Generic[Result]):
    """A measure over many sequences: ``update`` with each of them, then ``compute``.

    The state is one row of numbers a sequence (or object), float64, on the device of the module. Where
    ``torch.distributed`` is initialized, ``compute`` takes the rows of all processes: it must be called by all of them,
    each has seen its own share of the sequences (which may be none), and all get the same result. The rows of this
    process stay as they are, so ``update`` may go on afterwards.

    Args:
        group: the processes to gather over; by default all.
    """

    rows: Tensor

    def __init__(self, width: int, group: torch.distributed.ProcessGroup | None = None) -> None:
        super().__init__()
        self.group = group
        self.register_buffer("rows", torch.zeros(0, width, dtype=torch.float64), persistent=False)

    @abstractmethod
    def update(self, mask: Tensor, truth: Tensor) -> None:
        """Adds a sequence."""

    def compute(self) -> Result:
        """The result over all sequences of all processes.

        Raises:
            InputError: if no process has seen a sequence.
        """
        rows = self.sync()
        if len(rows) == 0:
            raise InputError(f"{type(self).__name__}: got no sequence, wanted update() before compute()")
        return self._result(rows)

    def reset(self) -> None:
        """Forgets the sequences of this process."""
        self.rows = self.rows[:0]

    def sync(self) -> Tensor:
        """The rows ``[S, K]`` of all processes, in the order of their ranks; those of this one where it is alone."""
        own = self.rows.double().contiguous()
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return own
        world = torch.distributed.get_world_size(self.group)
        count = torch.tensor([len(own)], device=own.device)
        counts = [torch.zeros_like(count) for _ in range(world)]
        torch.distributed.all_gather(counts, count, group=self.group)
        numbers = [int(number) for number in counts]
        padded = own.new_zeros(max(numbers), own.shape[1])
        padded[: len(own)] = own
        parts = [torch.zeros_like(padded) for _ in range(world)]
        torch.distributed.all_gather(parts, padded, group=self.group)
        return torch.cat([part[:number] for part, number in zip(parts, numbers, strict=True)])

    def forward(self, mask: Tensor, truth: Tensor) -> None:
        """The same as ``update``."""
        self.update(mask, truth)

    @abstractmethod
    def _result(self, rows: Tensor) -> Result:
        """The result of rows ``[S, K]``, at least one."""

    def _add(self, rows: Tensor) -> None:
        self.rows = torch.cat([self.rows, rows.to(self.rows)])


class RegionSimilarity(SequenceMetric[Summary]):
    """J: mean, recall and decay of every sequence, each averaged over the sequences.

    ``update`` takes masks ``[T, H, W]`` of the frames that count, see ``davis2016_frames``.

    Args:
        group: the processes to gather over; by default all.
    """

    def __init__(self, group: torch.distributed.ProcessGroup | None = None) -> None:
        super().__init__(3, group)

    def update(self, mask: Tensor, truth: Tensor) -> None:
        """Adds a sequence: masks ``[T, H, W]`` as ``region_similarity`` takes them."""
        self._add(_statistics(region_similarity(_clip(mask), truth)))

    def _result(self, rows: Tensor) -> Summary:
        return Summary(*rows.mean(0))


class BoundaryAccuracy(SequenceMetric[Summary]):
    """F: mean, recall and decay of every sequence, each averaged over the sequences.

    Args:
        tolerance: see ``boundary_accuracy``.
        group: the processes to gather over; by default all.
    """

    def __init__(self, tolerance: float = 0.008, group: torch.distributed.ProcessGroup | None = None) -> None:
        super().__init__(3, group)
        self.tolerance = tolerance

    def update(self, mask: Tensor, truth: Tensor) -> None:
        """Adds a sequence: masks ``[T, H, W]`` as ``boundary_accuracy`` takes them."""
        self._add(_statistics(boundary_accuracy(_clip(mask), truth, tolerance=self.tolerance)))

    def _result(self, rows: Tensor) -> Summary:
        return Summary(*rows.mean(0))


class TemporalStability(SequenceMetric[Tensor]):
    """T: the mean of every sequence, averaged over the sequences that have an outline in two successive frames.

    ``update`` takes the true masks as well, so that one loop serves all measures: T pairs the true mask of the first
    frame with the mask of the second, as the toolkit of DAVIS does. Leave out ``DAVIS2016_OCCLUDED``.

    Args:
        group: the processes to gather over; by default all.
    """

    def __init__(self, group: torch.distributed.ProcessGroup | None = None) -> None:
        super().__init__(1, group)

    def update(self, mask: Tensor, truth: Tensor) -> None:
        """Adds a sequence: masks ``[T, H, W]`` of all its frames but the last."""
        clip = torch.cat([truth[:1] != 0, _clip(mask)[1:] != 0])
        self._add(temporal_stability(clip).nanmean().reshape(1, 1))

    def _result(self, rows: Tensor) -> Tensor:
        return rows.nanmean()


class ForegroundMeasure(SequenceMetric[ForegroundScore]):
    """Precision, recall and F-measure of FBMS: means of both over the sequences, and the F-measure of these.

    Args:
        group: the processes to gather over; by default all.
    """

    def __init__(self, group: torch.distributed.ProcessGroup | None = None) -> None:
        super().__init__(2, group)

    def update(self, mask: Tensor, truth: Tensor) -> None:
        """Adds a sequence: masks ``[T, H, W]`` as ``foreground_score`` takes them."""
        found = foreground_score(_clip(mask), truth)
        self._add(torch.stack([found.precision, found.recall])[None])

    def _result(self, rows: Tensor) -> ForegroundScore:
        precision, recall = rows.mean(0)
        return ForegroundScore(precision, recall, 2 * precision * recall / (precision + recall).clamp_min(1e-12))


class ObjectMeasure(SequenceMetric[tuple[Summary, Summary]]):
    """J and F by object, matched as ``object_scores`` does it, averaged over all objects of all sequences.

    Args:
        tolerance: of F, see ``boundary_accuracy``.
        group: the processes to gather over; by default all.
    """

    def __init__(self, tolerance: float = 0.008, group: torch.distributed.ProcessGroup | None = None) -> None:
        super().__init__(6, group)
        self.tolerance = tolerance

    def update(self, mask: Tensor, truth: Tensor) -> None:
        """Adds a sequence: proposals ``[N, T, H, W]`` and true objects ``[M, T, H, W]``."""
        found = object_scores(mask, truth, tolerance=self.tolerance)
        self._add(torch.cat([_statistics(found.j), _statistics(found.f)], dim=1))

    def _result(self, rows: Tensor) -> tuple[Summary, Summary]:
        means = rows.mean(0)
        return Summary(*means[:3]), Summary(*means[3:])


def _clip(mask: Tensor) -> Tensor:
    """The masks of one sequence."""
    if not isinstance(mask, Tensor) or mask.ndim != 3:
        got = f"shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise fail("mask", got, "masks of one sequence, [T, H, W]")
    return mask


def _statistics(values: Tensor) -> Tensor:
    """Mean, recall and decay ``[N, 3]`` of values ``[..., T]``."""
    return torch.stack(summary(values.double()), dim=-1).reshape(-1, 3)
