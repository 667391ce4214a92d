import subprocess
import sys

import pytest

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


def test_only_resizing_needs_opencv(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_OPENCV],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "pip install opencv-python-headless" in done.stdout


def test_what_is_missing_and_what_to_install_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    message = r"cannot be loaded: .*cv2.*opencv-python-headless.*apt-get install libgl1"
    with pytest.raises(ImportError, match=message):
        load_cv2()
