"""How each peer is called. Conversions are made outside of what is timed; loops over frames are inside."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuvos import functional as F
from gpuvos.bench.workload import Inputs
from gpuvos.features.network.u2net import U2NetP
from gpuvos.metrics import boundary_accuracy

Array = NDArray[Any]


class Call(NamedTuple):
    """What is timed, and the share of its result that equals ours."""

    run: Callable[[], Any]
    agreement: Callable[[Any], float] | None = None


def _array(value: Tensor) -> Array:
    value = value.float() if value.is_floating_point() else value
    array: Array = value.cpu().numpy()
    return array


def _share(found: Sequence[Any], wanted: Tensor) -> float:
    """Share of equal elements, frame by frame, over all frames."""
    stacked = np.stack([np.asarray(frame).reshape(-1) for frame in found])
    return float((stacked == wanted.flatten(1).cpu().numpy()).mean())


def _valid(inputs: Inputs, frame: int) -> Tensor:
    return inputs.seeds.index[frame][inputs.seeds.valid[frame]]


def torch_fps(inputs: Inputs, frames: int) -> Call:
    """Farthest points among the candidates; frames are padded to the longest list."""
    from torch_fps import farthest_point_sampling

    places = [inputs.candidates[frame].flatten().nonzero()[:, 0] for frame in range(frames)]
    points = [inputs.features.embedding[frame].flatten(1).T[at].float() for frame, at in enumerate(places)]
    padded = torch.nn.utils.rnn.pad_sequence(points, batch_first=True)
    there = torch.arange(padded.shape[1], device=padded.device) < torch.tensor(
        [[len(at)] for at in places], device=padded.device
    )
    first = torch.stack([inputs.features.objectness[frame].flatten()[at].argmax() for frame, at in enumerate(places)])
    number = min(inputs.workload.seeds, *(len(at) for at in places))

    def agreement(found: Tensor) -> float:
        chosen = [at[one] for at, one in zip(places, found, strict=True)]
        return _share([_array(one) for one in chosen], inputs.seeds.index[:frames, :number])

    return Call(lambda: farthest_point_sampling(padded, there, number, start_idx=first, validate=False), agreement)


def _markers(inputs: Inputs, frame: int) -> Array:
    """Seed numbers from 1 on a grid of zeros."""
    grid = torch.zeros(inputs.workload.pixels, dtype=torch.int64)
    index = _valid(inputs, frame).cpu()
    grid[index] = torch.arange(1, len(index) + 1)
    return _array(grid.view(inputs.workload.grid))


def _sparse(inputs: Inputs, frame: int) -> Any:
    """The embedding graph of a frame as a sparse matrix; no weight is 0, which would be no edge."""
    from scipy.sparse import csr_matrix

    (height, width), count = inputs.workload.grid, inputs.workload.pixels
    number = np.arange(count).reshape(height, width)
    ends = [
        np.concatenate((number[:, :-1].ravel(), number[:-1].ravel())),
        np.concatenate((number[:, 1:].ravel(), number[1:].ravel())),
    ]
    weights = np.concatenate([_array(value[frame]).ravel() for value in inputs.weights])
    return csr_matrix((np.maximum(weights, 1e-12), (ends[0], ends[1])), shape=(count, count))


def scipy_tree(inputs: Inputs, frames: int) -> Call:
    """Kruskal's algorithm."""
    from scipy.sparse.csgraph import minimum_spanning_tree

    graphs = [_sparse(inputs, frame) for frame in range(frames)]
    return Call(lambda: [minimum_spanning_tree(graph) for graph in graphs])


def scipy_dijkstra(inputs: Inputs, frames: int) -> Call:
    """One search from all seeds."""
    from scipy.sparse.csgraph import dijkstra

    graphs = [_sparse(inputs, frame) for frame in range(frames)]
    seeds = [_array(_valid(inputs, frame)) for frame in range(frames)]

    def run() -> list[Any]:
        return [
            dijkstra(graph, directed=False, indices=index, min_only=True, return_predecessors=True)
            for graph, index in zip(graphs, seeds, strict=True)
        ]

    def agreement(found: list[Any]) -> float:
        ours = F.shortest_forest(inputs.weights, inputs.seeds.index, inputs.seeds.valid).label[:frames]
        return _share([one[2] for one in found], inputs.seeds.index[:frames].gather(1, ours.flatten(1)))

    return Call(run, agreement)


def _higra_graph(inputs: Inputs) -> tuple[Any, Callable[[int], Array]]:
    """The grid as a graph, and its weights for a frame in its own order of edges."""
    import higra

    graph = higra.get_4_adjacency_graph(inputs.workload.grid)
    first, second = graph.edge_list()
    row, column = np.divmod(first, inputs.workload.grid[1])
    across = second - first == 1

    def weights(frame: int) -> Array:
        right, down = (_array(value[frame]) for value in inputs.weights)
        values: Array = np.empty(len(first), np.float32)
        values[across] = right[row[across], column[across]]
        values[~across] = down[row[~across], column[~across]]
        return values

    return graph, weights


def higra_watershed(inputs: Inputs, frames: int) -> Call:
    """Watershed cut from the seeds."""
    import higra

    graph, weights = _higra_graph(inputs)
    given = [(weights(frame), _markers(inputs, frame)) for frame in range(frames)]
    return Call(
        lambda: [higra.labelisation_seeded_watershed(graph, value, seeds) for value, seeds in given],
        lambda found: _share([label - 1 for label in found], inputs.forest.label[:frames]),
    )


def higra_tree(inputs: Inputs, frames: int) -> Call:
    """Binary partition tree, which holds the minimum spanning tree."""
    import higra

    graph, weights = _higra_graph(inputs)
    given = [weights(frame) for frame in range(frames)]
    return Call(lambda: [higra.bpt_canonical(graph, value) for value in given])


def skimage_watershed(inputs: Inputs, frames: int) -> Call:
    """Priority flood of the edge map from the seeds."""
    from skimage.segmentation import watershed

    given = [(_array(inputs.edge_map[frame]), _markers(inputs, frame)) for frame in range(frames)]
    return Call(
        lambda: [watershed(surface, seeds, connectivity=1) for surface, seeds in given],
        lambda found: _share([label - 1 for label in found], inputs.forest.label[:frames]),
    )


def fast_geodis(inputs: Inputs, frames: int) -> Call:
    """Distance to the nearest seed, embedding channels as an image."""
    from FastGeodis import generalised_geodesic2d

    seeds = torch.ones(frames, 1, inputs.workload.pixels, device=inputs.device)
    for frame in range(frames):
        seeds[frame, 0, _valid(inputs, frame)] = 0
    seeds = seeds.view(frames, 1, *inputs.workload.grid)
    images = inputs.features.embedding[:frames].float()
    return Call(
        lambda: [generalised_geodesic2d(images[n : n + 1], seeds[n : n + 1], 1e10, 1.0, 2) for n in range(frames)]
    )


def scipy_means(inputs: Inputs, frames: int) -> Call:
    """Means of both channels of the flow by label."""
    from scipy import ndimage

    labels, flow = _array(inputs.forest.label[:frames]), _array(inputs.features.flow[:frames])
    numbers = [np.unique(label) for label in labels]  # it warns of regions without a pixel
    return Call(
        lambda: [
            [ndimage.mean(channel, label, there) for channel in values]
            for label, there, values in zip(labels, numbers, flow, strict=True)
        ]
    )


def sklearn_nearest(inputs: Inputs, frames: int) -> Call:
    """Nearest foreground and nearest background seed of every pixel."""
    from sklearn.metrics import pairwise_distances_argmin_min

    given = [
        (
            np.ascontiguousarray(_array(inputs.features.embedding[frame].flatten(1).T)),
            [_array(inputs.seeds.embedding[frame][chosen[frame]]) for chosen in inputs.seed_sets],
        )
        for frame in range(frames)
    ]
    return Call(
        lambda: [
            [pairwise_distances_argmin_min(pixels, seeds) for seeds in sets if len(seeds)] for pixels, sets in given
        ]
    )


def pydensecrf(inputs: Inputs, frames: int) -> Call:
    """Mean field with the parameters of ``dense_crf``."""
    from pydensecrf.densecrf import DenseCRF2D

    height, width = inputs.workload.height, inputs.workload.width
    images = [np.ascontiguousarray(_array(image).transpose(1, 2, 0)) for image in inputs.images[:frames]]
    given = _array(inputs.probability[:frames]).reshape(frames, -1)

    def refine(probability: Array, image: Array) -> Array:
        model = DenseCRF2D(width, height, 2)
        unary = np.clip(np.stack((1 - probability, probability)), 1e-5, 1 - 1e-5)
        model.setUnaryEnergy(-np.log(unary))
        model.addPairwiseGaussian(sxy=1, compat=3)
        model.addPairwiseBilateral(sxy=67, srgb=3, rgbim=image, compat=4)
        refined: Array = np.array(model.inference(10))[1]
        return refined

    def agreement(found: list[Array]) -> float:
        ours = F.dense_crf(inputs.probability[:frames], inputs.images[:frames]) > 0.5
        return _share([one > 0.5 for one in found], ours)

    return Call(lambda: [refine(*pair) for pair in zip(given, images, strict=True)], agreement)


def opencv_dis(inputs: Inputs, frames: int) -> Call:
    """Grey values and flow to the next frame, at the resolution of the image; the last frame twice."""
    import cv2

    cv2.setNumThreads(torch.get_num_threads())
    images = [np.ascontiguousarray(_array(image).transpose(1, 2, 0)) for image in inputs.images[: frames + 1]]
    images += images[-1:] if len(images) == frames else []
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def run() -> list[Array]:
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
        return [flow.calc(first, second, None) for first, second in pairwise(grey)]

    return Call(run)


def onnx_u2netp(inputs: Inputs, frames: int) -> Call:
    """A frame to its saliency, as rembg's session ``u2netp`` does it: Pillow and NumPy prepare, the runtime runs."""
    from PIL import Image

    network = inputs.published_saliency
    mean, std = (_array(value).reshape(3) for value in (network.mean, network.std))
    images = [Image.fromarray(np.ascontiguousarray(_array(one).transpose(1, 2, 0))) for one in inputs.images[:frames]]
    session = _runtime_session(network)

    def look(image: Image.Image) -> Array:
        square = np.asarray(image.resize((network.size, network.size), Image.Resampling.LANCZOS), np.float32)
        prepared = (square / max(square.max(), 1) - mean) / std
        found: Array = session.run(None, {"images": prepared.transpose(2, 0, 1)[None]})[0][0, 0]
        return found

    def agreement(found: list[Array]) -> float:
        ours = torch.cat([network(image[None] / 255) for image in inputs.images[:frames]])
        return _share([one > 0.5 for one in found], ours > 0.5)

    return Call(lambda: [look(image) for image in images], agreement)


def _runtime_session(network: U2NetP) -> Any:
    """ONNX Runtime with the network from prepared images to saliency, on as many cores as torch takes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    prepared = torch.zeros(1, 3, network.size, network.size)
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "network.onnx")
        part = _Prepared(copy.deepcopy(network).cpu()).eval()
        torch.onnx.export(
            part, (prepared,), file, dynamo=True, input_names=["images"], external_data=False, verbose=False
        )
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


class _Prepared(torch.nn.Module):
    """U2NetP without what it does to its images."""

    def __init__(self, network: U2NetP) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.logits(images).sigmoid()


def vos_benchmark(inputs: Inputs, frames: int) -> Call:
    """J and F of every frame."""
    from vos_benchmark.evaluator import Evaluator

    mask, truth = (_array(value[:frames].byte()) for value in (inputs.mask, inputs.truth))

    def run() -> list[float]:
        evaluator = Evaluator()
        for pair in zip(mask, truth, strict=True):
            evaluator.feed_frame(*pair)
        return list(evaluator.boundary_f[1])

    def agreement(found: list[float]) -> float:
        ours = boundary_accuracy(inputs.mask[:frames], inputs.truth[:frames]).cpu()
        return float((torch.tensor(found) - ours).abs().le(1e-6).float().mean())

    return Call(run, agreement)
