"""Other packages on the inputs of the stages; skipped with a message where one is not installed."""

from __future__ import annotations

from typing import Any

import pytest

from gpuvos.bench.peers import PEERS, Peer, missing
from gpuvos.bench.workload import Inputs

FRAMES = 2


@pytest.mark.benchmark(group="peers")
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: f"{peer.stage}: {peer.name}")
def test_peer(timed: Any, inputs: Inputs, peer: Peer) -> None:
    reason = missing(peer)
    if reason is not None:
        pytest.skip(reason)
    frames = min(FRAMES, inputs.workload.frames)
    timed(peer.prepare(inputs, frames).run, frames)
