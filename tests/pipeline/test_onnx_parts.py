"""Network, edge map and probability in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gpuvos import Config, InputError, VideoSegmenter
from gpuvos import functional as F
from gpuvos.data import render_clip
from gpuvos.features.adapters import ModuleFeatures
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.features.network.weights import load_saliency
from gpuvos.features.saliency import SaliencyFeatures

pytest.importorskip("onnxscript")
runtime = pytest.importorskip("onnxruntime")


def run(path: Path, *inputs: Tensor) -> list[Tensor]:
    session: Any = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return [torch.from_numpy(value) for value in session.run(None, given)]


def of_somebody() -> ModuleFeatures:
    """A network of few layers, which the exporter takes seconds less for than for those of the library."""
    network = nn.Sequential(nn.Conv2d(3, 9, 4, stride=2, padding=1), nn.PReLU(), nn.AvgPool2d(2, ceil_mode=True))
    return ModuleFeatures(network, objectness=lambda images: images.mean(1).sigmoid(), normalize=False)


def of_the_library() -> SaliencyFeatures:
    return SaliencyFeatures(load_saliency(size=64), base=LearnedFeatures())


@pytest.mark.slow
@pytest.mark.parametrize("front_end", [of_somebody, pytest.param(of_the_library, marks=pytest.mark.exhaustive)])
@torch.no_grad()
def test_three_files_and_the_rest_in_torch_give_the_masks(front_end: Callable[[], Any], tmp_path: Path) -> None:
    from gpuvos.pipeline.onnx_parts import export_onnx

    torch.manual_seed(0)
    config = Config(num_seeds=12, num_background=4, window=3)
    segmenter = VideoSegmenter(front_end(), config)
    frames = render_clip("single", num_frames=3, height=48, width=64, seed=0).frames
    parts = export_onnx(segmenter, tmp_path / "parts", torch.zeros_like(frames))
    assert any("minimax_forest" in name for name in parts.left_out)

    front: Any = segmenter.front_end
    embedding, objectness = run(parts.network, frames)
    torch.testing.assert_close(run(parts.network, frames[:1])[1], objectness[:1])  # any number of frames
    for found, wanted in zip((embedding, objectness), front.encode(frames), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    flow = front.flow(frames, size=(objectness.shape[-2], objectness.shape[-1]))
    features = front.complete(embedding, objectness, flow)
    result = segmenter.label(features, frames)
    assert result.mask.any()
    assert torch.equal(result.mask, segmenter(frames).mask)
    (edges,) = run(parts.edge_map, features.embedding)
    torch.testing.assert_close(edges, F.edge_map(features.embedding), rtol=1e-4, atol=1e-5)
    (probability,) = run(
        parts.probability, features.embedding, result.seeds.embedding, result.foreground, result.background
    )
    wanted = F.foreground_probability(features.embedding, result.seeds.embedding, result.foreground, result.background)
    torch.testing.assert_close(probability, wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(probability > 0.5, wanted > 0.5)
    none = torch.zeros_like(result.foreground)
    assert not run(parts.probability, features.embedding, result.seeds.embedding, none, ~none)[0].any()
    assert run(parts.probability, features.embedding, result.seeds.embedding, ~none, none)[0].eq(1).all()


def test_a_front_end_without_encode_is_refused(tmp_path: Path) -> None:
    from gpuvos.pipeline.onnx_parts import export_onnx

    with pytest.raises(InputError, match="without encode"):
        export_onnx(VideoSegmenter(lambda _: None), tmp_path, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
