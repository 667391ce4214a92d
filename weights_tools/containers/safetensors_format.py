"""Safetensors: a length, a header in JSON, and the tensors' bytes without gaps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from weights_tools.containers.errors import ContainerError, shortened
from weights_tools.containers.layout_plan import HeadersPlan
from weights_tools.containers.mapped_file import (
    Extent,
    MappedFile,
    MappedTensors,
    StoredTensor,
)
from weights_tools.containers.strict_json import StrictJsonError, parse_strictly
from weights_tools.containers.tensor_spec import TensorSpec, checked_spec

_DTYPES = {
    "BOOL": "bool",
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "C64": "complex64",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
}
_CODES = {name: code for code, name in _DTYPES.items()}

_LENGTH = 8
# Twenty times the header of the largest file of this family. Text that is mostly
# brackets takes 25 times its size when parsed.
_LONGEST_HEADER = 4 * 2**20
_METADATA = "__metadata__"


def is_safetensors(start: bytes) -> bool:
    """Whether a file that starts so is meant as safetensors.

    Args:
        start: its first bytes, at least nine.

    Example:
    ```python
    is_safetensors((64).to_bytes(8, "little") + b"{")  # True
    ```
    """
    # Text, such as an index in JSON, has no zero bytes.
    return start[5 : _LENGTH + 1] == b"\0\0\0{"


def open_safetensors(file: MappedFile) -> MappedTensors:
    """Open a safetensors file; only its header is read.

    Args:
        file: the mapped file.

    Raises:
        ContainerError: if the header breaks a rule of the format.
    """
    length = int.from_bytes(file.piece(0, _LENGTH, "the header's length"), "little")
    if length > _LONGEST_HEADER:
        raise ContainerError(
            file.path, f"header of {length} bytes, expected at most {_LONGEST_HEADER}"
        )
    header = _parsed(file, file.piece(_LENGTH, length, "the header"))
    metadata = _metadata(file, header.pop(_METADATA, {}))
    start = _LENGTH + length
    tensors = {
        name: _tensor(file, start, name, entry) for name, entry in header.items()
    }
    _check_no_gaps(file, start, tensors)
    return MappedTensors(file, tensors, metadata)


def _parsed(file: MappedFile, text: bytes) -> dict[str, Any]:
    try:
        header = parse_strictly(text)
    except StrictJsonError as error:
        raise ContainerError(file.path, f"header {error}") from error
    if not isinstance(header, dict):
        raise ContainerError(file.path, "header is not a JSON object")
    return header


def _metadata(file: MappedFile, metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise ContainerError(file.path, f"{_METADATA} does not map strings to strings")
    return metadata


def _tensor(file: MappedFile, start: int, name: str, entry: Any) -> StoredTensor:
    if not isinstance(entry, dict) or entry.keys() != {
        "dtype",
        "shape",
        "data_offsets",
    }:
        raise ContainerError(
            file.path,
            f"expected dtype, shape and data_offsets. Received: {shortened(entry)}",
            tensor=name,
        )
    code = entry["dtype"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise ContainerError(
            file.path,
            f"dtype must be one of {sorted(_DTYPES)}. Received: {shortened(code)}",
            tensor=name,
        )
    try:
        spec = checked_spec(entry["shape"], _DTYPES[code])
    except ValueError as error:
        raise ContainerError(file.path, str(error), tensor=name) from error
    return StoredTensor(spec, (_extent(file, start, name, spec, entry),))


def _extent(file, start, name, spec: TensorSpec, entry) -> Extent:
    offsets = entry["data_offsets"]
    if (
        not isinstance(offsets, list)
        or [type(offset) for offset in offsets] != [int, int]
        or not file.holds(start + offsets[0], offsets[1] - offsets[0])
        or offsets[0] < 0
    ):
        raise ContainerError(
            file.path,
            f"data_offsets {shortened(offsets)} do not lie within the "
            f"{file.size - start} bytes of data",
            tensor=name,
        )
    nbytes = offsets[1] - offsets[0]
    if nbytes != spec.nbytes:
        raise ContainerError(
            file.path,
            f"shape {spec.shape} of {spec.dtype} takes {spec.nbytes} bytes, "
            f"data_offsets give {nbytes}",
            tensor=name,
        )
    return Extent(start + offsets[0], nbytes)


def _check_no_gaps(file: MappedFile, start: int, tensors) -> None:
    """The format allows no byte of data that is no tensor's or two tensors'."""
    position = start
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].extents):
        offset, nbytes = tensor.extents[0]
        if offset != position:
            raise ContainerError(
                file.path,
                f"data starts at byte {offset - start}, expected {position - start}: "
                "tensors overlap or leave a gap",
                tensor=name,
            )
        position += nbytes
    if position != file.size:
        raise ContainerError(
            file.path, f"{file.size - position} bytes follow the last tensor"
        )


def plan_safetensors(
    specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]
) -> HeadersPlan:
    """Where each tensor goes in a new safetensors file, and the header.

    Args:
        specs: shape and dtype of each tensor by name.
        metadata: what the file shall say of itself.

    Raises:
        ValueError: if the format has no such dtype or cannot hold such a name.
    """
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    if _METADATA in specs:
        raise ValueError(f"safetensors keeps the name {_METADATA!r} for itself")
    offsets, end = _offsets(specs)
    for name, spec in specs.items():
        if spec.dtype not in _CODES:
            raise ValueError(
                f"safetensors holds {sorted(_CODES)}. Received: {name!r} {spec.dtype}"
            )
        header[name] = {
            "dtype": _CODES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [offsets[name], offsets[name] + spec.nbytes],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER:
        raise ValueError(f"{len(specs)} tensors need a header of {len(text)} bytes")
    start = _LENGTH + len(text)
    return HeadersPlan(
        size=start + end,
        heads=((0, len(text).to_bytes(_LENGTH, "little") + text),),
        extents={
            name: (Extent(start + offset, specs[name].nbytes),)
            for name, offset in offsets.items()
        },
    )


def _offsets(specs: Mapping[str, TensorSpec]) -> tuple[dict[str, int], int]:
    """Offsets of all tensors and the end: widest dtype first keeps each aligned."""
    offsets, end = {}, 0
    for name in sorted(specs, key=lambda name: -specs[name].numpy_dtype.itemsize):
        offsets[name] = end
        end += specs[name].nbytes
    return offsets, end
