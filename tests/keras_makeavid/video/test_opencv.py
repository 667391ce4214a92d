import os
import subprocess
import sys

import pytest

from keras_makeavid.video import write_video
from keras_makeavid.video.opencv import load_cv2

WITHOUT_OPENCV = """
import sys
import numpy as np
sys.modules["cv2"] = None
from keras_makeavid import video
frames = np.zeros((4, 32, 32, 3), "uint8")
for name in ("a.mp4", "a.gif", "a.webp", "frames"):
    video.write_video(name, frames)
for name in ("a.mp4", "a.gif", "a.webp"):
    video.probe(name)
    video.read_video(name)
video.write_image("sheet.png", video.contact_sheet(frames))
video.read_image("sheet.png")
video.read_mask("sheet.png")
try:
    video.read_image("sheet.png", 8, 8)
except ImportError as error:
    print(error)
"""
# OpenCV as it is where a library of the system is missing, at the second attempt too.
WITHOUT_LIBGL = """
import sys
if hasattr(sys, "OpenCV_LOADER"):
    raise ImportError("ERROR: recursion is detected during loading")
sys.OpenCV_LOADER = True
raise ImportError("libGL.so.1: cannot open shared object file")
"""
ENCODING = """
import pathlib
from keras_makeavid.data.clip_reading import ClipFilter, ClipSettings, read_clip
from keras_makeavid.parallel import map_in_order
from keras_makeavid.video.reader import import_scenedetect

if __name__ == "__main__":
    settings = [ClipSettings(side, side, 8, 2, 0.0, False) for side in (32, 16)]
    requests = [(pathlib.Path("a.mp4"), sizes, ClipFilter()) for sizes in settings]
    for clip in map_in_order(read_clip, [(*r, None) for r in requests[:1]], 2):
        print(clip.parts[0].frames.shape)
    for attempt in (
        lambda: list(map_in_order(read_clip, [(*r, None) for r in requests], 2)),
        lambda: read_clip(*requests[1], None),
        lambda: read_clip(*requests[1], None),
        import_scenedetect,
    ):
        try:
            attempt()
        except ImportError as error:
            print(error)
"""


def run(script, folder, **environment):
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_resizing_needs_opencv(tmp_path):
    (tmp_path / "script.py").write_text(WITHOUT_OPENCV)
    told = run("script.py", tmp_path)
    assert "pip install opencv-python-headless" in told


def test_a_missing_library_is_named_by_workers_and_at_each_attempt(
    tmp_path, smooth_frames
):
    write_video(tmp_path / "a.mp4", smooth_frames[:, :32, :32], fps=8)
    (tmp_path / "cv2.py").write_text(WITHOUT_LIBGL)
    (tmp_path / "script.py").write_text(ENCODING)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    size, *errors = run("script.py", tmp_path, PYTHONPATH=path).splitlines()
    # Frames of the size that is wanted need no OpenCV.
    assert size == "(2, 32, 32, 3)"
    assert len(errors) == 4
    for error in errors:
        assert "libGL.so.1" in error
        assert "apt-get install libgl1" in error


def test_what_is_missing_and_what_to_install_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    message = r"cannot be loaded: .*cv2.*opencv-python-headless.*apt-get install libgl1"
    with pytest.raises(ImportError, match=message):
        load_cv2()
