"""Time of the dense CRF on frames of 480 x 854, beside the field's package on the same cores.

``OMP_NUM_THREADS=1 pytest benchmarks/test_crf.py --benchmark-only``; times are of all frames. Frames are DAVIS-2016
train's where ``GPUVOS_DATA`` names its folder or it lies beside the checkout, else smooth noise; the texture is white
noise, the worst that there is for the lattice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gpuvos import functional as F
from gpuvos.bench.peer_calls import pydensecrf
from gpuvos.bench.workload import Inputs, Workload
from gpuvos.data.images import read_image
from gpuvos.functional.lattice import build_lattice, filter_values, image_features

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FRAMES = int(os.environ.get("GPUVOS_BENCH_FRAMES", "8" if DEVICE.type == "cuda" else "1"))
HEIGHT, WIDTH = 480, 854
SCENES = ("bear", "rhino", "train", "smooth noise", "texture")
ROOT = Path(os.environ.get("GPUVOS_DATA") or Path(__file__).parents[2] / "shared" / "data") / "davis2016"


def smooth(channels: int) -> Tensor:
    return avg_pool2d(torch.randn(FRAMES, channels, HEIGHT, WIDTH), 31, stride=1, padding=15) * 31


def frames(scene: str) -> Tensor:
    """``[FRAMES, 3, 480, 854]`` uint8."""
    if scene == "texture":
        return torch.randint(0, 256, (FRAMES, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    if scene == "smooth noise":
        return (128 + 40 * smooth(3)).clamp(0, 255).byte()
    files = sorted((ROOT / "JPEGImages" / "480p" / scene).glob("*.jpg"))[10 : 10 + FRAMES]
    if len(files) < FRAMES:
        pytest.skip(f"no frames of {scene} under GPUVOS_DATA")
    return torch.stack([read_image(file)[0] for file in files])


def lattice(image: Tensor) -> Any:
    features, extent = image_features(image.float(), 67.0, 3.0)
    return build_lattice(features, extent, None)[0]


STAGES: dict[str, Callable[[Tensor, Tensor, Any], object]] = {
    "dense CRF": lambda p, image, _: F.dense_crf(p, image),
    "lattice": lambda _, image, __: lattice(image),
    "one filter": lambda p, _, built: filter_values(p[:, None], built),
}


def given(scene: str) -> tuple[Tensor, Tensor]:
    """Probability ``[FRAMES, 480, 854]`` of smooth noise, and the frames."""
    torch.manual_seed(0)
    image = frames(scene)
    return torch.sigmoid(2 * smooth(1)[:, 0]), image


def facts(probability: Tensor, built: Any) -> dict[str, Any]:
    return {
        "frames": FRAMES,
        "device": str(DEVICE),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "lattice_points_a_pixel": round(int(built.first[-1]) / probability.numel(), 3),
    }


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("scene", SCENES)
def test_crf(benchmark: Any, scene: str, stage: str) -> None:
    probability, image = (value.to(DEVICE) for value in given(scene))
    built = lattice(image)

    def run() -> None:
        STAGES[stage](probability, image, built)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    benchmark.extra_info.update(facts(probability, built))
    benchmark.pedantic(run, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("scene", SCENES)
def test_pydensecrf(benchmark: Any, scene: str) -> None:
    pytest.importorskip("pydensecrf.densecrf")
    inputs = Inputs(Workload(height=HEIGHT, width=WIDTH, frames=FRAMES))
    inputs.probability, inputs.images = given(scene)
    call = pydensecrf(inputs, FRAMES)
    assert call.agreement is not None
    benchmark.extra_info.update(facts(inputs.probability, lattice(inputs.images)))
    benchmark.extra_info["labels_that_agree"] = round(call.agreement(call.run()), 6)
    benchmark.pedantic(call.run, rounds=5)
