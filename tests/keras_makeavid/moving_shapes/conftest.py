"""True clips, and what makes them look like generated ones."""

import cv2
import numpy as np
import pytest

from keras_makeavid.moving_shapes import Description, draw_scene_of
from keras_makeavid.moving_shapes.rendering import render


@pytest.fixture(scope="session")
def clip_of():
    """Renders words: `clip_of("red", "star", "moving left", num_frames=16)`."""

    def clip(*words, num_frames=16, size=64, seed=0):
        scene = draw_scene_of(Description(*words), np.random.default_rng(seed))
        return render(scene, num_frames, size)

    return clip


@pytest.fixture(scope="session")
def degrade():
    """Degrades frames: `degrade(frames, "blur noise half", rng)`."""
    return _degraded


def _degraded(frames, ways, rng):
    drift = rng.uniform(-20, 20, 3)
    degraded = []
    for number, frame in enumerate(frames.astype("float32")):
        height, width = frame.shape[:2]
        if "blur" in ways:
            frame = cv2.GaussianBlur(frame, (0, 0), 1.0)
        if "half" in ways:
            half = (width // 2, height // 2)
            frame = cv2.resize(frame, half, interpolation=cv2.INTER_AREA)
            frame = cv2.resize(frame, (width, height))
        if "noise" in ways:
            frame = frame + rng.normal(0, 8, frame.shape)
        if "drift" in ways:
            frame = frame + drift * number / len(frames)
        frame = np.clip(np.rint(frame), 0, 255).astype("uint8")
        if "blocks" in ways:
            # Like a VAE of factor 8, JPEG codes squares of 8 pixels.
            code = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
            frame = cv2.imdecode(code, cv2.IMREAD_COLOR)
        degraded.append(frame)
    return np.stack(degraded)
