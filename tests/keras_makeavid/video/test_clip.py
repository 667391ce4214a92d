import pytest

from keras_makeavid.video.clip import open_clip


@pytest.mark.parametrize("file", ["clip.mp4", "clip.mkv"])
def test_a_late_window_is_reached_by_a_seek(numbered, tmp_path, file):
    path = numbered.write(tmp_path / file, 150, gop=12)
    with open_clip(path, 2**20) as clip:
        time, _ = next(clip.frames(5.0))
    assert 3.0 < time < 5.0


@pytest.mark.parametrize("file", ["clip.avi", "clip.ts"])
def test_containers_whose_times_change_are_read_from_the_beginning(
    numbered, tmp_path, file
):
    path = numbered.write(tmp_path / file, 150, gop=12)
    with open_clip(path, 2**20) as clip:
        time, _ = next(clip.frames(5.0))
    assert time == 0.0


def test_times_increase_even_where_the_file_has_none(numbered, tmp_path):
    path = numbered.write(tmp_path / "clip.h264", 30)
    with open_clip(path, 2**20) as clip:
        times = [time for time, _ in clip.frames()]
    assert times == pytest.approx([i / clip.rate for i in range(30)])
    assert clip.end == pytest.approx(30 / clip.rate)
