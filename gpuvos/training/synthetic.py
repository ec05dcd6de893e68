"""Frames of rendered clips as stills, for training where there are no photographs."""

from __future__ import annotations

from gpuvos.data.synthetic import SCENES, render_clip
from gpuvos.errors import check_count
from gpuvos.training.images import Still, StillRecord


class RenderedStills:
    """Frames of rendered clips: objects and scene are labelled exactly.

    Args:
        num_clips: clips, each of another scene or seed; four frames are taken of each.
        height: rows of the frames.
        width: columns of the frames.
        seed: other clips for another number.
    """

    def __init__(self, num_clips: int = 36, *, height: int = 192, width: int = 288, seed: int = 0) -> None:
        check_count("num_clips", num_clips)
        self._stills: list[Still] = []
        self.records: list[StillRecord] = []
        for number in range(num_clips):
            scene = SCENES[number % len(SCENES)]
            clip = render_clip(scene, num_frames=4, height=height, width=width, seed=seed + number, speed=0.08 * width)
            for frame, instance in zip(clip.frames, clip.instances.byte(), strict=True):
                self._stills.append(Still(frame, instance, (instance > 0).byte()))
                self.records.append(
                    StillRecord(
                        f"rendered_{scene}",
                        str(number),
                        width,
                        height,
                        "instance",
                        "public domain (rendered)",
                    )
                )

    def __len__(self) -> int:
        return len(self._stills)

    def __getitem__(self, number: int) -> Still:
        return self._stills[number]
