"""Other packages on the same inputs in the same run, each with what it computes and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import torch

from gpuvos.bench import peer_calls as calls
from gpuvos.bench.timing import Timing, measure
from gpuvos.bench.workload import Inputs


class Peer(NamedTuple):
    """A package that does a stage or a part of it."""

    stage: str
    name: str
    package: str  # as pip knows it
    computes: str  # and what not
    prepare: Callable[[Inputs, int], calls.Call]  # for so many frames; conversions of the input are made here
    on_device: bool = False  # whether it runs where the tensors are; else on the CPU
    install: str = "pip install 'gpuvos[bench]'"


class PeerRow(NamedTuple):
    """A peer's time, or why there is none."""

    stage: str
    name: str
    package: str
    version: str | None
    computes: str
    device: str
    frames: int
    timing: Timing | None
    agreement: float | None  # share of what it gives that equals ours, where the two are comparable
    skipped: str | None


PEERS = (
    Peer(
        "seeds",
        "torch-fps",
        "torch-fps",
        "the same points from the candidates alone, which are gathered beforehand with their embedding side by side",
        calls.torch_fps,
        on_device=True,
    ),
    Peer(
        "minimax forest",
        "SciPy minimum_spanning_tree",
        "scipy",
        "the tree; no labels, no distances; the sparse matrix is made beforehand",
        calls.scipy_tree,
    ),
    Peer(
        "minimax forest",
        "higra seeded watershed",
        "higra",
        "the labels of the same forest; no distances; the graph is made beforehand",
        calls.higra_watershed,
    ),
    Peer(
        "minimax forest",
        "higra minimum spanning tree",
        "higra",
        "tree and merge order (canonical binary partition tree), from which distances follow; no seeds, no labels",
        calls.higra_tree,
    ),
    Peer(
        "minimax forest",
        "scikit-image watershed",
        "scikit-image",
        "labels by flooding the edge map of pixels, not the edges: another partition; no distances",
        calls.skimage_watershed,
    ),
    Peer(
        "shortest forest",
        "SciPy dijkstra",
        "scipy",
        "distances and nearest seeds; no seed-to-seed table; the sparse matrix is made beforehand",
        calls.scipy_dijkstra,
    ),
    Peer(
        "shortest forest",
        "FastGeodis, 2 iterations",
        "fastgeodis",
        "distances by raster passes, approximate, in the sum of absolute differences; no labels",
        calls.fast_geodis,
        on_device=True,
        install="pip install --no-build-isolation fastgeodis, with torch and setuptools<81 there (built from source)",
    ),
    Peer(
        "region means",
        "SciPy ndimage.mean",
        "scipy",
        "the same, a channel at a time",
        calls.scipy_means,
    ),
    Peer(
        "probability",
        "scikit-learn pairwise_distances_argmin_min",
        "scikit-learn",
        "nearest seed and distance for either set; no probability; pixels are laid out beforehand",
        calls.sklearn_nearest,
    ),
    Peer(
        "dense CRF",
        "pydensecrf2",
        "pydensecrf2",
        "the same energy on its own lattice",
        calls.pydensecrf,
    ),
    Peer(
        "flow",
        "OpenCV DIS, medium",
        "opencv-python-headless",
        "flow of every pixel by another method, with larger errors (docs/performance.md); not averaged on the grid",
        calls.opencv_dis,
    ),
    Peer(
        "network, U2NetP as published",
        "ONNX Runtime, as rembg runs it",
        "onnxruntime",
        "the same network with the same weights; frames are scaled by Pillow's Lanczos filter, as by rembg",
        calls.onnx_u2netp,
    ),
    Peer(
        "F, boundary accuracy",
        "vos-benchmark",
        "vos-benchmark",
        "F by the code of the official DAVIS toolkit, and J in the same call",
        calls.vos_benchmark,
        install="pip install --no-deps vos-benchmark, with opencv-python-headless and scikit-image there",
    ),
)


def missing(peer: Peer) -> str | None:
    """Why the peer cannot run: its package is not installed; None where it is.

    Example:
        >>> missing(PEERS[0]._replace(name="it", package="no-such-package"))
        "it: no-such-package is not installed (pip install 'gpuvos[bench]')"
    """
    if _version(peer.package) is None:
        return f"{peer.name}: {peer.package} is not installed ({peer.install})"
    return None


def run_peer(peer: Peer, inputs: Inputs, *, frames: int, **options: Any) -> PeerRow:
    """Times a peer on the first frames, with the options of ``measure``; a row with the reason where it cannot run."""
    device = inputs.device if peer.on_device else torch.device("cpu")
    count = inputs.workload.frames if device.type == "cuda" else min(frames, inputs.workload.frames)
    row = PeerRow(
        peer.stage,
        peer.name,
        peer.package,
        _version(peer.package),
        peer.computes,
        str(device),
        count,
        None,
        None,
        missing(peer),
    )
    if row.skipped:
        return row
    try:
        call = peer.prepare(inputs, count)
        result: Any = call.run()
        agreement = None if call.agreement is None else call.agreement(result)
        timing = measure(call.run, device, warm=False, **options)
    except Exception as error:  # of somebody else's code: its row says so and the run goes on
        return row._replace(skipped=f"{peer.name}: {type(error).__name__}: {error}".splitlines()[0])
    return row._replace(timing=timing, agreement=agreement)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
