"""Videos, images, masks, datasets and rendered clips."""

from gpuvos.data.datasets.base import LabelledSequence
from gpuvos.data.datasets.davis import Davis2016
from gpuvos.data.datasets.davis2017 import Davis2017
from gpuvos.data.datasets.fbms import Fbms59
from gpuvos.data.datasets.segtrack import SegTrack2
from gpuvos.data.masks import davis_palette, read_ids, read_mask, save_npz, write_mask, write_masks
from gpuvos.data.synthetic import SCENES, RenderedClip, render_clip
from gpuvos.data.video import Clip, VideoInfo, iterate_video, probe_video, read_video
from gpuvos.data.video_writer import VideoWriter, write_video

__all__ = [
    "SCENES",
    "Clip",
    "Davis2016",
    "Davis2017",
    "Fbms59",
    "LabelledSequence",
    "RenderedClip",
    "SegTrack2",
    "VideoInfo",
    "VideoWriter",
    "davis_palette",
    "iterate_video",
    "probe_video",
    "read_ids",
    "read_mask",
    "read_video",
    "render_clip",
    "save_npz",
    "write_mask",
    "write_masks",
    "write_video",
]
