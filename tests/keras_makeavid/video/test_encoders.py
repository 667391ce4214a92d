import av
import numpy as np
import pytest

from keras_makeavid.video import probe, read_video
from keras_makeavid.video.clip import open_clip
from keras_makeavid.video.writer import write_gif, write_mp4, write_webp


def _boxes(contents):
    offset = 0
    while offset < len(contents):
        size = int.from_bytes(contents[offset : offset + 4], "big")
        yield contents[offset + 4 : offset + 8].decode()
        offset += size


def test_the_form_is_what_browsers_play(smooth_frames, tmp_path):
    write_mp4(tmp_path / "clip.mp4", smooth_frames, 8)
    boxes = list(_boxes((tmp_path / "clip.mp4").read_bytes()))
    assert boxes.index("moov") < boxes.index("mdat")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        (stream,) = container.streams
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.codec_context.profile == "High"
        assert (stream.frames, stream.average_rate) == (12, 8)
        frame = next(container.decode(stream))
    assert (frame.colorspace, frame.color_primaries, frame.color_range) == (1, 1, 1)


@pytest.mark.parametrize("size", [(96, 128), (720, 1280)])
def test_colours_survive_whatever_the_size(tmp_path, size):
    from keras_makeavid.video import read_video

    colours = np.array(
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
        + [[0, 0, 0], [200, 100, 50], [0, 128, 128], [255, 255, 0]],
        "uint8",
    )
    height, width = size
    bars = np.repeat(colours, width // 8, axis=0)
    frames = np.tile(bars, (2, height, 1, 1))
    write_mp4(tmp_path / "clip.mp4", frames, 8)
    middles = slice(width // 16, None, width // 8)
    read = read_video(tmp_path / "clip.mp4")[:, height // 2, middles]
    assert np.abs(read.astype(int) - colours).max() <= 3


@pytest.mark.parametrize("size", [(95, 127), (95, 128), (96, 127), (1, 1)])
def test_an_odd_side_grows_by_its_last_line(smooth_frames, tmp_path, size, psnr):
    from keras_makeavid.video import read_video

    height, width = size
    frames = smooth_frames[:, :height, :width]
    write_mp4(tmp_path / "clip.mp4", frames, 8)
    read = read_video(tmp_path / "clip.mp4")
    assert read.shape == (12, height + height % 2, width + width % 2, 3)
    assert psnr(read[:, :height, :width], frames) > 38
    assert psnr(read[:, -1], read[:, height - 1]) > 38


def test_broadcast_rates_are_exact(smooth_frames, tmp_path):
    write_mp4(tmp_path / "clip.mp4", smooth_frames, 30000 / 1001)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        rate = container.streams.video[0].average_rate
    assert (rate.numerator, rate.denominator) == (30000, 1001)


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


def test_a_few_flat_colours_are_exact(numbered, tmp_path):
    frames = np.stack([numbered.frame(i) for i in range(20)])
    write_gif(tmp_path / "clip.gif", frames, 8)
    np.testing.assert_array_equal(read_video(tmp_path / "clip.gif"), frames)


def test_a_real_clip_keeps_its_smooth_areas(real_clip, tmp_path, psnr):
    frames = read_video(real_clip("bikes"), fps=4, num_frames=8, height=128, width=128)
    write_gif(tmp_path / "clip.gif", frames, 4)
    assert psnr(read_video(tmp_path / "clip.gif"), frames) > 33


def test_it_is_animated_and_repeats_for_ever(smooth_frames, tmp_path):
    write_webp(tmp_path / "clip.webp", smooth_frames, 8)
    contents = (tmp_path / "clip.webp").read_bytes()
    assert contents[8:16] == b"WEBPVP8X" and contents[20] & 0b10
    animation = contents.find(b"ANIM")
    assert contents[animation + 12 : animation + 14] == b"\0\0"


@pytest.mark.parametrize("write", [write_gif, write_webp])
def test_equal_frames_last_longer_in_place_of_being_more(
    smooth_frames, tmp_path, write
):
    frames = smooth_frames[[0, 0, 0, 6, 6, 9, 9, 9]]
    write(tmp_path / "clip", frames, 10)
    info = probe(tmp_path / "clip")
    assert info.num_frames == 3
    assert info.duration == pytest.approx(8 / 10)
    with open_clip(tmp_path / "clip", 2**20) as clip:
        times = [time for time, _ in clip.frames()]
    assert times == pytest.approx([0.0, 3 / 10, 5 / 10])
    assert len(read_video(tmp_path / "clip", fps=10)) == 8


@pytest.mark.parametrize("write", [write_gif, write_webp])
def test_an_animation_of_equal_frames_is_read_as_one(smooth_frames, tmp_path, write):
    write(tmp_path / "clip", smooth_frames[[0, 0, 0]], 8)
    assert read_video(tmp_path / "clip").shape == (1, 96, 128, 3)


def test_declared_sizes_above_the_limit_are_refused(smooth_frames, tmp_path):
    write_webp(tmp_path / "clip.webp", smooth_frames, 8)
    needed = 12 * 96 * 128 * 4
    read_video(tmp_path / "clip.webp", max_bytes=needed)
    with pytest.raises(ValueError, match=r"declares 12 frames of 128 x 96"):
        read_video(tmp_path / "clip.webp", max_bytes=needed - 1)
    contents = bytearray((tmp_path / "clip.webp").read_bytes())
    contents[24:30] = b"\xff" * 6
    (tmp_path / "bomb.webp").write_bytes(contents)
    with pytest.raises(ValueError, match=r"declares 16777216 x 16777216 pixels"):
        read_video(tmp_path / "bomb.webp")
