"""How far one frame walks through the library: what somebody who reads along has to open."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import torch

import gpuvos

PACKAGE = Path(gpuvos.__file__).parent
LEAVES = (Path(gpuvos.kernels.__file__).parent, PACKAGE / "features" / "network")  # operators, layers of networks


def test_a_frame_passes_at_most_24_files_and_100_functions() -> None:
    segmenter, frames = gpuvos.VideoSegmenter(), torch.zeros(1, 3, 48, 80, dtype=torch.uint8)
    segmenter(frames)  # imports, registrations
    seen: set[tuple[Path, str, int]] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and not code.co_name.startswith("<"):
            seen.add((Path(code.co_filename), code.co_name, code.co_firstlineno))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        segmenter(frames)
    finally:
        sys.setprofile(before)
    ours = {one for one in seen if one[0].is_relative_to(PACKAGE)}
    walked = {one for one in ours if not any(one[0].is_relative_to(leaf) for leaf in LEAVES)}
    files = {file for file, _, _ in walked}
    assert PACKAGE / "pipeline" / "steps.py" in files
    assert len(files) <= 24, sorted(files)
    assert len(walked) <= 100, sorted(walked)
