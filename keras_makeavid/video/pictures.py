"""Still pictures: RGB, masks, and writing them."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from keras_makeavid import files
from keras_makeavid.video.resize import MAX_IMAGE_PIXELS, check_size, cover_crop

if TYPE_CHECKING:
    from PIL import ImageFile

Colour = str | tuple[int, int, int]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
# Filters of warnings belong to the process: two threads must not swap them at once.
_WARNINGS = threading.RLock()


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


def read_mask(
    path: files.StrPath,
    height: int | None = None,
    width: int | None = None,
    *,
    background: Colour = "white",
) -> np.ndarray:
    """Read a picture as a mask, uint8 `(H, W)`: its brightness, 0 (black) to 255.

    It is resized without mixing values. The same region is kept as by `read_image`, of
    which arguments and errors are.

    Example:
    ```python
    write_image("white.png", np.full((8, 8, 3), 255, "uint8"))
    read_mask("white.png", height=4, width=4).max()  # 255
    ```
    """
    from PIL import Image

    check_size(height, width)
    image = read_image(path, background=background)
    mask = np.asarray(Image.fromarray(image).convert("L"))
    if height is None or width is None:
        return mask
    return cover_crop(mask, height, width, nearest=True)


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
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        expected = "A picture must be uint8 of shape (H, W, 3)"
        raise ValueError(f"{expected}. Received: {image.dtype} of shape {image.shape}")
    if image.size == 0:
        raise ValueError(f"A picture must not be empty. Received: shape {image.shape}")
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

    Pillow's warnings there are ignored, and its own bound, which is the process's.
    """
    path = files.existing_file(path)
    # Uncompressed 16-bit RGBA: no picture within the limit is a larger file.
    if path.stat().st_size > 8 * max_pixels:
        raise ValueError(f"{path} is too large ({path.stat().st_size} bytes).")
    with path.open("rb") as file, _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head = file.read(32)
        file.seek(0)
        opener = _opener(head)
        if opener is None:
            what = "is not a PNG, JPEG, WebP, GIF or BMP picture, or is truncated or "
            what += "damaged"
            raise ValueError(f"{path} {files.substitute_in(head) or what}.")
        try:
            # Pillow has its canvas made with the file's first byte.
            _check_pixels(path, _webp_canvas(head), max_pixels)
            content: IO[bytes] = file
            if head[12:16] == b"VP8X" and head[20] & 2:
                # The frames of an animation may leave parts clear. Pillow makes them
                # black, unless the header says that there is transparency.
                said = head[:20] + bytes([head[20] | 16])
                content = io.BytesIO(said + file.read()[len(said) :])
            picture = opener(content)
            _check_pixels(path, picture.size, max_pixels)
            yield picture
        except TooLargeError:
            raise
        # Of a damaged file Pillow raises whatever its plugins stumble over.
        except Exception as error:
            raise ValueError(
                f"{path} cannot be decoded: it is truncated or damaged ({error})."
            ) from error


def pixels_of(picture: ImageFile.ImageFile, background: np.ndarray) -> np.ndarray:
    """Decode an open picture: `(H, W, 3)`, uint8, RGB, upright."""
    from PIL import ImageOps

    # Pillow keeps the upper half of colours of 16 bits, but the whole of the clear one.
    deep = any(str(tile[3]).endswith(";16B") for tile in picture.tile)
    of_gif = picture.tile if picture.format == "GIF" else []
    covered = [tile.extents for tile in of_gif if tile.extents]
    picture.load()
    if deep and isinstance(key := picture.info.get("transparency"), tuple):
        picture.info["transparency"] = tuple(level >> 8 for level in key)
    try:
        upright = ImageOps.exif_transpose(picture)
    # A picture with damaged EXIF is shown as it is stored.
    except Exception:
        upright = picture
    if upright.mode.startswith("I"):
        grey = np.clip(np.asarray(upright), 0, 65535).astype("uint32")[..., None]
        alpha = np.where(grey == upright.info.get("transparency"), 0, 255)
        levels = np.repeat((grey + 128) // 257, 3, axis=-1)
        return lay_over(np.concatenate([levels, alpha], axis=-1), background)
    if not upright.has_transparency_data and covered in ([], [(0, 0, *picture.size)]):
        return np.array(upright.convert("RGB"))
    rgba = np.array(upright.convert("RGBA"))
    for left, top, right, bottom in covered:
        clear = np.ones(rgba.shape[:2], bool)
        clear[top:bottom, left:right] = False
        rgba[clear, 3] = 0
    return lay_over(rgba, background)


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


def _opener(head):
    """Pillow's class for a file of ours; `Image.open` would heed its bound on sizes."""
    from PIL import Image, JpegImagePlugin

    # Pillow's table has one that also reads, and may refuse, a second picture behind.
    if head.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    Image.init()
    openers = (Image.OPEN[name] for name in ("PNG", "WEBP", "GIF", "BMP"))
    return next((opener for opener, accept in openers if accept(head) is True), None)


def _webp_canvas(head):
    if head[:4] != b"RIFF" or head[12:16] != b"VP8X":
        return 0, 0
    return tuple(int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
