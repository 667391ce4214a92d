import struct
import zlib

import numpy as np
import pytest

from keras_makeavid.video import read_image, read_mask, write_image


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


def test_picture_and_mask_are_cropped_to_the_same_region(tmp_path):
    image = np.zeros((60, 100, 3), "uint8")
    image[20:40, 40:60] = 255
    write_image(tmp_path / "a.png", image)
    resized = read_image(tmp_path / "a.png", height=30, width=30)
    mask = read_mask(tmp_path / "a.png", height=30, width=30)
    assert mask.shape == (30, 30)
    assert set(np.unique(mask)) == {0, 255}
    np.testing.assert_array_equal(resized[..., 0] > 127, mask > 127)


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


def test_grey_transparent_and_deep_pictures_become_rgb(tmp_path):
    import cv2

    grey = np.full((4, 4), 77, "uint8")
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype("uint16") * 257)
    cv2.imwrite(str(tmp_path / "clear.png"), np.dstack([grey] * 4))
    for name in ("grey.png", "deep.png", "clear.png"):
        image = read_image(tmp_path / name)
        np.testing.assert_array_equal(image, np.full((4, 4, 3), 77))
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(read_mask(tmp_path / name), grey)


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
    chunks = ((b"IHDR", header), (b"IEND", b""))
    contents = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        contents += struct.pack(">I", len(data)) + kind + data + checksum
    (tmp_path / "bomb.png").write_bytes(contents)
    with pytest.raises(ValueError, match=r"bomb\.png declares 60000 x 50000 pixels"):
        read_image(tmp_path / "bomb.png")


def test_wrong_suffixes_arrays_and_folders_are_refused(tmp_path, picture):
    with pytest.raises(ValueError, match=r"'\.tga' .* expected one of \.png, \.jpg"):
        write_image(tmp_path / "a.tga", picture)
    with pytest.raises(ValueError, match=r"received float64 of shape \(96, 128, 3\)"):
        write_image(tmp_path / "a.png", picture / 255)
    with pytest.raises(ValueError, match=r"received uint8 of shape \(96, 128\)"):
        write_image(tmp_path / "a.png", picture[..., 0])
    with pytest.raises(ValueError, match=r"received shape \(0, 128, 3\)"):
        write_image(tmp_path / "a.png", picture[:0])
    with pytest.raises(FileNotFoundError, match="no folder"):
        write_image(tmp_path / "missing" / "a.png", picture)
    assert list(tmp_path.iterdir()) == []
