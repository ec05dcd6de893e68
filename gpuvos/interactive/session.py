"""What interactive calls share: a result and the parameters it was made with."""

from __future__ import annotations

from gpuvos.config import Config, checked_config
from gpuvos.errors import fail
from gpuvos.pipeline.result import check_one_video
from gpuvos.types import Segmentation


def config_of(result: Segmentation, config: Config | None) -> Config:
    """The parameters that a result of one video was made with.

    Args:
        result: a result of ``segment`` for one video.
        config: the config that the caller passed; None takes the one that the result carries.

    Raises:
        InputError: the result is not of one video, the config is another than the one that the result carries, or
            there is neither.
    """
    carried = check_one_video(result).config
    if config is None:
        if carried is None:
            raise fail("config", "None", "the gpuvos.Config of the result, which carries none", "pass config=")
        return carried
    config = checked_config(config)
    if carried is not None and config != carried:
        raise fail("config", "another one than the result was made with", "that one", "leave it out")
    return config
