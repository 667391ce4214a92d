"""Scene cuts in video files."""

from __future__ import annotations

import numpy as np

from keras_makeavid.files import StrPath
from keras_makeavid.video.clip import Clip, open_clip
from keras_makeavid.video.opencv import load_cv2
from keras_makeavid.video.reader import MAX_BYTES

# Enough to see a cut by, and ten times faster than full HD.
DETECTION_WIDTH = 256


def find_scenes(path: StrPath | Clip) -> list[np.ndarray]:
    """The times of the frames of each scene, in seconds after the file's first frame.

    Every frame is looked at, at the rate of the file: at a lower one fast motion looks
    like a cut.
    """
    detector_class, timecode_class = import_scenedetect()
    cv2 = load_cv2()
    times, cuts = [], []
    with open_clip(path, MAX_BYTES) as clip:
        detector = detector_class()
        shrunk = max(1, round(clip.height * DETECTION_WIDTH / clip.width))
        for number, (time, retrieve) in enumerate(clip.frames()):
            times.append(time)
            frame = retrieve()[..., ::-1]
            if clip.width > DETECTION_WIDTH:
                size = (DETECTION_WIDTH, shrunk)
                frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            timecode = timecode_class(number, fps=clip.rate)
            cuts += detector.process_frame(timecode, np.ascontiguousarray(frame))
        cuts += detector.post_process(timecode)
    return np.split(np.asarray(times), sorted({cut.frame_num for cut in cuts} - {0}))


def import_scenedetect() -> tuple[type, type]:
    """Import PySceneDetect's content detector and time codes, or say how to get it."""
    # PySceneDetect fails without it, as if it were not installed.
    load_cv2()
    try:
        from scenedetect import ContentDetector, FrameTimecode
    except ImportError as error:
        raise ImportError(
            "Scene cuts are found by PySceneDetect: "
            "pip install 'keras-makeavid[scenes]'"
        ) from error
    return ContentDetector, FrameTimecode
