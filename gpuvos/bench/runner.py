"""Measures the stages of a workload and their peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from gpuvos.bench.peers import PEERS, Peer, PeerRow, run_peer
from gpuvos.bench.stages import Stage, aim
from gpuvos.bench.timing import Timing, measure
from gpuvos.bench.workload import Inputs, Workload


@torch.no_grad()
def measure_workload(
    workload: Workload,
    stages: Sequence[Stage],
    *,
    bandwidth: float,
    peak_flops: float | None = None,
    peers: Sequence[Peer] = PEERS,
    peer_frames: int = 2,
    progress: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> dict[str, Any]:
    """Times stages and the peers of those stages.

    Args:
        workload: sizes and device.
        stages: what to time.
        bandwidth: of a copy on the device in bytes a second.
        peak_flops: operations a second that a convolution reaches on the device, for the floors of networks.
        peers: those not of a chosen stage are left out.
        peer_frames: frames that a peer on the CPU is timed on.
        progress: told what comes next.
        options: of ``measure``.

    Returns:
        An element of ``measurements`` of a record; times in milliseconds a frame.
    """
    inputs = Inputs(workload)
    rows, found = [], []
    for stage in stages:
        progress(stage.name)
        rows.append(_stage_row(stage, inputs, bandwidth, peak_flops, options))
        for peer in (peer for peer in peers if peer.stage == stage.name):
            progress(peer.name)
            found.append(_peer_row(run_peer(peer, inputs, frames=peer_frames, **options)))
    return {"workload": workload._asdict(), "rows": rows, "peers": found}


def times(timing: Timing | None, frames: int) -> dict[str, Any]:
    """Median, quartiles in milliseconds a frame, number of rounds and peak memory of a timing, as in a record."""
    if timing is None:
        return {"median": None, "q1": None, "q3": None, "rounds": 0, "peak_bytes": None}
    median, q1, q3 = (round(1e3 * value / frames, 7) for value in timing.seconds[:3])
    rounds = timing.seconds.rounds
    return {"median": median, "q1": q1, "q3": q3, "rounds": rounds, "peak_bytes": timing.peak_bytes}


def time_stage(stage: Stage, inputs: Inputs, options: dict[str, Any]) -> tuple[Timing | None, str | None]:
    """The timing of a stage, or why there is none: it does not fit into memory, or its kernel fails."""
    try:
        return measure(lambda: stage.run(inputs), inputs.device, **options), None
    except (RuntimeError, MemoryError) as error:  # torch's out-of-memory is a RuntimeError
        return None, f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _stage_row(
    stage: Stage, inputs: Inputs, bandwidth: float, peak_flops: float | None, options: dict[str, Any]
) -> dict[str, Any]:
    timing, error = time_stage(stage, inputs, options)
    counts = (stage.must, stage.moved, stage.flops)
    must, moved, flops = (None if count is None or error else count(inputs) for count in counts)
    floor = None if must is None else 1e3 * must / bandwidth
    if flops is not None and peak_flops is not None:
        floor = 1e3 * flops / peak_flops
    return {
        "stage": stage.name,
        **times(timing, inputs.workload.frames),
        "must_bytes": None if must is None else round(must),
        "moved_bytes": None if moved is None else round(moved),
        "flops": flops,
        "floor": floor,
        "aim": aim(stage.name, inputs.workload),
        "error": error,
    }


def _peer_row(row: PeerRow) -> dict[str, Any]:
    kept = row._asdict()
    timing = kept.pop("timing")
    return {**kept, **times(timing, row.frames)}
