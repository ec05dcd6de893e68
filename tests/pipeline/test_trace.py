"""Nothing of the method reads a value back or has a shape that depends on data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gpuvos
from gpuvos import Config, EdgeWeights, Features, Seeds, Segmentation
from gpuvos import functional as F
from gpuvos.data import render_clip
from gpuvos.features.network.weights import load_saliency
from gpuvos.features.saliency import SaliencyFeatures
from gpuvos.metrics import region_similarity

OPTIONS = [
    Config(rule=rule, distance=distance, num_seeds=10, num_background=3, window=3)
    for rule in ("paper", "robust")
    for distance in ("minimax", "shortest")
]
OPTIONS += [dataclasses.replace(config, softness=0.25) for config in OPTIONS[::2]]


def name_of(config: Config) -> str:
    return f"{config.rule}-{config.distance}{'-soft' if config.softness else ''}"


def features(*lead: int, h: int = 9, w: int = 11) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return (
        torch.randn(*lead, 4, h, w, generator=g),
        torch.rand(*lead, h, w, generator=g),
        torch.randn(*lead, 2, h, w, generator=g),
    )


def leaves(result: Segmentation) -> Iterator[Tensor]:
    for value in result:
        if isinstance(value, tuple | Tensor):
            yield from (value,) if isinstance(value, Tensor) else value


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("config", OPTIONS, ids=name_of)
def test_fake_tensors_give_the_shapes_and_types_of_real_ones(config: Config) -> None:
    # a fake tensor has no values: a .item(), a nonzero or a data-dependent branch would raise
    for lead, more in (
        ((3,), {"size": (18, 22)}),
        ((3,), {"first_mask": torch.ones(9, 11, dtype=torch.bool)}),
        ((2, 3), {"lengths": torch.tensor([3, 2])}),
    ):
        real = features(*lead)
        expected = gpuvos.segment(*real, config=config, **more)
        with FakeTensorMode() as mode:
            fake = [mode.from_tensor(value) for value in real]
            options = {k: mode.from_tensor(v) if isinstance(v, Tensor) else v for k, v in more.items()}
            result = gpuvos.segment(*fake, config=config, **options)
        for one, two in zip(leaves(result), leaves(expected), strict=True):
            assert (one.shape, one.dtype) == (two.shape, two.dtype)


class Transfers(TorchDispatchMode):
    """Notes every function that brings values from the host to the device, or back; each would wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [value for value in tree_leaves((args, kwargs, result)) if isinstance(value, Tensor)]
        # a number as a tensor of the host goes to a kernel as an argument, unless it is copied
        copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        devices = {value.device.type for value in given if value.ndim or copies}
        if len(devices) > 1:
            self.seen.append(str(func))
        return result


@pytest.mark.slow
@pytest.mark.parametrize("config", OPTIONS, ids=name_of)
def test_nothing_passes_between_host_and_device(config: Config) -> None:
    mask, lengths = torch.ones(9, 11, dtype=torch.bool), torch.tensor([3, 2])
    with FakeTensorMode() as mode:  # fake tensors need no GPU to be on one
        for lead, more in (
            ((3,), {"size": (18, 22)}),
            ((3,), {"first_mask": mask}),
            ((2, 3), {"lengths": lengths}),
        ):
            given = [mode.from_tensor(value).to("cuda:0") for value in features(*lead)]
            more = {k: mode.from_tensor(v).to("cuda:0") if isinstance(v, Tensor) else v for k, v in more.items()}
            with Transfers() as transfers:
                result = gpuvos.segment(*given, config=config, validate=False, **more)
            assert all(value.device.type == "cuda" for value in leaves(result))
            assert transfers.seen == []


def test_transfers_are_noticed() -> None:
    with FakeTensorMode():
        e = torch.empty(3, 4, device="cuda:0")
        for transfer in (
            lambda: e.new_tensor([1.0, 2.0]),
            lambda: torch.tensor(1.0, device=e.device),
            lambda: e.cpu(),
            lambda: e[torch.tensor([0, 2])],
        ):
            with Transfers() as transfers:
                transfer()
            assert transfers.seen
        with Transfers() as transfers:
            torch.where(e > 0, e, 2.0) * 3
        assert transfers.seen == []


@pytest.mark.slow
@pytest.mark.parametrize("config", OPTIONS, ids=name_of)
def test_compiles_as_one_graph(config: Config) -> None:
    real = features(3)
    expected = gpuvos.segment(*real, config=config)
    compiled = torch.compile(gpuvos.segment, fullgraph=True, backend="eager")
    for one, two in zip(leaves(compiled(*real, config=config)), leaves(expected), strict=True):
        assert torch.equal(one, two)


class Method(nn.Module):
    """A module around the function, as torch.export wants it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, embedding: Tensor, objectness: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        result = gpuvos.segment(embedding, objectness, flow, config=self.config, size=(18, 22))
        return result.mask, result.probability


@pytest.mark.slow
@pytest.mark.parametrize("config", OPTIONS, ids=name_of)
def test_exports(config: Config) -> None:
    module = Method(config)
    program = torch.export.export(module, features(3))
    other = tuple(value.flip(-1) for value in features(3))  # values that the trace has not seen
    mask, probability = program.module()(*other)
    expected = module(*other)
    assert torch.equal(mask, expected[0])
    torch.testing.assert_close(probability, expected[1])


def deterministic() -> AbstractContextManager[None]:
    from contextlib import contextmanager

    @contextmanager
    def scope() -> Iterator[None]:
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)

    return scope()


def autocast() -> AbstractContextManager[None]:
    return torch.autocast("cpu", torch.bfloat16)


def every_function(e: Tensor, o: Tensor, flow: Tensor) -> dict[str, object]:
    """The result of every public function of ``gpuvos.functional``, by name."""
    k = 6
    out: dict[str, object] = {}

    def call(function: Callable[..., object], *arguments: object, **options: object) -> object:
        out[function.__name__] = function(*arguments, **options)
        return out[function.__name__]

    weights = call(F.edge_weights, e)
    edges = call(F.edge_map, e)
    candidates = call(F.candidate_mask, edges, window=3)
    seeds = call(F.select_seeds, e, o, candidates, num_seeds=k)
    assert isinstance(seeds, Seeds)
    assert isinstance(weights, EdgeWeights)
    call(F.gather_pixels, e, seeds.index)
    call(F.squared_distance, seeds.embedding, seeds.embedding)
    call(F.similarity, seeds.embedding, seeds.embedding)
    forest = call(F.minimax_forest, weights, seeds.index, seeds.valid)
    call(F.shortest_forest, weights, seeds.index, seeds.valid)
    call(F.largest_edges, weights, seeds.index.clamp(min=0), seeds.valid)
    means = call(F.region_mean, flow, forest.label, k)  # type: ignore[attr-defined]
    start = call(F.initial_background, seeds.objectness, seeds.valid, num_background=2)
    saliency = call(F.motion_saliency, means, seeds.objectness, seeds.valid, num_background=2)
    call(F.normalize_saliency, saliency, seeds.valid)
    call(F.residual_flow, flow, weight=o)
    tracks = call(F.link_tracks, seeds)
    score = call(F.track_scores, tracks, seeds.objectness, saliency)
    best = call(F.best_track, tracks, score)
    initial = call(F.initial_foreground, forest, best, start)
    call(F.initial_foreground_shortest, weights, seeds.index, best, start, num_background=2)
    label = forest.label  # type: ignore[attr-defined]
    sets = call(F.seed_sets, initial, label, seeds.objectness, saliency, seeds.valid, best, start)
    call(F.smooth_seed_labels, seeds.embedding, seeds.objectness, seeds.valid, neighbors=4)
    call(F.vote_labels, seeds.embedding, saliency, seeds.valid, neighbors=4)
    call(F.mask_seed_sets, e, label, initial, k)
    p = call(F.foreground_probability, e, seeds.embedding, *sets)  # type: ignore[misc]
    weight = call(F.soft_background, seeds.objectness, saliency, sets[0], seeds.valid)  # type: ignore[index]
    call(F.soft_foreground_probability, e, seeds.embedding, 1 - weight, weight)  # type: ignore[operator]
    image = o[..., None, :, :].expand(*o.shape[:-2], 3, *o.shape[-2:])
    call(F.dense_crf, p, image, iterations=1)
    call(F.guided_filter, p, image, radius=2, subsample=1)
    call(F.dense_crf_marginals, e, image, iterations=1)
    call(F.estimate_temperature, e, num_seeds=k, window=3)
    return out


def flat(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from flat(part)


@pytest.mark.slow
@pytest.mark.parametrize("scope", [torch.inference_mode, torch.no_grad, deterministic, autocast])
def test_every_function_in_every_mode(scope: Callable[[], AbstractContextManager[None]]) -> None:
    real = features(3)
    expected = every_function(*real)
    assert set(F.__all__) <= set(expected)  # a new public function has to be called here
    with scope():
        result = every_function(*real)
    for name, value in expected.items():
        for one, two in zip(flat(result[name]), flat(value), strict=True):
            assert torch.equal(one, two), name


@pytest.mark.sampled
@pytest.mark.parametrize("config", OPTIONS, ids=name_of)
def test_the_method_keeps_its_precision_under_autocast(config: Config) -> None:
    real = features(3, h=24, w=32)
    half = (real[0].bfloat16(), *real[1:])  # what a network under autocast gives
    for given in (real, half):
        expected = gpuvos.segment(*given, config=config)
        why, objects = gpuvos.explain(expected, Features(*given), config=config), gpuvos.instances(expected)
        with autocast():
            result = gpuvos.segment(*given, config=config)
            reasons, found = gpuvos.explain(result, Features(*given), config=config), gpuvos.instances(result)
        pairs = ((result, expected), (reasons, why), (found, objects))
        for one, two in zip(flat([a for a, _ in pairs]), flat([b for _, b in pairs]), strict=True):
            assert torch.equal(one, two)


@pytest.mark.slow
def test_frames_to_masks_under_autocast() -> None:
    clip = render_clip("single", num_frames=2, height=48, width=72)
    # bfloat16 is slow on most CPUs
    segmenter = gpuvos.VideoSegmenter(SaliencyFeatures(load_saliency(size=96)))
    with autocast():
        seen = segmenter.features(clip.frames)
        found = segmenter(clip.frames).mask
    assert not torch.equal(seen.embedding.float(), segmenter.features(clip.frames).embedding)  # in bfloat16
    assert region_similarity(found, segmenter(clip.frames).mask).mean() > 0.8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("config", OPTIONS, ids=name_of)
def test_the_method_in_a_cuda_graph(config: Config) -> None:
    given = [value.cuda() for value in features(3)]
    other = [value.flip(-1).contiguous() for value in given]
    expected = gpuvos.segment(*other, config=config, validate=False)
    gpuvos.segment(*given, config=config, validate=False)  # compiles and allocates
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = gpuvos.segment(*given, config=config, validate=False)
    for value, new in zip(given, other, strict=True):
        value.copy_(new)
    graph.replay()
    for one, two in zip(leaves(result), leaves(expected), strict=True):
        assert torch.equal(one, two)


@pytest.mark.sampled
@pytest.mark.parametrize("config", OPTIONS, ids=name_of)
def test_the_method_under_deterministic_algorithms(config: Config) -> None:
    expected = gpuvos.segment(*features(3), config=config)
    with deterministic():
        e = features(3)[0].requires_grad_()
        results = [gpuvos.segment(e, *features(3)[1:], config=config, size=(18, 22)) for _ in range(2)]
        grads = [torch.autograd.grad(result.probability.sum(), e)[0] for result in results]
        refined = [F.dense_crf(r.probability.detach(), torch.zeros(3, 3, 18, 22)) for r in results]
        objects = [gpuvos.instances(result).mask for result in results]
    for one, two in zip(leaves(results[0]), leaves(results[1]), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(refined[0], refined[1])
    assert torch.equal(objects[0], objects[1])
    assert torch.equal(results[0].foreground, expected.foreground)


@pytest.mark.slow
def test_every_function_gives_fake_shapes_and_types() -> None:
    real = features(3)
    expected = every_function(*real)
    with FakeTensorMode() as mode:
        result = every_function(*(mode.from_tensor(value) for value in real))
    for name, value in expected.items():
        for one, two in zip(flat(result[name]), flat(value), strict=True):
            assert (one.shape, one.dtype) == (two.shape, two.dtype), name


@pytest.mark.parametrize("config", OPTIONS, ids=name_of)
def test_probability_of_the_whole_chain_has_a_gradient(config: Config) -> None:
    e, o, flow = features(3)
    e.requires_grad_()
    config = dataclasses.replace(config, confident_share=0.8)  # noise has no clear object
    result = gpuvos.segment(e, o, flow, config=config)
    assert config.rule == "paper" or result.foreground.any()
    result.probability.sum().backward()
    assert e.grad is not None
    assert e.grad.isfinite().all()
    assert (e.grad != 0).any()


def test_whole_chain_runs_on_meta_tensors_without_values() -> None:
    result = gpuvos.segment(*(v.to("meta") for v in features(3)), config=OPTIONS[0])
    assert result.mask.shape == (3, 9, 11)
    assert result.mask.device.type == "meta"
