import sys

import numpy as np
import pytest

from keras_makeavid.video import write_video
from keras_makeavid.video.reader import find_scenes


def test_a_film_of_six_scenes_has_six(real_clip):
    scenes = find_scenes(real_clip("bikes"))
    # Seen in the frames themselves: the cuts are hard ones.
    assert [len(times) for times in scenes] == [30, 46, 61, 50, 55, 8]
    np.testing.assert_allclose(np.concatenate(scenes), np.arange(250) / 25, atol=1e-3)


@pytest.mark.parametrize("name", ["bigbuckbunny", "carphone_pristine"])
def test_a_clip_without_cuts_is_one_scene(real_clip, name):
    assert len(find_scenes(real_clip(name))) == 1


def test_a_clip_of_one_frame_is_one_scene(tmp_path):
    write_video(tmp_path / "one.mp4", np.zeros((1, 64, 64, 3), "uint8"), fps=8)
    (times,) = find_scenes(tmp_path / "one.mp4")
    assert times.tolist() == [0.0]


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match="is a text file"):
        find_scenes(tmp_path / "text.mp4")


def test_what_to_install_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-makeavid\[scenes\]'"):
        find_scenes(tmp_path / "any.mp4")
