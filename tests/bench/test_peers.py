"""Peers: a row with a reason where one is missing or fails, agreement where it is installed."""

from __future__ import annotations

import pytest

from gpuvos.bench import peer_calls
from gpuvos.bench.peers import PEERS, Peer, missing, run_peer
from gpuvos.bench.stages import STAGES
from gpuvos.bench.workload import Inputs, Workload

OPTIONS = {"frames": 2, "rounds": 1}
# what computes the same thing must give the same thing
EQUAL = {
    "torch-fps": 1.0,
    "higra seeded watershed": 1.0,
    "SciPy dijkstra": 1.0,
    "pydensecrf2": 0.99,
    "ONNX Runtime, as rembg runs it": 0.99,
    "vos-benchmark": 1.0,
}


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs(Workload(height=96, width=160, frames=2, channels=6, seeds=8, robust_seeds=9))


def test_every_peer_belongs_to_a_stage_and_says_what_it_computes() -> None:
    stages = {stage.name for stage in STAGES}
    assert all(peer.stage in stages and len(peer.computes) > 10 for peer in PEERS)
    assert len({peer.name for peer in PEERS}) == len(PEERS)


def test_a_missing_package_is_a_row_with_the_remedy(inputs: Inputs) -> None:
    peer = PEERS[0]._replace(name="other", package="no-such-package-at-all", install="pip install it")
    row = run_peer(peer, inputs, **OPTIONS)
    assert row.skipped == "other: no-such-package-at-all is not installed (pip install it)"
    assert (row.timing, row.version, row.agreement) == (None, None, None)


def test_a_peer_that_fails_is_a_row_with_the_reason(inputs: Inputs) -> None:
    def broken(_inputs: Inputs, _frames: int) -> peer_calls.Call:
        raise AttributeError("module has no attribute 'removed'\nsecond line")

    row = run_peer(Peer("seeds", "old one", "numpy", "nothing at all", broken), inputs, **OPTIONS)
    assert row.skipped == "old one: AttributeError: module has no attribute 'removed'"
    assert row.timing is None


@pytest.mark.sampled
@pytest.mark.usefixtures("small_saliency")
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_runs_where_it_is_installed(inputs: Inputs, peer: Peer) -> None:
    if peer.name == "torch-fps":
        pytest.skip("it compiles its own code at the first call")
    reason = missing(peer)
    if reason is not None:
        pytest.skip(reason)
    row = run_peer(peer, inputs, **OPTIONS)
    assert row.skipped is None
    assert row.timing is not None
    assert row.frames == 2
    if peer.name in EQUAL:
        assert row.agreement is not None
        assert row.agreement >= EQUAL[peer.name]


def test_agreement_notices_what_differs(inputs: Inputs) -> None:
    call = peer_calls.scipy_dijkstra(inputs, 1)
    assert call.agreement is not None
    distances, before, sources = call.run()[0]
    assert call.agreement([(distances, before, sources)]) == 1
    sources[: len(sources) // 2] = -1
    assert call.agreement([(distances, before, sources)]) == 0.5
