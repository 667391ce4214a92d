"""The one error of a file that is not what it claims to be."""

from __future__ import annotations

import os

_LONGEST = 120


class ContainerError(ValueError):
    """A file of tensors is damaged, dangerous or not supported.

    Args:
        path: the file.
        reason: what is wrong with it, as the rest of a sentence.
        tensor: name of the tensor that it is about, if it is about one.

    Example:
    ```python
    error = ContainerError("unet.safetensors", "ends too early", tensor="conv.bias")
    str(error)  # "unet.safetensors: tensor 'conv.bias': ends too early"
    ```
    """

    def __init__(
        self, path: str | os.PathLike[str], reason: str, tensor: str | None = None
    ):
        where = "" if tensor is None else f"tensor {shortened(tensor)}: "
        super().__init__(f"{os.fspath(path)}: {where}{reason}")


def shortened(received: object) -> str:
    """Something received, fit for the text of an error: quoted and not too long.

    Args:
        received: a name, number or structure that a file holds.

    Example:
    ```python
    shortened("x" * 1000)  # "'xxxxx...xxxxx'", about 120 characters
    ```
    """
    if isinstance(received, (str, bytes)):
        # Cut before quoting: a name may have the length of the file.
        received = received if len(received) <= _LONGEST else _cut(received)
    text = repr(received)
    return text if len(text) <= 4 * _LONGEST else _cut(text)


def _cut(text):
    dots = b"..." if isinstance(text, bytes) else "..."
    return text[: _LONGEST // 2] + dots + text[-_LONGEST // 2 :]
