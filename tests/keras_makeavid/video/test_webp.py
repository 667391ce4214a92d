import pytest

from keras_makeavid.video import probe, read_video
from keras_makeavid.video.clip import open_clip
from keras_makeavid.video.webp import is_animated_webp, write_webp


def test_it_is_animated_and_repeats_for_ever(smooth_frames, tmp_path):
    write_webp(tmp_path / "clip.webp", smooth_frames, 8)
    contents = (tmp_path / "clip.webp").read_bytes()
    assert is_animated_webp(contents[:32])
    animation = contents.find(b"ANIM")
    assert contents[animation + 12 : animation + 14] == b"\0\0"


def test_equal_frames_last_longer_in_place_of_being_more(smooth_frames, tmp_path):
    frames = smooth_frames[[0, 0, 0, 6, 6, 9, 9, 9]]
    write_webp(tmp_path / "clip.webp", frames, 8)
    info = probe(tmp_path / "clip.webp")
    assert info.num_frames == 3
    assert info.duration == pytest.approx(8 / 8)
    with open_clip(tmp_path / "clip.webp", 2**20) as clip:
        times = [time for time, _ in clip.frames()]
    assert times == [0.0, 3 / 8, 5 / 8]


def test_an_animation_of_equal_frames_is_read_as_one(smooth_frames, tmp_path):
    write_webp(tmp_path / "clip.webp", smooth_frames[[0, 0, 0]], 8)
    assert read_video(tmp_path / "clip.webp").shape == (1, 96, 128, 3)


def test_declared_sizes_above_the_limit_are_refused(smooth_frames, tmp_path):
    write_webp(tmp_path / "clip.webp", smooth_frames, 8)
    needed = 12 * 96 * 128 * 4
    read_video(tmp_path / "clip.webp", max_bytes=needed)
    with pytest.raises(ValueError, match=r"declares 12 frames of 128 x 96"):
        read_video(tmp_path / "clip.webp", max_bytes=needed - 1)
    contents = bytearray((tmp_path / "clip.webp").read_bytes())
    contents[24:30] = b"\xff" * 6
    (tmp_path / "bomb.webp").write_bytes(contents)
    with pytest.raises(ValueError, match=r"declares 12 frames of 16777216 x 16777216"):
        read_video(tmp_path / "bomb.webp")
