"""End-point error and time of the weight-free flow beside OpenCV's DIS, on Middlebury pairs with true flow.

Run ``python benchmarks/flow_middlebury.py --root FOLDER``; every sub-folder holds ``frame10.png``, ``frame11.png``
and ``flow10_f16.npz`` (``flow`` [H,W,2] in pixels, ``valid`` with packed bits along axis 1). All valid pixels
count, borders included. The last line times frames of 480 x 854.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gpuvos.flow.clip import FlowParameters, clip_flow, optical_flow

_PRESETS = {"ultrafast": 0, "fast": 1, "medium": 2}
_SCALES = (0.25, 0.5, 1.0)


class Pair(NamedTuple):
    name: str
    first: Tensor  # [1, 3, H, W] uint8
    second: Tensor
    flow: Tensor  # [2, H, W]
    valid: Tensor  # [H, W] bool


Method = Callable[[Tensor, Tensor], Tensor]


def read_pair(folder: Path) -> Pair:
    first, second = (
        torch.from_numpy(np.array(Image.open(folder / name).convert("RGB"))).permute(2, 0, 1)[None]
        for name in ("frame10.png", "frame11.png")
    )
    with np.load(folder / "flow10_f16.npz") as stored:
        flow = torch.from_numpy(stored["flow"].astype(np.float32)).permute(2, 0, 1)
        valid = torch.from_numpy(np.unpackbits(stored["valid"], axis=1, count=flow.shape[-1])).bool()
    return Pair(folder.name, first.contiguous(), second.contiguous(), flow, valid)


def opencv_dis(preset: int) -> Method:
    """DIS with the conversion to grey in the timed part, as ``optical_flow`` has it."""

    def flow(first: Tensor, second: Tensor) -> Tensor:
        grey = [cv2.cvtColor(image[0].permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for image in (first, second)]
        found = cv2.DISOpticalFlow.create(preset).calc(grey[0], grey[1], None)
        return torch.from_numpy(found).permute(2, 0, 1)[None]

    return flow


def ours(scale: float) -> Method:
    parameters = FlowParameters(scale=scale)
    return lambda first, second: optical_flow(first, second, parameters=parameters)


def timed(function: Callable[[], Tensor], repeats: int) -> tuple[Tensor, float]:
    """The result and the median time in milliseconds, after one call that does not count."""
    result = function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1e3)
    return result, statistics.median(times)


def end_point_error(found: Tensor, pair: Pair) -> float:
    error = torch.linalg.vector_norm(found[0] - pair.flow, dim=0)
    return float(error[pair.valid].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the pairs")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of both libraries")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls a pair, of which the median counts")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    pairs = [read_pair(file.parent) for file in sorted(arguments.root.glob("*/flow10_f16.npz"))]
    if not pairs:
        parser.error(f"no */flow10_f16.npz in {arguments.root}")
    methods = {f"DIS {name}": opencv_dis(preset) for name, preset in _PRESETS.items()}
    methods |= {f"gpuvos, scale {scale}": ours(scale) for scale in _SCALES}
    print(f"torch {torch.__version__}, OpenCV {cv2.__version__}, {platform.machine()}, ", end="")
    print(f"{arguments.threads} thread(s); end-point error in pixels (ms a pair)\n")
    print("| pair | " + " | ".join(methods) + " |\n|---|" + "---|" * len(methods))
    rows = []
    for pair in pairs:
        row = []
        for method in methods.values():
            found, milliseconds = timed(partial(method, pair.first, pair.second), arguments.repeats)
            row.append((end_point_error(found, pair), milliseconds))
        rows.append(row)
        print(f"| {pair.name} | " + " | ".join(f"{error:.3f} ({ms:.0f})" for error, ms in row) + " |")
    means = np.mean(rows, axis=0)
    print("| **mean** | " + " | ".join(f"**{error:.3f}** ({ms:.0f})" for error, ms in means) + " |")
    report_video_size(pairs[0], methods, arguments.repeats)


def report_video_size(pair: Pair, methods: dict[str, Method], repeats: int) -> None:
    """Times one pair of 480 x 854, and a clip on the stride-4 grid, which is what segmentation asks for."""
    first, second = (
        torch.nn.functional.interpolate(image, size=(480, 854), mode="bilinear") for image in (pair.first, pair.second)
    )
    times = [timed(partial(method, first, second), repeats)[1] for method in methods.values()]
    print("| 480 x 854 | " + " | ".join(f"({ms:.0f})" for ms in times) + " |")
    clip = torch.cat((first, second) * 4)
    cells = [""] * len(_PRESETS)
    for scale in _SCALES:
        parameters = FlowParameters(scale=scale)
        _, ms = timed(partial(clip_flow, clip, size=(120, 214), parameters=parameters), max(1, repeats // 2))
        cells.append(f"({ms / len(clip):.0f})")
    print("| clip on 120 x 214, a frame | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
