"""OpenCV, loaded on first use and without its messages on stderr."""

import os
import sys
from types import ModuleType


def load_cv2() -> ModuleType:
    """Import OpenCV, silent unless `OPENCV_LOG_LEVEL` is set, or say how to get it."""
    try:
        if "cv2" not in sys.modules:
            # What OpenCV leaves where it could not be loaded: the next error would
            # speak of this, and no more of what is missing.
            vars(sys).pop("OpenCV_LOADER", None)
        import cv2
    except ImportError as error:
        raise ImportError(
            f"OpenCV, which resizes pictures, cannot be loaded: {error}. Where "
            "there is no display install its build without windows (pip uninstall "
            "opencv-python, then pip install opencv-python-headless), or what it needs "
            "of the system (on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0)."
        ) from error
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
