import io

import cv2
import numpy as np
import pytest

from keras_makeavid.video.picture_header import picture_size

LOSSLESS_WEBP = [cv2.IMWRITE_WEBP_QUALITY, 101]


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".png", []),
        (".jpg", []),
        (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".gif", []),
        (".webp", []),
        (".webp", LOSSLESS_WEBP),
        (".bmp", []),
    ],
)
def test_the_declared_size_is_the_decoded_size(suffix, options):
    for height, width in ((1, 1), (37, 515), (300, 20)):
        image = np.zeros((height, width, 3), "uint8")
        contents = cv2.imencode(suffix, image, options)[1].tobytes()
        assert picture_size(io.BytesIO(contents)) == (height, width)


def test_an_animated_webp_declares_its_canvas():
    animation = cv2.Animation()
    animation.frames = [np.full((37, 515, 3), 99 * i, "uint8") for i in range(2)]
    animation.durations = [100, 100]
    contents = cv2.imencodeanimation(".webp", animation)[1].tobytes()
    assert picture_size(io.BytesIO(contents)) == (37, 515)


def test_a_png_chunk_longer_than_the_file_declares_nothing():
    contents = cv2.imencode(".png", np.zeros((4, 4, 3), "uint8"))[1].tobytes()
    assert picture_size(io.BytesIO(contents)) == (4, 4)
    data = contents.find(b"IDAT")
    for damaged in (
        contents[: data - 4] + b"\xf0\0\0\0" + contents[data:],
        contents[:-1],
    ):
        assert picture_size(io.BytesIO(damaged)) is None


@pytest.mark.parametrize(
    "contents",
    [b"", b"II*\0" + bytes(40), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"]
    + [b"\xff\xd8\xff\xe0\0\x04ab" * 3, b"RIFF\0\0\0\0WEBPVP8L"],
)
def test_unknown_and_cut_headers_declare_nothing(contents):
    assert picture_size(io.BytesIO(contents)) is None
