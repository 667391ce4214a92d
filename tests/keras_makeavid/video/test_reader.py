import struct
import subprocess
import sys

import numpy as np
import pytest

from keras_makeavid.video import cover_crop, probe, read_video, write_video

REGULAR = {
    "sparse keyframes": ("clip.mp4", {}),
    "open groups": ("clip.mp4", {"gop": 12, "x264-params": "open-gop=1:scenecut=0"}),
    "no keyframes but the first": ("clip.mp4", {"x264-params": "intra-refresh=1"}),
    "matroska": ("clip.mkv", {"gop": 30}),
    "webm": ("clip.webm", {"codec": "libvpx", "gop": 30, "deadline": "realtime"}),
    "avi with b-frames": ("clip.avi", {"gop": 30, "bf": "2"}),
    "transport stream": ("clip.ts", {"gop": 30}),
    "program stream": ("clip.mpg", {"codec": "mpeg2video", "gop": 15, "bf": "2"}),
}


@pytest.mark.parametrize(
    ("name", "num_frames", "fps", "width", "height"),
    [
        ("bigbuckbunny", 132, 25, 1280, 720),
        ("bikes", 250, 25, 640, 272),
        # Stored as 176 columns of pixels that are 128 / 117 as wide as high.
        ("carphone_distorted", 120, 30000 / 1001, 193, 144),
        ("carphone_pristine", 120, 30000 / 1001, 193, 144),
    ],
)
def test_real_clips_are_probed(real_clip, name, num_frames, fps, width, height):
    info = probe(real_clip(name))
    assert (info.num_frames, info.width, info.height) == (num_frames, width, height)
    assert info.fps == pytest.approx(fps, rel=1e-9)
    assert info.duration == pytest.approx(num_frames / fps, rel=1e-6)
    assert info.path == real_clip(name)


def test_a_real_clip_is_read_as_opencv_decodes_it(real_clip):
    import cv2

    frames = read_video(real_clip("bikes"), num_frames=100)
    capture = cv2.VideoCapture(str(real_clip("bikes")))
    expected = [capture.read()[1][..., ::-1] for _ in range(100)]
    np.testing.assert_array_equal(frames, expected)


def test_a_window_of_a_real_clip_is_a_slice_of_the_whole(real_clip):
    path = real_clip("bikes")
    whole = read_video(path, height=68, width=160)
    for first in (0, 1, 77, 130, 226):
        window = read_video(path, start=first / 25, num_frames=24, height=68, width=160)
        np.testing.assert_array_equal(window, whole[first : first + 24])


@pytest.mark.parametrize(("file", "options"), REGULAR.values(), ids=REGULAR.keys())
def test_a_window_is_a_slice_of_the_whole(numbered, tmp_path, file, options):
    path = numbered.write(tmp_path / file, 130, **options)
    whole = read_video(path)
    assert numbered.numbers(whole) == list(range(130))
    for first in (0, 1, 40, 61, 83, 95, 127):
        window = read_video(path, start=first / 24, num_frames=3)
        np.testing.assert_array_equal(window, whole[first : first + 3])
        rest = read_video(path, start=first / 24)
        assert len(rest) == 130 - first


@pytest.mark.parametrize("file", ["clip.mp4", "clip.mkv"])
def test_variable_rates_are_resampled_by_the_frames_own_times(numbered, tmp_path, file):
    times = np.cumsum(np.random.default_rng(0).integers(10, 120, 150))
    path = numbered.write(tmp_path / file, 150, gop=20, milliseconds=times)
    times = (times - times[0]) / 1000
    info = probe(path)
    assert info.num_frames == 150
    assert info.fps == pytest.approx(150 / info.duration, rel=0.01)
    assert times[-1] + 0.03 < info.duration < times[-1] + 0.1
    for start in (0.0, 3.1, 6.04):
        frames = read_video(path, start=start, num_frames=20, fps=10)
        instants = start + np.arange(20) / 10
        nearest = np.abs(times[None] - instants[:, None]).argmin(1)
        assert numbered.numbers(frames) == nearest.tolist()
        window = read_video(path, start=times[60], num_frames=5)
        assert numbered.numbers(window) == [60, 61, 62, 63, 64]


def test_a_lower_rate_takes_the_nearest_frames(real_clip):
    path = real_clip("carphone_pristine")
    whole = read_video(path)
    frames = read_video(path, start=0.5, fps=8)
    instants = 0.5 + np.arange(len(frames)) / 8
    nearest = np.round(instants * 30000 / 1001).astype(int)
    np.testing.assert_array_equal(frames, whole[np.minimum(nearest, 119)])
    assert instants[-1] < 120 * 1001 / 30000 <= instants[-1] + 1 / 8


def test_a_higher_rate_repeats_frames(numbered, tmp_path):
    path = numbered.write(tmp_path / "clip.mp4", 6, fps=10)
    numbers = numbered.numbers(read_video(path, fps=30))
    assert numbers == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 5]


def test_frames_are_scaled_to_cover_and_cropped(real_clip):
    path = real_clip("bigbuckbunny")
    whole = read_video(path, num_frames=2)
    assert whole.shape == (2, 720, 1280, 3)
    for height, width in ((64, 64), (90, 40), (720, 720), (1024, 1024)):
        frames = read_video(path, num_frames=2, height=height, width=width)
        expected = [cover_crop(frame, height, width) for frame in whole]
        np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize(
    ("matrix", "quarter_turns"),
    [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
)
def test_rotation_is_applied(numbered, tmp_path, matrix, quarter_turns):
    path = numbered.write(tmp_path / "clip.mp4", 4)
    upright = read_video(path)
    contents = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    offset = contents.find(b"tkhd") + 44
    contents[offset : offset + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(contents)

    info = probe(path)
    frames = read_video(path)
    assert frames.shape == (4, info.height, info.width, 3)
    np.testing.assert_array_equal(frames, np.rot90(upright, quarter_turns, (1, 2)))


def test_a_single_frame_is_a_video(numbered, tmp_path):
    path = numbered.write(tmp_path / "one.mp4", 1, fps=8)
    info = probe(path)
    assert (info.num_frames, info.fps, info.duration) == (1, 8.0, 0.125)
    assert read_video(path).shape == (1, 48, 64, 3)
    assert read_video(path, fps=24).shape == (3, 48, 64, 3)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animated_pictures_are_videos(smooth_frames, tmp_path, psnr, suffix):
    path = tmp_path / f"clip{suffix}"
    write_video(path, smooth_frames, fps=10)
    info = probe(path)
    assert (info.num_frames, info.height, info.width) == (12, 96, 128)
    assert info.fps == pytest.approx(10, rel=1e-6)
    frames = read_video(path)
    assert psnr(frames, smooth_frames) > 25
    window = read_video(path, start=0.5, num_frames=3, height=48, width=48)
    expected = [cover_crop(frame, 48, 48) for frame in frames[5:8]]
    np.testing.assert_array_equal(window, expected)


def test_a_clock_in_place_of_the_rate_is_replaced_by_the_measured_rate(
    numbered, tmp_path
):
    # A browser's recorder writes this: no count, no duration, 1000 "frames a second".
    path = numbered.write(
        tmp_path / "live.webm",
        50,
        codec="libvpx",
        fps=1000,
        milliseconds=[33 * i + i % 3 for i in range(50)],
        container_options={"live": "1"},
    )
    info = probe(path)
    assert info.num_frames == 50
    assert info.fps == pytest.approx(1000 / 33, rel=0.01)
    assert len(read_video(path)) == 50
    assert numbered.numbers(read_video(path, start=0.33, num_frames=2)) == [10, 11]


def test_a_header_that_counts_wrong_is_not_believed(numbered, tmp_path):
    path = numbered.write(tmp_path / "clip.avi", 30, codec="mpeg4", bf="0")
    contents = bytearray(path.read_bytes())
    length = contents.find(b"strh") + 8 + 32
    assert struct.unpack_from("<I", contents, length) == (30,)
    for claimed in (0, 12, 1000):
        struct.pack_into("<I", contents, length, claimed)
        path.write_bytes(contents)
        assert probe(path).num_frames == 30
        assert numbered.numbers(read_video(path)) == list(range(30))


def test_a_truncated_file_gives_the_frames_that_are_there(numbered, tmp_path):
    path = numbered.write(
        tmp_path / "clip.mp4",
        100,
        gop=12,
        container_options={"movflags": "+faststart"},
    )
    contents = path.read_bytes()
    path.write_bytes(contents[: len(contents) * 8 // 10])
    num_frames = probe(path).num_frames
    assert 20 < num_frames < 90
    assert len(read_video(path)) == num_frames
    message = rf"clip\.mp4 .* has {num_frames} frames from 0 s on, 100 were"
    with pytest.raises(ValueError, match=message):
        read_video(path, num_frames=100)
    with pytest.raises(ValueError, match="has 0 frames from 4 s on, 1 were"):
        read_video(path, start=4.0, num_frames=1)


def test_too_few_frames_are_counted_in_the_error(real_clip):
    path = real_clip("carphone_pristine")
    message = r"carphone_pristine\.mp4 .* has 30 frames from 3\.003 s on, 31 were"
    with pytest.raises(ValueError, match=message):
        read_video(path, start=3.003, num_frames=31)
    message = r"lasts 4\.004 s .* 9 frames from 3 s on at 8 frames a second, 24 "
    with pytest.raises(ValueError, match=message):
        read_video(path, start=3.0, num_frames=24, fps=8)
    for fps in (None, 8):
        with pytest.raises(ValueError, match=r"has 0 frames from 5 s on"):
            read_video(path, start=5.0, fps=fps)


def test_more_memory_than_allowed_is_refused_before_decoding(real_clip):
    path = real_clip("bikes")
    frame = 272 * 640 * 3
    assert len(read_video(path, max_bytes=250 * frame)) == 250
    with pytest.raises(ValueError, match=r"250 frames .* \(by its header\) need"):
        read_video(path, max_bytes=250 * frame - 1)
    with pytest.raises(ValueError, match=r"1000000 frames of 512 x 512 .* need"):
        read_video(path, num_frames=1_000_000, height=512, width=512)
    with pytest.raises(ValueError, match=r"declares frames of 640 x 272"):
        read_video(path, num_frames=1, height=8, width=8, max_bytes=frame - 1)
    with pytest.raises(ValueError, match=r"need"):
        read_video(path, start=100.0, height=9999, width=9999, max_bytes=frame)


def test_more_frames_than_the_header_says_stay_within_the_limit(numbered, tmp_path):
    path = numbered.write(tmp_path / "clip.avi", 30, codec="mpeg4", bf="0")
    contents = bytearray(path.read_bytes())
    struct.pack_into("<I", contents, contents.find(b"strh") + 8 + 32, 3)
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"clip\.avi has more frames than the 20"):
        read_video(path, max_bytes=20 * 48 * 64 * 3)


def test_missing_files_and_folders_are_refused(tmp_path):
    for read in (probe, read_video):
        with pytest.raises(FileNotFoundError, match=r"no file .*nothing\.mp4"):
            read(tmp_path / "nothing.mp4")
        with pytest.raises(ValueError, match="is a folder"):
            read(tmp_path)


def test_files_that_are_no_video_are_refused_by_what_they_are(
    numbered, sound, tmp_path
):
    whole = numbered.write(tmp_path / "whole.mp4", 20).read_bytes()
    contents = {
        "empty.mp4": (b"", "is empty"),
        "text.mp4": (b"no video at all\n" * 10, "is a text file"),
        "playlist.mp4": (b"ffconcat version 1.0\nfile whole.mp4\n", "is a text file"),
        "noise.mp4": (bytes(range(256)) * 8, "not in a known format"),
        "cut.mp4": (whole[: len(whole) // 2], "truncated or damaged"),
        "short.webp": (b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\x02" + bytes(20), "damaged"),
    }
    for name, (data, message) in contents.items():
        (tmp_path / name).write_bytes(data)
        for read in (probe, read_video):
            with pytest.raises(ValueError, match=rf"{name}.*{message}"):
                read(tmp_path / name)
    for name, codec in {"s.m4a": "aac", "s.mp4": "aac", "s.wav": "pcm_s16le"}.items():
        with pytest.raises(ValueError, match=rf"{name}.* no video, but sound"):
            read_video(sound(tmp_path / name, codec))


def nested_boxes(kind):
    content = b""
    for _ in range(20_000):
        content = struct.pack(">I4s", len(content) + 8, kind) + content
    return content


@pytest.mark.parametrize("kind", [b"moov", b"udta", b"trak", b"meta"])
def test_thousands_of_boxes_in_one_another_do_no_harm(numbered, tmp_path, kind):
    path = tmp_path / "deep.mp4"
    whole = numbered.write(tmp_path / "whole.mp4", 20).read_bytes()
    path.write_bytes(whole[:32] + nested_boxes(kind))
    with pytest.raises(ValueError, match=r"deep\.mp4 cannot be read as a video"):
        read_video(path)
    # Behind a whole clip they are passed over, or the file is refused.
    path.write_bytes(whole + nested_boxes(kind))
    try:
        assert len(read_video(path)) == 20
    except ValueError as error:
        assert "deep.mp4 cannot be read as a video" in str(error)


def test_a_sound_file_with_a_cover_picture_is_refused(numbered, sound, tmp_path):
    import cv2

    mp3 = sound(tmp_path / "sound.mp3", "libmp3lame").read_bytes()
    jpeg = cv2.imencode(".jpg", numbered.frame(5))[1].tobytes()
    picture = b"\0image/jpeg\0\x03\0" + jpeg
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    path = tmp_path / "covered.mp3"
    path.write_bytes(b"ID3\x03\0\0" + size + frame + mp3)
    with pytest.raises(ValueError, match=r"no video, but sound or a cover picture"):
        read_video(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -0.1}, "start must be"),
        ({"start": float("nan")}, "start must be"),
        ({"num_frames": 0}, "num_frames must be"),
        ({"fps": 0}, "fps must be"),
        ({"fps": float("inf")}, "fps must be"),
        ({"fps": float("nan")}, "fps must be"),
        ({"height": 8}, "both height and width"),
        ({"width": 8}, "both height and width"),
        ({"height": 0, "width": 8}, "height must be"),
        ({"height": 10**6, "width": 10**6}, "above"),
    ],
)
def test_senseless_arguments_are_refused(real_clip, arguments, message):
    with pytest.raises(ValueError, match=message):
        read_video(real_clip("bikes"), **arguments)


def _mutated(contents, random):
    mutated = bytearray(contents)
    for _ in range(random.integers(1, 12)):
        mutated[random.integers(len(mutated))] = random.integers(256)
    if random.integers(3) == 0:
        del mutated[random.integers(len(mutated)) :]
    return bytes(mutated)


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp", ".avi", ".webm"])
def test_damaged_files_give_frames_or_a_value_error(numbered, tmp_path, suffix, capfd):
    path = tmp_path / f"clip{suffix}"
    if suffix in (".avi", ".webm"):
        codec = {".avi": "mpeg4", ".webm": "libvpx"}[suffix]
        numbered.write(path, 8, codec=codec)
    else:
        write_video(path, np.stack([numbered.frame(i) for i in range(8)]))
    contents = path.read_bytes()
    random = np.random.default_rng(list(suffix.encode()))
    refused, read = 0, 0
    for _ in range(25):
        path.write_bytes(_mutated(contents, random))
        try:
            frames = read_video(path, fps=8, height=16, width=16, max_bytes=2**24)
        except ValueError as error:
            refused += path.name in str(error)
        else:
            read += frames.shape[1:] == (16, 16, 3) and len(frames) > 0
    assert refused > 0 and read > 0 and refused + read == 25
    assert capfd.readouterr().err == ""


def test_importing_the_package_loads_neither_opencv_nor_pyav():
    code = "import keras_makeavid.video, sys; print({'cv2', 'av'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
