import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_makeavid.video import read_image, read_mask, read_video, write_image


@pytest.fixture
def picture(smooth_frames):
    return smooth_frames[0]


def test_png_survives_exactly_and_jpeg_nearly(tmp_path, picture, psnr):
    write_image(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)
    for name in ("a.jpg", "b.JPEG"):
        write_image(tmp_path / name, picture)
        assert psnr(read_image(tmp_path / name), picture) > 38


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path, picture):
    for name in ("a.png", "a.jpg"):
        write_image(tmp_path / name, picture)
        first = (tmp_path / name).read_bytes()
        write_image(tmp_path / name, picture)
        assert (tmp_path / name).read_bytes() == first
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.jpg", "a.png"]


def test_exif_orientation_is_honoured(tmp_path, picture):
    write_image(tmp_path / "a.jpg", picture)
    upright = read_image(tmp_path / "a.jpg")
    # One entry: orientation (0x0112), short, 6 = turn a quarter clockwise.
    tiff = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0" + tiff + bytes(4)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    contents = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(contents[:2] + segment + contents[2:])
    turned = read_image(tmp_path / "b.jpg")
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))


def test_grey_and_deep_pictures_become_rgb(tmp_path):
    import cv2

    grey = np.full((4, 4), 77, "uint8")
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype("uint16") * 257)
    for name in ("grey.png", "deep.png"):
        image = read_image(tmp_path / name)
        np.testing.assert_array_equal(image, np.full((4, 4, 3), 77))
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(read_mask(tmp_path / name), grey)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".webp"])
def test_white_or_a_chosen_colour_lies_behind_what_is_transparent(tmp_path, suffix):
    drawn = np.zeros((8, 8, 4), "uint8")
    drawn[:, 4:] = 0, 0, 255, 255
    path = tmp_path / f"clear{suffix}"
    Image.fromarray(drawn).save(path, lossless=True)
    for background in ((255, 255, 255), (255, 200, 0)):
        expected = np.full((8, 8, 3), background, "uint8")
        expected[:, 4:] = 0, 0, 255
        options = {} if background == (255, 255, 255) else {"background": background}
        np.testing.assert_array_equal(read_image(path, **options), expected)
        (frame,) = read_video(path, **options)
        np.testing.assert_array_equal(frame, expected)


def _png(*chunks):
    contents = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        contents += struct.pack(">I", len(data)) + kind + data + checksum
    return contents


PALETTE = Image.new("P", (8, 8), 1)
PALETTE.putpalette([255, 0, 0, 0, 0, 255])
PALETTE.paste(0, (0, 0, 4, 8))
CLEAR = {
    "a palette": (PALETTE, 0, (0, 0, 255)),
    "alphas of a palette": (PALETTE, bytes([0, 255]), (0, 0, 255)),
    "a colour": (PALETTE.convert("RGB"), (255, 0, 0), (0, 0, 255)),
    "a level of grey": (PALETTE.convert("L"), 76, (29, 29, 29)),
    "black": (PALETTE.convert("L").point(lambda v: 255 * (v < 50)).convert("1"), 0)
    + ((255, 255, 255),),
}


@pytest.mark.parametrize("clear", CLEAR.values(), ids=CLEAR)
def test_every_way_in_which_png_says_what_is_transparent(tmp_path, clear):
    picture, key, drawn = clear
    picture.save(tmp_path / "clear.png", transparency=key)
    expected = np.full((8, 8, 3), (0, 200, 0), "uint8")
    expected[:, 4:] = drawn
    image = read_image(tmp_path / "clear.png", background=(0, 200, 0))
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize(
    "colour", ["banana", "#12", (1, 2), (0, 0, 256), (-1, 0, 0), 7]
)
def test_what_is_no_colour_is_refused(tmp_path, picture, colour):
    write_image(tmp_path / "a.png", picture)
    with pytest.raises(ValueError, match="A background must be a colour's name"):
        read_image(tmp_path / "a.png", background=colour)
    assert (read_image(tmp_path / "a.png", background="#ff8000") == picture).all()


def test_half_transparent_pixels_are_mixed(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert np.unique(read_image(tmp_path / "half.png")).tolist() == [127]
    black = read_image(tmp_path / "half.png", background=(0, 0, 0))
    assert np.unique(black).tolist() == [0]
    assert np.unique(read_mask(tmp_path / "half.png")).tolist() == [127]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_damaged_pictures_give_pixels_or_a_value_error(tmp_path, picture, format):
    path = tmp_path / "picture.any"
    Image.fromarray(picture[:24, :32]).save(path, format)
    whole = path.read_bytes()
    random = np.random.default_rng(list(format.encode()))
    cuts = [whole[:end] for end in range(1, len(whole), max(1, len(whole) // 100))]
    refused, read = 0, 0
    for contents in cuts + [_damaged(whole, random) for _ in range(100)]:
        path.write_bytes(contents)
        try:
            image = read_image(path)
        except ValueError as error:
            refused += path.name in str(error)
        else:
            read += image.dtype == np.uint8 and image.shape[2] == 3
    assert refused + read == len(cuts) + 100
    assert refused >= 0.9 * len(cuts)


def _damaged(whole, random):
    damaged = bytearray(whole)
    for _ in range(random.integers(1, 12)):
        damaged[random.integers(len(damaged))] = random.integers(256)
    return bytes(damaged)


def test_unreadable_pictures_are_named(tmp_path, picture):
    write_image(tmp_path / "whole.jpg", picture)
    whole = (tmp_path / "whole.jpg").read_bytes()
    contents = {
        "empty.png": (b"", "is empty"),
        "text.png": (b"no picture", "is not a PNG"),
        "tiff.png": (b"II*\0" + bytes(40), "is not a PNG"),
        "cut.jpg": (whole[: len(whole) // 2], "truncated or damaged"),
    }
    for name, (data, message) in contents.items():
        (tmp_path / name).write_bytes(data)
        for read in (read_image, read_mask):
            with pytest.raises(ValueError, match=rf"{name} .*{message}"):
                read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(ValueError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(ValueError, match="both height and width"):
        read_image(tmp_path / "whole.jpg", height=8)


def test_a_declared_size_above_the_limit_is_refused_before_decoding(tmp_path):
    header = struct.pack(">IIBBBBB", 60000, 50000, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(_png((b"IHDR", header), (b"IEND", b"")))
    with pytest.raises(ValueError, match=r"bomb\.png declares too many pixels"):
        read_image(tmp_path / "bomb.png")


def test_wrong_suffixes_arrays_and_folders_are_refused(tmp_path, picture):
    with pytest.raises(ValueError, match=r"as \.png, \.jpg, .*Received: '\.tga'"):
        write_image(tmp_path / "a.tga", picture)
    with pytest.raises(ValueError, match=r"Received: float64 of shape \(96, 128, 3\)"):
        write_image(tmp_path / "a.png", picture / 255)
    with pytest.raises(ValueError, match=r"Received: uint8 of shape \(96, 128\)"):
        write_image(tmp_path / "a.png", picture[..., 0])
    with pytest.raises(ValueError, match=r"Received: uint8 of shape \(0, 128, 3\)"):
        write_image(tmp_path / "a.png", picture[:0])
    with pytest.raises(FileNotFoundError, match="no folder"):
        write_image(tmp_path / "missing" / "a.png", picture)
    assert list(tmp_path.iterdir()) == []
