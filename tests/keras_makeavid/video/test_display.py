import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from PIL import Image

from keras_makeavid.video import cover_crop, probe, read_image, read_video
from keras_makeavid.video.clip import open_clip, upright


def write(path, picture, codec="libx264", pix_fmt="yuv444p", **attributes):
    """A clip of four frames of a picture `(H, W, 3)` or `(H, W, 4)`."""
    rotation = attributes.pop("rotation", None)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = pix_fmt
        stream.options = attributes.pop("options", {})
        for name, value in attributes.items():
            setattr(stream.codec_context, name, value)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for number in range(4):
            kind = "rgba" if picture.shape[-1] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(picture, kind)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def corners():
    """Black, but for its corners: red, green, and blue and white below."""
    picture = np.zeros((48, 64, 3), "uint8")
    picture[:16, :16], picture[:16, -16:] = (255, 0, 0), (0, 255, 0)
    picture[-16:, :16], picture[-16:, -16:] = (0, 0, 255), (255, 255, 255)
    return picture


def close(frames, picture):
    return frames.shape[1:] == picture.shape and (
        np.abs(frames.astype(int) - picture).mean() < 4
    )


def disc(height, width, aspect):
    y, x = np.ogrid[:height, :width]
    inside = ((x - width / 2) * aspect) ** 2 + (y - height / 2) ** 2 < 20**2
    return np.repeat(inside[..., None] * np.uint8(255), 3, axis=-1)


@pytest.mark.parametrize("file", ["clip.mp4", "clip.mkv", "clip.avi", "clip.mov"])
@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(1, 2), Fraction(16, 15)])
def test_a_disc_of_other_than_square_pixels_is_round(tmp_path, file, aspect):
    stored = disc(64, 96, float(aspect))
    codec = {"codec": "mpeg4", "pix_fmt": "yuv420p"} if "avi" in file else {}
    path = write(tmp_path / file, stored, sample_aspect_ratio=aspect, **codec)
    info = probe(path)
    assert (info.width, info.height) == (round(96 * aspect), 64)
    frames = read_video(path)
    assert frames.shape[1:3] == (info.height, info.width)
    for shown in (frames[0], read_video(path, height=48, width=48)[0]):
        lit = shown[..., 1] > 127
        assert abs(np.ptp(np.nonzero(lit.any(0))) - np.ptp(np.nonzero(lit.any(1)))) <= 2


@pytest.mark.parametrize("file", ["clip.mp4", "clip.mkv", "clip.mov"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_clip_is_read_upright(tmp_path, corners, file, degrees):
    # FFmpeg writes rotations counterclockwise.
    path = write(tmp_path / file, corners, rotation=degrees)
    expected = np.rot90(corners, degrees // 90)
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]
    assert close(read_video(path), expected)


def test_a_turned_clip_of_wide_pixels_grows_along_its_stored_rows(tmp_path, corners):
    path = write(
        tmp_path / "clip.mp4", corners, rotation=90, sample_aspect_ratio=Fraction(2)
    )
    assert (probe(path).height, probe(path).width) == (128, 48)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
        ((1, 0, 0, -1), lambda x: x[::-1]),
        ((-1, 0, 0, -1), lambda x: x[::-1, ::-1]),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
        ((0, -1, 1, 0), lambda x: np.rot90(x)),
        ((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda x: x[::-1, ::-1].transpose(1, 0, 2)),
    ],
)
def test_all_eight_ways_to_turn_and_mirror(corners, matrix, expected):
    a, b, c, d = (value << 16 for value in matrix)
    packed = struct.pack("=9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    np.testing.assert_array_equal(upright(corners, packed), expected(corners))


def test_the_clean_aperture_of_mp4_is_cut_out(tmp_path, corners):
    path = write(tmp_path / "clip.mp4", corners)
    # 40 x 32 of 64 x 48, its centre 4 right of and 2 below the middle.
    box = struct.pack(">I4sIIIIiIiI", 40, b"clap", 40, 1, 32, 1, 4, 1, 2, 1)
    path.write_bytes(_with_box(path.read_bytes(), box))
    assert (probe(path).width, probe(path).height) == (40, 32)
    assert close(read_video(path), corners[10:42, 16:56])


def _with_box(contents, box):
    """Adds a box to the sample entry of a clip whose index is at its end."""
    grown = bytearray(contents)
    at = contents.rfind(b"avc1") - 4
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        size = contents.rfind(kind) - 4
        length = int.from_bytes(contents[size : size + 4], "big") + len(box)
        grown[size : size + 4] = length.to_bytes(4, "big")
    entry = int.from_bytes(contents[at : at + 4], "big")
    return bytes(grown[: at + entry]) + box + bytes(grown[at + entry :])


def test_the_crop_of_matroska_is_cut_out(tmp_path, corners):
    path = write(tmp_path / "clip.mkv", corners)
    contents = path.read_bytes()
    # The width element of the track's settings, and room made of the void before.
    video = contents.find(b"\xe0", contents.find(b"V_MPEG4/ISO/AVC"))
    crops = b"\x54\xbb\x81\x04\x54\xaa\x81\x06\x54\xcc\x81\x08\x54\xdd\x81\x0a"
    path.write_bytes(_with_element(contents, video, crops))
    assert (probe(path).width, probe(path).height) == (46, 38)
    assert close(read_video(path), corners[4:42, 8:54])


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_a_disc_in_webm_is_round(tmp_path, codec):
    stored = disc(64, 96, 2.0)
    path = write(tmp_path / "clip.webm", stored, codec=codec, pix_fmt="yuv420p")
    contents = path.read_bytes()
    video = contents.find(b"\xe0", contents.find(b"V_VP"))
    # Sizes of display in pixels (unit 0), and as a ratio (unit 3).
    for width, height, unit in ((192, 64, 0), (3, 1, 3)):
        sizes = b"\x54\xb0\x81%c\x54\xba\x81%c\x54\xb2\x81%c" % (width, height, unit)
        path.write_bytes(_with_element(contents, video, sizes))
        info = probe(path)
        assert (info.width, info.height) == (192, 64)
        lit = read_video(path)[0][..., 1] > 127
        assert abs(np.ptp(np.nonzero(lit.any(0))) - np.ptp(np.nonzero(lit.any(1)))) <= 2


def filtered(source, path, description):
    """A clip whose H.264 says something more of its display."""
    with av.open(str(source)) as read, av.open(str(path), "w") as container:
        stream = read.streams.video[0]
        copy = container.add_stream_from_template(stream)
        graph = BitStreamFilterContext(f"h264_metadata={description}", stream, copy)
        for packet in read.demux(stream):
            for changed in graph.filter(packet if packet.dts is not None else None):
                changed.stream = copy
                container.mux(changed)
    return path


@pytest.mark.parametrize("file", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_what_h264_says_itself_of_crop_and_rotation_holds(tmp_path, corners, file):
    source = write(tmp_path / "source.mp4", corners, pix_fmt="yuv420p")
    crop = "crop_left=8:crop_top=4:crop_right=2:crop_bottom=6"
    cut = filtered(source, tmp_path / file, crop)
    assert (probe(cut).width, probe(cut).height) == (54, 38)
    assert close(read_video(cut), corners[4:42, 8:62])
    turned = filtered(source, tmp_path / file, "display_orientation=insert:rotate=90")
    assert close(read_video(turned), np.rot90(corners))


def _with_element(contents, video, element):
    """Adds to the settings of a track, whose sizes have eight bytes or one."""
    grown, after = bytearray(contents), 0
    for kind in (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0"):
        at = video if kind == b"\xe0" else contents.rfind(kind, 0, video)
        if kind == b"\xae":
            # Right at the beginning of the tracks, after a checksum if there is one:
            # its byte may be in one of their random numbers, too.
            at = after + (6 if contents[after] == 0xBF else 0)
            assert contents[at] == 0xAE
        at += len(kind)
        length = 9 - contents[at].bit_length()
        size = int.from_bytes(contents[at : at + length], "big") + len(element)
        grown[at : at + length] = size.to_bytes(length, "big")
        after = at + length
    end = at + length + (contents[at] & 0x7F if length == 1 else 0)
    if length != 1:
        mask = (1 << 7 * length) - 1
        end = at + length + (int.from_bytes(contents[at : at + length], "big") & mask)
    return bytes(grown[:end]) + element + bytes(grown[end:])


CLEAR = {
    "clip.webm": {"codec": "libvpx-vp9", "pix_fmt": "yuva420p"},
    "vp8.webm": {"codec": "libvpx", "pix_fmt": "yuva420p"},
    "clip.mov": {"codec": "prores_ks", "pix_fmt": "yuva444p10le"},
    "clip.mkv": {"codec": "ffv1", "pix_fmt": "bgra"},
    "clip.apng": {"codec": "apng", "pix_fmt": "rgba"},
}


@pytest.mark.parametrize(("file", "options"), CLEAR.items(), ids=CLEAR.keys())
def test_white_or_a_chosen_colour_lies_behind_clips(tmp_path, file, options):
    picture = np.zeros((48, 64, 4), "uint8")
    picture[:, 32:] = 0, 0, 255, 255
    if "vp" in options["codec"]:
        options = {**options, "options": {"auto-alt-ref": "0"}}
    path = write(tmp_path / file, picture, **options)
    for background in ((255, 255, 255), (0, 200, 0)):
        expected = np.full((48, 64, 3), background, "uint8")
        expected[:, 32:] = 0, 0, 255
        assert close(read_video(path, background=background), expected)
    assert (read_video(path)[:, :, :24] > 250).all()


RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)


def gif(path, frames, shared, colours):
    """A GIF of 8 x 8 whose first colour is the background, and whose palette is full.

    Of a frame: its box, number of a colour, disposal, and the clear colour if any.
    """
    depth = colours.bit_length() - 2
    palette = bytes(RED + GREEN + BLUE + GREY) + bytes(3 * (colours - 4))
    contents = b"GIF89a\x08\0\x08\0" + bytes([depth | 0x80 * shared, 0, 0])
    contents += palette * shared
    contents += b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0!\xfe\x05,a;b,\0"
    for box, colour, disposal, clear in frames:
        left, top, right, bottom = box
        flags, key = disposal << 2 | (clear is not None), clear or 0
        contents += struct.pack("<2sBBHBB", b"!\xf9", 4, flags, 20, key, 0)
        contents += struct.pack("<cHHHH", b",", left, top, right - left, bottom - top)
        contents += bytes([0 if shared else 0x80 | depth]) + palette * (not shared)
        contents += lzw([colour] * (right - left) * (bottom - top), max(2, depth + 1))
    path.write_bytes(contents + b";")
    return path


def lzw(pixels, depth):
    """Pixels as the format packs them, with an empty table before each."""
    packed, width = 0, depth + 1
    codes = [code for pixel in pixels for code in (1 << depth, pixel)]
    for at, code in enumerate([*codes, (1 << depth) + 1]):
        packed |= code << at * width
    whole = packed.to_bytes((len(codes) + 1) * width // 8 + 1, "little")
    blocks = [whole[at : at + 255] for at in range(0, len(whole), 255)]
    return bytes([depth]) + b"".join(bytes([len(b)]) + b for b in blocks) + b"\0"


MIDDLE, CORNER, WHOLE = (2, 2, 6, 6), (0, 0, 2, 2), (0, 0, 8, 8)
# What each frame shows in a corner, in the middle and elsewhere.
UNCOVERED = {
    "a first frame of part": ([(MIDDLE, 2, 0, None)], [(None, BLUE, None)]),
    "a clear colour": ([(MIDDLE, 2, 0, 3)], [(None, BLUE, None)]),
    "a later clear colour": (
        [(MIDDLE, 1, 1, None), (WHOLE, 3, 0, 3)],
        [(None, GREEN, None)] * 2,
    ),
    "back to the background": (
        [(WHOLE, 1, 2, None), (MIDDLE, 2, 0, None)],
        [(GREEN, GREEN, GREEN), (None, BLUE, None)],
    ),
    "back to what was before": (
        [(MIDDLE, 1, 3, None), (CORNER, 2, 0, None)],
        [(None, GREEN, None), (BLUE, None, None)],
    ),
}


@pytest.mark.parametrize("colours", [4, 256])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("frames", UNCOVERED.values(), ids=UNCOVERED)
def test_what_no_frame_of_a_gif_covers_is_transparent(
    tmp_path, frames, shared, colours
):
    frames, expected = frames
    if shared and colours == 256 and frames[0][-1] is None:
        pytest.skip("no colour is left for the background")
    path = gif(tmp_path / "clip.gif", frames, shared, colours)
    for options, behind in (
        ({}, (255, 255, 255)),
        ({"background": (0, 200, 0)}, (0, 200, 0)),
    ):
        shown = read_video(path, **options)
        assert len(shown) == len(expected)
        for frame, colours_there in zip(shown, expected, strict=True):
            seen = tuple(tuple(frame[at, at].tolist()) for at in (0, 3, 7))
            assert seen == tuple(colour or behind for colour in colours_there)
    assert (probe(path).width, probe(path).num_frames) == (8, len(expected))


@pytest.mark.parametrize("file", ["clip.png", "clip.gif"])
def test_what_no_frame_of_an_animation_covers_is_transparent(tmp_path, file):
    # Pillow stores the parts that are drawn.
    drawn = [Image.new("RGBA", (64, 48)) for _ in range(2)]
    drawn[0].paste((*BLUE, 255), (16, 16, 48, 32))
    drawn[1].paste((*GREEN, 255), (0, 0, 16, 16))
    drawn[0].save(
        tmp_path / file,
        save_all=True,
        append_images=drawn[1:],
        duration=200,
        disposal=2 if "gif" in file else 1,
    )
    for colour in ((255, 255, 255), (0, 100, 200)):
        expected = np.full((2, 48, 64, 3), colour, "uint8")
        expected[0, 16:32, 16:48], expected[1, :16, :16] = BLUE, GREEN
        shown = read_video(tmp_path / file, background=colour)
        np.testing.assert_array_equal(shown, expected)
        image = read_image(tmp_path / file, background=colour)
        np.testing.assert_array_equal(image, expected[0])


def test_a_declared_shape_of_pixels_counts_for_the_bound(tmp_path, corners):
    path = write(tmp_path / "clip.mp4", corners, sample_aspect_ratio=Fraction(20))
    with (
        pytest.raises(ValueError, match="declares frames of 64 x 48"),
        open_clip(path, 2**17),
    ):
        pass


def test_a_window_of_wide_pixels_covers_the_target(tmp_path):
    path = write(
        tmp_path / "clip.mp4", disc(64, 96, 2.0), sample_aspect_ratio=Fraction(2)
    )
    (whole, *_) = read_video(path)
    (window, *_) = read_video(path, height=32, width=32)
    np.testing.assert_array_equal(window, cover_crop(whole, 32, 32))
