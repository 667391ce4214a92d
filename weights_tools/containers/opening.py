"""Open a file of named tensors, whatever its format."""

from __future__ import annotations

import os

from weights_tools.containers.errors import ContainerError
from weights_tools.containers.mapped_file import MappedFile
from weights_tools.containers.safetensors_format import is_safetensors, open_safetensors
from weights_tools.containers.tensor_file import TensorFile


def open_tensors(path: str | os.PathLike[str]) -> TensorFile:
    """Open a file of named tensors; nothing but its header is read.

    The format is told by the content, then by the suffix: safetensors, also in shards
    with an `index.json`.

    Args:
        path: the file, or the index of a sharded set.

    Returns:
        A `TensorFile`, to be closed.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ContainerError: if it is damaged, dangerous or of no known format.

    Example:
    ```python
    with open_tensors("unet/diffusion_pytorch_model.safetensors") as file:
        kernel = file.read("conv_in.weight")
    ```
    """
    file = MappedFile(path)
    start = file.map[:16]
    if is_safetensors(start) or file.path.suffix == ".safetensors":
        return open_safetensors(file)
    raise ContainerError(file.path, "is in none of the formats safetensors")
