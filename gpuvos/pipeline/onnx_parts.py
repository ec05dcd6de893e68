"""The parts of a segmenter that are one formula for all pixels, as files of ONNX."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim

from gpuvos import functional as F
from gpuvos.config import Reduce
from gpuvos.errors import InputError, check_tensor, fail
from gpuvos.functional import plain
from gpuvos.functional.batch import LONGEST
from gpuvos.pipeline.video import VideoSegmenter

OPSET = 20
LEFT_OUT = (
    "flow: DenseFlow, or RAFT, between the frames",
    "context: position and residual flow in the embedding",
    "seeds: select_seeds",
    "regions: minimax_forest, shortest_forest",
    "labels: motion_saliency, tracks, vote_labels, seed_sets",
    "refinement: dense_crf, guided_filter, ZoomRefinement, RoiRefinement",
)


class OnnxParts(NamedTuple):
    """Files that ``export_onnx`` wrote, and what they do not hold.

    ``probability`` takes one seed set a frame. With ``Config.adjacent_sets`` it is called for each of the frames that
    ``Config.source_frames`` names, and what it gives is joined as ``functional.probability.join_probabilities`` does.
    """

    network: Path  # frames [T, 3, h, w] uint8, any T -> embedding [T, C, H, W], objectness [T, H, W]
    edge_map: Path  # embedding [T, D, H, W] -> edges [T, H, W], Eq. 4
    probability: Path  # embedding, seed_embedding [T, K, D], foreground, background [T, K] bool -> [T, H, W], Eq. 13-15
    left_out: tuple[str, ...] = LEFT_OUT


class _Network(nn.Module):
    def __init__(self, front_end: Any) -> None:
        super().__init__()
        self.front_end = front_end

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        embedding, objectness = self.front_end.encode(frames)
        return embedding, objectness


class _EdgeMap(nn.Module):
    def __init__(self, reduce: Reduce, temperature: float) -> None:
        super().__init__()
        self.reduce, self.temperature = reduce, temperature

    def forward(self, embedding: Tensor) -> Tensor:
        return F.edge_map(embedding, reduce=self.reduce, temperature=self.temperature)


class _Probability(nn.Module):
    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, embedding: Tensor, seed_embedding: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
        pixels = embedding.flatten(2)
        nearest = [_nearest(pixels, seed_embedding, members) for members in (foreground, background)]
        temperature = torch.full((), self.temperature, dtype=embedding.dtype)
        found = plain.probability_of_nearest(pixels, seed_embedding, nearest[0], nearest[1], temperature)
        return found.reshape(embedding.shape[0], *embedding.shape[2:])


def _nearest(pixels: Tensor, seeds: Tensor, members: Tensor) -> Tensor:
    """Number ``[T, P]`` of the nearest member, -1 where there is none."""
    centre = seeds.mean(1, keepdim=True)  # small numbers keep the product exact enough
    near, here = seeds - centre, pixels - centre.mT
    score = 2 * near @ here - near.square().sum(2, keepdim=True)  # [T, K, P]
    number = score.masked_fill(~members[..., None], -torch.inf).argmax(1)
    return number.masked_fill(~members.any(1, keepdim=True), -1)


def export_onnx(segmenter: VideoSegmenter, folder: str | Path, frames: Tensor) -> OnnxParts:
    """Writes ``network.onnx``, ``edge_map.onnx`` and ``probability.onnx`` (opset 20) for frames of one size.

    Every other step is a search over data that ONNX has no operators for; ``OnnxParts.left_out`` names them. They take
    and give tensors between the three files, in torch or in code of your own.

    Args:
        segmenter: its front end has ``encode``, as those of the library have.
        folder: is made where it is missing; files of these names are replaced.
        frames: ``[T, 3, h, w]`` uint8, of the shape that the files are for (the network takes any number of frames);
            values do not matter.

    Returns:
        OnnxParts.

    Raises:
        InputError: onnxscript is missing, the front end has no ``encode``, or the frames are of another type.
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise InputError("export_onnx: onnxscript is missing; pip install 'gpuvos[onnx]'")
    front_end: Any = segmenter.front_end
    if not hasattr(front_end, "encode"):
        raise fail("segmenter", f"a front end {type(front_end).__name__} without encode", "one of the library")
    check_tensor("frames", frames, "T 3 h w", kind="frames", filled=True)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    config = segmenter.config
    temperature = float(config.temperature)
    network = _Network(front_end)
    with torch.no_grad():
        features = segmenter.features(frames, validate=False)
        t, _, h, w = features.embedding.shape
        seeds = features.embedding.flatten(2)[..., : min(config.num_seeds, h * w)].mT.contiguous()
        members = torch.ones(t, seeds.shape[1], dtype=torch.bool, device=frames.device)
        written = (
            _write(
                target / "network.onnx",
                network,
                {"frames": frames[:1].expand(2, -1, -1, -1)},  # torch takes 1 for a size that never differs
                ["embedding", "objectness"],
                ({0: Dim("T", max=LONGEST)},),
            ),
            _write(
                target / "edge_map.onnx",
                _EdgeMap(config.edge_reduce, temperature),
                {"embedding": features.embedding},
                ["edges"],
            ),
            _write(
                target / "probability.onnx",
                _Probability(temperature),
                {
                    "embedding": features.embedding,
                    "seed_embedding": seeds,
                    "foreground": members,
                    "background": ~members,
                },
                ["probability"],
            ),
        )
    return OnnxParts(written[0], written[1], written[2])


def _write(path: Path, part: nn.Module, inputs: dict[str, Tensor], outputs: list[str], opened: Any = None) -> Path:
    program = torch.export.export(part.eval(), tuple(inputs.values()), dynamic_shapes=opened)
    grid_edges = torch.ops.gpuvos.grid_edges.default
    if any(node.target is grid_edges for node in program.graph.nodes):  # the exporter takes all others apart itself
        program = program.run_decompositions({grid_edges: plain.grid_edges})
    torch.onnx.export(
        program,
        f=str(path),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(inputs),
        output_names=outputs,
        external_data=False,
        verbose=False,
    )
    return path
