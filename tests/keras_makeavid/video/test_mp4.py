import av
import numpy as np
import pytest

from keras_makeavid.video.mp4 import write_mp4


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
