"""Network, edge map and probability in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gpuvos import Config, Features, InputError, VideoSegmenter
from gpuvos import functional as F
from gpuvos.data import render_clip
from gpuvos.flow.clip import DenseFlow

pytest.importorskip("onnxscript")
runtime = pytest.importorskip("onnxruntime")


def run(path: Path, *inputs: Tensor) -> list[Tensor]:
    session: Any = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    return [torch.from_numpy(value) for value in session.run(None, given)]


class Front(nn.Module):
    """A small front end of the form that those of the library have."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.flow = nn.Conv2d(3, 9, 3, stride=4, padding=1), DenseFlow()

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.layer(images.float() / 255)
        return 4 * seen[:, :8], seen[:, 8].sigmoid()

    def forward(self, images: Tensor) -> Features:
        embedding, objectness = self.encode(images)
        return Features(embedding, objectness, self.flow(images, size=tuple(objectness.shape[-2:])))


@pytest.mark.slow
def test_three_files_and_the_rest_in_torch_give_the_masks(tmp_path: Path) -> None:
    from gpuvos.pipeline.onnx_parts import export_onnx

    torch.manual_seed(0)
    segmenter = VideoSegmenter(Front(), Config(num_seeds=12, num_background=4, window=3))
    frames = render_clip("single", num_frames=2, height=48, width=64, seed=0).frames
    parts = export_onnx(segmenter, tmp_path / "parts", torch.zeros_like(frames))
    assert any("minimax_forest" in name for name in parts.left_out)

    front: Any = segmenter.front_end
    encoded = run(parts.network, frames)
    with torch.no_grad():
        encoding = front.encode(frames)
    for found, wanted in zip(encoded, encoding, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        features = segmenter.features(frames)
    (edges,) = run(parts.edge_map, features.embedding)
    torch.testing.assert_close(edges, F.edge_map(features.embedding), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        result = segmenter(frames)
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
