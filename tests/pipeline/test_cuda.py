"""The whole method on a GPU: captured once, replayed on other values, without a wait for the host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

import gpuvos
from gpuvos import Config, Segmentation
from gpuvos.data import render_clip

pytestmark = pytest.mark.cuda

OPTIONS = [
    Config(rule=rule, distance=distance, smoothing_share=0.05)
    for rule in ("paper", "robust")
    for distance in ("minimax", "shortest")
]


def name_of(config: Config) -> str:
    return f"{config.rule}-{config.distance}"


def scene(seed: int, *, frames: int = 6, h: int = 61, w: int = 107) -> list[Tensor]:
    """Embedding, objectness and flow: smooth noise, and a square that is unlike the rest and moves."""
    g = torch.Generator().manual_seed(seed)
    e = avg_pool2d(torch.randn(frames, 16, h, w, generator=g), 9, stride=1, padding=4) * 3
    o, flow = torch.full((frames, h, w), 0.2), torch.randn(frames, 2, h, w, generator=g) * 0.05
    for t in range(frames):
        inside = (t, ..., slice(20, 40), slice(30 + 2 * t + seed, 50 + 2 * t + seed))
        e[inside] += 3
        o[inside] = 0.9
        flow[inside] += 2
    return [e, o, flow]


def leaves(result: Segmentation) -> Iterator[Tensor]:
    for value in result:
        if isinstance(value, tuple | Tensor):
            yield from (value,) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("config", OPTIONS, ids=name_of)
def test_a_graph_of_the_method_replays_on_other_values(config: Config) -> None:
    scenes = [[value.cuda() for value in scene(seed)] for seed in (0, 1)]
    place = [value.clone() for value in scenes[0]]

    def method(given: list[Tensor]) -> Segmentation:
        return gpuvos.segment(*given, config=config, size=(244, 428), validate=False)

    wanted = [method(given) for given in scenes]  # compiles, and libraries take their memory
    assert wanted[0].mask.any()
    assert not torch.equal(wanted[0].mask, wanted[1].mask)
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = method(scenes[0])
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = method(place)
        replayed = []
        for given in (scenes[1], scenes[0]):
            for one, two in zip(place, given, strict=True):
                one.copy_(two)
            graph.replay()
            replayed.append([value.clone() for value in leaves(result)])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(a, b) for a, b in zip(leaves(again), leaves(wanted[0]), strict=True))
    for found, want in zip(replayed, (wanted[1], wanted[0]), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, leaves(want), strict=True))


@pytest.mark.parametrize("config", OPTIONS, ids=name_of)
def test_masks_are_those_of_the_cpu(config: Config) -> None:
    given = scene(0)
    wanted = gpuvos.segment(*given, config=config)
    found = gpuvos.segment(*(value.cuda() for value in given), config=config)
    assert (found.mask.cpu() == wanted.mask).float().mean() > 0.99  # weights may differ in their last bit


def test_frames_to_masks() -> None:
    frames = render_clip("single", num_frames=6, height=120, width=216).frames
    wanted = gpuvos.VideoSegmenter()(frames).mask
    found = gpuvos.VideoSegmenter().cuda()(frames.cuda()).mask.cpu()
    assert (found & wanted).sum() > 0.9 * (found | wanted).sum()


def test_compiled_and_exported_masks_are_equal() -> None:
    given, config = [value.cuda() for value in scene(0)], OPTIONS[2]
    wanted = gpuvos.segment(*given, config=config).mask

    class Method(torch.nn.Module):
        def forward(self, *features: Tensor) -> Tensor:
            return gpuvos.segment(*features, config=config).mask

    program = torch.export.export(Method(), tuple(given))
    assert torch.equal(program.module()(*given), wanted)
    compiled = torch.compile(gpuvos.segment, fullgraph=True)(*given, config=config).mask
    assert (compiled == wanted).float().mean() > 0.99  # the compiler fuses multiplications and additions


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_tensors_of_another_device_than_the_current_one() -> None:
    given = [value.to("cuda:1") for value in scene(0)]
    assert torch.cuda.current_device() == 0
    result = gpuvos.segment(*given)
    assert result.mask.device == torch.device("cuda:1")
    assert torch.equal(result.mask.cpu(), gpuvos.segment(*(value.to("cuda:0") for value in given)).mask.cpu())
