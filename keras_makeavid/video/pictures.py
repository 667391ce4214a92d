"""Still pictures: RGB, masks, and writing them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keras_makeavid.files import (
    StrPath,
    existing_file,
    existing_parent,
    written_aside,
)
from keras_makeavid.video.opencv import load_cv2
from keras_makeavid.video.picture_header import picture_size
from keras_makeavid.video.resize import MAX_IMAGE_PIXELS, check_size, cover_crop

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_image(
    path: StrPath, height: int | None = None, width: int | None = None
) -> np.ndarray:
    """Reads a picture as RGB, upright as its EXIF orientation says.

    Transparency is dropped, more than 8 bits a channel are rounded to 8; of an
    animation the first frame is read.

    Args:
        path: A PNG, JPEG, WebP, GIF or BMP file.
        height: Rows to scale and crop to, see `cover_crop`. None keeps the file's.
        width: Columns; given with `height` or not at all.

    Returns:
        `(H, W, 3)`, uint8, RGB.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, no picture, damaged, or above 2**27 pixels.

    Example:
        ```python
        write_image("red.png", np.full((8, 8, 3), (255, 0, 0), "uint8"))
        read_image("red.png", height=4, width=4)[0, 0]  # array([255, 0, 0])
        ```
    """
    check_size(height, width)
    image = _decode(path, load_cv2().IMREAD_COLOR_RGB)
    return image if height is None else cover_crop(image, height, width)


def read_mask(
    path: StrPath, height: int | None = None, width: int | None = None
) -> np.ndarray:
    """Reads a picture as a mask: brightness, resized without mixing values.

    The same region is kept as by `read_image`, so mask and picture stay aligned.

    Args:
        path: A file as for `read_image`.
        height: Rows to scale and crop to. None keeps the file's.
        width: Columns; given with `height` or not at all.

    Returns:
        `(H, W)`, uint8, 0 (black) to 255 (white).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, no picture, damaged, or above 2**27 pixels.

    Example:
        ```python
        write_image("white.png", np.full((8, 8, 3), 255, "uint8"))
        read_mask("white.png", height=4, width=4).max()  # 255
        ```
    """
    check_size(height, width)
    mask = _decode(path, load_cv2().IMREAD_GRAYSCALE)
    return mask if height is None else cover_crop(mask, height, width, nearest=True)


def check_image_path(path: StrPath) -> Path:
    """Raises what `write_image` would, before there is a picture to write.

    Args:
        path: As for `write_image`.

    Returns:
        The path.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The suffix is none of a picture.

    Example:
        ```python
        check_image_path("sheet.png")
        ```
    """
    path = existing_parent(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(
            f"Cannot write a picture as {path.suffix!r} ({path}), expected one of "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )
    return path


def write_image(path: StrPath, image: np.ndarray) -> None:
    """Writes a picture as PNG or JPEG, by the suffix.

    Args:
        path: Ends in `.png`, `.jpg` or `.jpeg`. An existing file is replaced, whole
            or not at all.
        image: `(H, W, 3)`, uint8, RGB.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The suffix or the array is another.

    Example:
        ```python
        write_image("grey.png", np.full((64, 64, 3), 128, "uint8"))
        ```
    """
    path = check_image_path(path)
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            "A picture must be uint8 of shape (H, W, 3), "
            f"received {image.dtype} of shape {image.shape}."
        )
    if image.size == 0:
        raise ValueError(f"A picture must not be empty, received shape {image.shape}.")
    with written_aside(path) as aside:
        aside.write_bytes(encode_image(image, path.suffix.lower()))


def encode_image(image: np.ndarray, suffix: str) -> bytes:
    """Encodes a picture in memory.

    Args:
        image: `(H, W, 3)`, uint8, RGB.
        suffix: `.png`, `.jpg` or `.jpeg`. JPEG is of quality 95.

    Returns:
        The file's bytes.
    """
    cv2 = load_cv2()
    _, encoded = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def _decode(path: StrPath, flags: int) -> np.ndarray:
    path = existing_file(path)
    # Uncompressed 16-bit RGBA: no picture within the limit is a larger file.
    if path.stat().st_size > 8 * MAX_IMAGE_PIXELS:
        raise ValueError(f"{path} is too large ({path.stat().st_size} bytes).")
    with path.open("rb") as file:
        size = picture_size(file)
    if size is None:
        raise ValueError(
            f"{path} is not a PNG, JPEG, WebP, GIF or BMP picture, or is truncated "
            "or damaged."
        )
    if size[0] * size[1] > MAX_IMAGE_PIXELS:
        raise ValueError(
            f"{path} declares {size[1]} x {size[0]} pixels, "
            f"at most {MAX_IMAGE_PIXELS} are accepted."
        )
    cv2 = load_cv2()
    try:
        # Decoding bytes works for every path; imread fails on some of Windows'.
        image = cv2.imdecode(np.fromfile(path, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"{path} cannot be read as a picture: {error.err}") from error
    if image is None:
        raise ValueError(f"{path} cannot be decoded: it is truncated or damaged.")
    return image
