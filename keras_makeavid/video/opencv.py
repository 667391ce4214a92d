"""OpenCV, loaded on first use and without its messages on stderr."""

from __future__ import annotations

import os
from types import ModuleType


def load_cv2() -> ModuleType:
    """Imports OpenCV and turns off its log and that of the FFmpeg inside it.

    What fails is reported by our own exceptions, so the same news on stderr is noise.
    `OPENCV_LOG_LEVEL` and `OPENCV_FFMPEG_LOGLEVEL` in the environment take precedence.

    Returns:
        The module `cv2`.
    """
    # Read when the first video is opened.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
