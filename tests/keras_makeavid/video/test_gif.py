import numpy as np
import pytest

from keras_makeavid.video import read_video
from keras_makeavid.video.gif import write_gif


def test_it_repeats_for_ever(smooth_frames, tmp_path):
    write_gif(tmp_path / "clip.gif", smooth_frames, 8)
    assert b"NETSCAPE2.0\x03\x01\0\0\0" in (tmp_path / "clip.gif").read_bytes()


@pytest.mark.parametrize("fps", [8, 15, 24, 50])
def test_delays_keep_the_rate_on_average(smooth_frames, tmp_path, fps):
    write_gif(tmp_path / "clip.gif", smooth_frames, fps)
    contents = (tmp_path / "clip.gif").read_bytes()
    delays = []
    offset = contents.find(b"\x21\xf9\x04")
    while offset >= 0:
        delays.append(int.from_bytes(contents[offset + 4 : offset + 6], "little"))
        offset = contents.find(b"\x21\xf9\x04", offset + 8)
    assert len(delays) == 12
    assert max(delays) - min(delays) <= 1
    assert sum(delays) == pytest.approx(12 * 100 / fps, abs=1)


def test_equal_frames_stay_as_many(smooth_frames, tmp_path):
    still = np.repeat(smooth_frames[:1], 10, axis=0)
    write_gif(tmp_path / "clip.gif", still, 8)
    frames = read_video(tmp_path / "clip.gif")
    assert len(frames) == 10
    np.testing.assert_array_equal(frames, np.repeat(frames[:1], 10, axis=0))


def test_a_few_flat_colours_are_exact(numbered, tmp_path):
    frames = np.stack([numbered.frame(i) for i in range(20)])
    write_gif(tmp_path / "clip.gif", frames, 8)
    np.testing.assert_array_equal(read_video(tmp_path / "clip.gif"), frames)


def test_a_real_clip_keeps_its_smooth_areas(real_clip, tmp_path, psnr):
    frames = read_video(real_clip("bikes"), fps=4, num_frames=8, height=128, width=128)
    write_gif(tmp_path / "clip.gif", frames, 4)
    assert psnr(read_video(tmp_path / "clip.gif"), frames) > 33
