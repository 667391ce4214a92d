"""Which clips are left out, and how often a file is read."""

import hashlib

import numpy as np
import pytest

from keras_makeavid.data import ClipFilter, clip_reading
from keras_makeavid.data.clip_reading import ClipSettings, read_clip
from keras_makeavid.video import reader, write_video


def test_nothing_is_left_out_unless_asked_for():
    assert ClipFilter().reason_by_header(1, 1, 0.1) is None
    assert ClipFilter().reason_by_length(1) is None


def test_the_shorter_side_counts():
    clip_filter = ClipFilter(min_size=256)
    assert clip_filter.reason_by_header(256, 300, 8) is None
    assert (
        clip_filter.reason_by_header(255, 1000, 8)
        == "1000 x 255 pixels, smaller than 256"
    )


def test_rate_and_length_count():
    clip_filter = ClipFilter(min_frames=24, min_fps=12)
    assert clip_filter.reason_by_header(1, 1, 12) is None
    assert (
        clip_filter.reason_by_header(1, 1, 11.5)
        == "11.5 frames a second, fewer than 12"
    )
    assert clip_filter.reason_by_length(24) is None
    assert clip_filter.reason_by_length(23) == "23 frames, fewer than 24"


@pytest.mark.parametrize("name", ["min_frames", "min_size", "min_fps"])
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_a_negative_least_is_refused(name, value):
    with pytest.raises(
        ValueError, match=f"{name} must be at least 0. Received: {value}"
    ):
        ClipFilter(**{name: value})


@pytest.fixture
def opened(monkeypatch):
    """Takes the path of each file that is opened as a clip."""
    opened = []
    for module in (clip_reading, reader):

        def open_clip(path, *arguments, original=module.open_clip, **options):
            if not isinstance(path, clip_reading.Clip):
                opened.append(path)
            return original(path, *arguments, **options)

        monkeypatch.setattr(module, "open_clip", open_clip)
    return opened


def test_a_file_is_opened_and_hashed_once_however_many_scenes_it_has(
    tmp_path, monkeypatch, opened
):
    film = tmp_path / "film.mp4"
    frames = np.zeros((90, 32, 32, 3), "uint8")
    frames[30:60] = (255, 0, 0)
    frames[60:] = 255
    write_video(film, frames, fps=10)
    hashed = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda *args: hashed.append(1) or digest(*args)
    )
    settings = ClipSettings(16, 16, 5.0, None, 0.0, split_scenes=True)
    content = read_clip(film, settings, ClipFilter(), None)
    assert [part.suffix for part in content.parts] == ["-1", "-2", "-3"]
    assert [len(part.frames) for part in content.parts] == [15, 15, 15]
    for part, colour in zip(content.parts, (0, 255, 255), strict=True):
        assert abs(int(part.frames[7, 8, 8, 0]) - colour) < 10
    assert (opened, len(hashed)) == ([film], 1)

    sha256 = content.parts[0].facts["source_sha256"]
    assert read_clip(film, settings, ClipFilter(), sha256).unchanged
    assert (opened, len(hashed)) == ([film], 2)
