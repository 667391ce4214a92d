"""Still pictures: RGB, masks, and writing them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_makeavid import files
from keras_makeavid.video.resize import MAX_IMAGE_PIXELS, check_size, cover_crop

if TYPE_CHECKING:
    from PIL import ImageFile

Colour = str | tuple[int, int, int]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def read_image(
    path: files.StrPath,
    height: int | None = None,
    width: int | None = None,
    *,
    background: Colour = "white",
) -> np.ndarray:
    """Read a picture as RGB, upright as its EXIF orientation says.

    More than 8 bits a channel are reduced to 8; an animation has its first frame.

    Args:
        path: A PNG, JPEG, WebP, GIF or BMP file.
        height: Rows to scale and crop to, see `cover_crop`. None keeps the file's.
        width: Columns; given with `height` or not at all.
        background: What lies behind transparent parts: a colour's name, `"#rrggbb"`, or
            red, green and blue from 0 to 255.

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
    rgb = as_rgb(background)
    with opened_picture(path) as picture:
        image = pixels_of(picture, rgb)
    if height is None or width is None:
        return image
    return cover_crop(image, height, width)


def read_mask(path: files.StrPath, *, background: Colour = "white") -> np.ndarray:
    """Read a picture as a mask, uint8 `(H, W)`: its brightness, 0 (black) to 255.

    Arguments and errors are those of `read_image`.

    Example:
    ```python
    write_image("white.png", np.full((8, 8, 3), 255, "uint8"))
    read_mask("white.png").max()  # 255
    ```
    """
    from PIL import Image

    image = read_image(path, background=background)
    return np.asarray(Image.fromarray(image).convert("L"))


def check_image_path(path: files.StrPath) -> Path:
    """Return the path that `write_image` would take, and raise what it would."""
    path = files.existing_parent(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        expected = f"A picture must be written as {', '.join(IMAGE_SUFFIXES)}"
        raise ValueError(f"{expected}. Received: {path.suffix!r} ({path})")
    return path


def write_image(path: files.StrPath, image: np.ndarray) -> None:
    """Write a picture, uint8 RGB `(H, W, 3)`, as PNG or JPEG, by the suffix.

    An existing file is replaced, whole or not at all.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The suffix is not `.png`, `.jpg` or `.jpeg`, or the array another.

    Example:
    ```python
    write_image("grey.png", np.full((64, 64, 3), 128, "uint8"))
    ```
    """
    path = check_image_path(path)
    image = np.asarray(image)
    is_rgb = image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3
    if not is_rgb or image.size == 0:
        expected = "A picture must be uint8 of shape (H, W, 3), and not empty"
        raise ValueError(f"{expected}. Received: {image.dtype} of shape {image.shape}")
    with files.written_aside(path) as aside:
        aside.write_bytes(encode_image(image, path.suffix.lower()))


def encode_image(image: np.ndarray, suffix: str) -> bytes:
    """Encode a picture `(H, W, 3)`, uint8, RGB, as `.png`, `.jpg` or `.jpeg`."""
    from PIL import Image

    encoded = io.BytesIO()
    # PNG has no quality.
    format = "PNG" if suffix == ".png" else "JPEG"
    Image.fromarray(image).save(encoded, format, quality=95)
    return encoded.getvalue()


@contextmanager
def opened_picture(
    path: files.StrPath, max_pixels: int = MAX_IMAGE_PIXELS
) -> Iterator[ImageFile.ImageFile]:
    """Open a picture file of at most so many pixels, and name it in the block's errors.

    Pillow's own bound, which is the process's, holds too.
    """
    path = files.existing_file(path)
    # Uncompressed 16-bit RGBA: no picture within the limit is a larger file.
    if path.stat().st_size > 8 * max_pixels:
        raise ValueError(f"{path} is too large ({path.stat().st_size} bytes).")
    from PIL import Image

    with path.open("rb") as file:
        head = file.read(32)
        file.seek(0)
        try:
            # Pillow has its canvas made with the file's first byte.
            _check_pixels(path, _webp_canvas(head), max_pixels)
            picture = Image.open(file, formats=FORMATS)
            _check_pixels(path, picture.size, max_pixels)
            yield picture
        except TooLargeError:
            raise
        except Image.DecompressionBombError as error:
            raise TooLargeError(f"{path} declares too many pixels: {error}") from error
        except Image.UnidentifiedImageError as error:
            what = "is not a PNG, JPEG, WebP, GIF or BMP picture, or is damaged"
            raise ValueError(f"{path} {files.substitute_in(head) or what}.") from error
        # Of a damaged file Pillow raises whatever its plugins stumble over.
        except Exception as error:
            raise ValueError(
                f"{path} cannot be decoded: it is truncated or damaged ({error})."
            ) from error


def pixels_of(picture: ImageFile.ImageFile, background: np.ndarray) -> np.ndarray:
    """Decode an open picture: `(H, W, 3)`, uint8, RGB, upright."""
    from PIL import Image, ImageOps

    upright: Image.Image = picture
    picture.load()
    # A picture with damaged EXIF is shown as it is stored.
    with suppress(Exception):
        upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):
        # 16 bits of grey, which Pillow would cut off at 255.
        grey = np.clip(np.asarray(upright), 0, 65535).astype("uint32")
        upright = Image.fromarray(((grey + 128) // 257).astype("uint8"))
    if not upright.has_transparency_data:
        return np.array(upright.convert("RGB"))
    return lay_over(np.array(upright.convert("RGBA")), background)


def as_rgb(colour: Colour) -> np.ndarray:
    """Turn a colour into uint16 `(3,)`."""
    from PIL import ImageColor

    try:
        named = isinstance(colour, str)
        levels = np.array(ImageColor.getrgb(colour)[:3] if named else colour)
        if levels.shape == (3,) and levels.min() >= 0 and levels.max() <= 255:
            return levels.astype("uint16")
    except (TypeError, ValueError):
        pass
    expected = "A background must be a colour's name, '#rrggbb', or red"
    raise ValueError(f"{expected}, green and blue from 0 to 255. Received: {colour!r}")


def lay_over(rgba: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Lay a transparent picture `(H, W, 4)` of 8 bits over a colour: `(H, W, 3)`."""
    rgba = rgba.astype("uint16")
    alpha = rgba[..., 3:]
    mixed = rgba[..., :3] * alpha + background * (255 - alpha)
    return ((mixed + 127) // 255).astype("uint8")


class TooLargeError(ValueError):
    """A picture declares more pixels than are accepted."""


def _check_pixels(path, size, most):
    width, height = size
    if width * height > most:
        problem = f"{path} declares {width} x {height} pixels"
        raise TooLargeError(f"{problem}, at most {most} are accepted.")


def _webp_canvas(head):
    if head[:4] != b"RIFF" or head[12:16] != b"VP8X":
        return 0, 0
    return tuple(int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
