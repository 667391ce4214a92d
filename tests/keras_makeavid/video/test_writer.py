import numpy as np
import pytest

from keras_makeavid.video import probe, read_image, read_video, write_video


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
@pytest.mark.parametrize("fps", [8, 24, 12.5])
def test_count_size_and_duration_survive(smooth_frames, tmp_path, suffix, fps):
    path = tmp_path / f"clip{suffix}"
    write_video(path, smooth_frames, fps=fps)
    info = probe(path)
    assert (info.num_frames, info.height, info.width) == (12, 96, 128)
    # GIF times are whole hundredths of a second.
    tolerance = 0.011 if suffix == ".gif" else 0.001
    assert info.duration == pytest.approx(12 / fps, abs=tolerance)
    assert len(read_video(path, fps=fps)) == 12


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_the_same_frames_give_the_same_bytes(smooth_frames, tmp_path, suffix):
    for name in ("one", "two"):
        write_video(tmp_path / f"{name}{suffix}", smooth_frames)
    one, two = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("suffix", "decibel"), [(".mp4", 39), (".gif", 48), (".webp", 42)]
)
def test_a_smooth_clip_survives(smooth_frames, tmp_path, psnr, suffix, decibel):
    path = tmp_path / f"clip{suffix}"
    write_video(path, smooth_frames)
    assert psnr(read_video(path), smooth_frames) > decibel


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_a_single_frame_and_views_can_be_written(smooth_frames, tmp_path, suffix, psnr):
    path = tmp_path / f"clip{suffix}"
    view = smooth_frames[5:6, ::-1, ::2]
    assert not view.flags.c_contiguous
    write_video(path, view)
    frames = read_video(path)
    assert frames.shape == view.shape
    assert psnr(frames, view) > 30


def test_a_folder_receives_png_frames(smooth_frames, tmp_path):
    for target in (tmp_path / "plain", f"{tmp_path}/take.2/"):
        write_video(target, smooth_frames)
    for folder in (tmp_path / "plain", tmp_path / "take.2"):
        files = sorted(folder.iterdir())
        assert [file.name for file in files] == [
            f"frame_{i:04d}.png" for i in range(12)
        ]
        pictures = [read_image(file) for file in files]
        np.testing.assert_array_equal(pictures, smooth_frames)


def test_frames_of_an_earlier_video_are_replaced(smooth_frames, tmp_path):
    folder = tmp_path / "frames.v1"
    folder.mkdir()
    write_video(folder, smooth_frames)
    write_video(folder, smooth_frames[:3, ::2])
    files = sorted(folder.iterdir())
    assert len(files) == 3
    np.testing.assert_array_equal(read_image(files[2]), smooth_frames[2, ::2])
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_with_other_things_in_it_is_left_alone(smooth_frames, tmp_path):
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "frame_0000.png").write_bytes(b"mine")
    (folder / "notes.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match=r"holiday holds more .*'notes\.txt'"):
        write_video(folder, smooth_frames)
    (tmp_path / "file").write_text("keep me too")
    with pytest.raises(FileExistsError, match="file is a file, expected a folder"):
        write_video(tmp_path / "file", smooth_frames)
    assert (folder / "frame_0000.png").read_bytes() == b"mine"
    assert (tmp_path / "file").read_text() == "keep me too"


def test_a_folder_of_nested_folders_is_left_alone(smooth_frames, tmp_path):
    (tmp_path / "frames" / "frame_0000.png").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="holds more than PNG frames"):
        write_video(tmp_path / "frames", smooth_frames)


def test_an_existing_video_is_replaced_and_nothing_left_beside_it(
    smooth_frames, tmp_path
):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    write_video(path, smooth_frames)
    assert probe(path).num_frames == 12
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "change", "fps", "message"),
    [
        ("a.avi", lambda x: x, 8, r"as \.mp4, \.gif, \.webp, .*Received: '\.avi'"),
        ("a.png", lambda x: x, 8, r"or a folder \(no suffix\) for PNG frames"),
        (
            "a.mp4",
            lambda x: x / 255,
            8,
            r"Received: float64 of shape \(12, 96, 128, 3\)",
        ),
        ("a.mp4", lambda x: x[0], 8, r"Received: uint8 of shape \(96, 128, 3\)"),
        ("a.mp4", lambda x: x[..., :1], 8, r"shape \(12, 96, 128, 1\)"),
        ("a.mp4", lambda x: x[:0], 8, "and not empty"),
        ("a", lambda x: x[:, :0], 8, "and not empty"),
        ("a.mp4", lambda x: x, 0, "fps must be positive"),
        ("a", lambda x: x, float("nan"), "fps must be positive"),
        ("a.mp4", lambda x: x, float("inf"), "fps must be positive"),
        ("a.mp4", lambda x: x, 1000, "at 0.01 to 240 frames a second"),
        ("a.gif", lambda x: x, 60, "at 0.01 to 50 frames a second"),
        ("a.webp", lambda x: x, 0.001, "at 0.01 to 240 frames a second"),
        ("a.webp", lambda x: np.zeros((1, 1, 16384, 3), "uint8"), 8, "at most 16383"),
    ],
)
def test_what_cannot_be_written_is_refused(
    smooth_frames, tmp_path, name, change, fps, message
):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / name, change(smooth_frames), fps=fps)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(smooth_frames, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*missing to write"):
        write_video(tmp_path / "missing" / "a.mp4", smooth_frames)
