"""Safetensors: headers read by its library, files laid out here to be filled later."""

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError, safe_open

from weights_tools.formats import tensors

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
_METADATA = "__metadata__"


def open_safetensors(file: tensors.MappedFile) -> tensors.TensorFile:
    """Open a safetensors file by its header, which the library checks for gaps."""
    position = _LENGTH + int.from_bytes(file.map[:_LENGTH], "little")
    found = {}
    try:
        with safe_open(file.path, framework="numpy") as opened:
            metadata = opened.metadata()
            for name in opened.offset_keys():
                header = opened.get_slice(name)
                code = header.get_dtype()
                dtype = _DTYPES.get(code, code)
                with tensors.reading(file.path, name):
                    spec = tensors.checked_spec(header.get_shape(), dtype)
                extent = tensors.Extent(position, spec.nbytes)
                found[name] = tensors.StoredTensor(spec, extent)
                position += spec.nbytes
    except SafetensorError as error:
        problem = tensors.shortened(str(error))
        raise file.error(f"is no whole safetensors file: {problem}") from error
    return tensors.mapped_tensors(file, found, metadata)


def lay_out_safetensors(
    specs: Mapping[str, tensors.TensorSpec], metadata: Mapping[str, str]
) -> list[bytes | tuple[str, int]]:
    """The header, and name and bytes of each tensor, of a new file."""
    if _METADATA in specs:
        raise ValueError(f"safetensors keeps the name {_METADATA!r} for itself.")
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    # The widest dtype first keeps each tensor aligned.
    order = sorted(specs, key=lambda name: -specs[name].numpy_dtype.itemsize)
    end = 0
    offsets = {}
    for name in order:
        offsets[name] = [end, end := end + specs[name].nbytes]
    for name, spec in specs.items():
        if spec.dtype not in _CODES:
            expected = f"safetensors holds {sorted(_CODES)}"
            raise ValueError(f"{expected}. Received: {name!r} {spec.dtype}")
        told = {"dtype": _CODES[spec.dtype], "shape": list(spec.shape)}
        header[name] = {**told, "data_offsets": offsets[name]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    text = len(text).to_bytes(_LENGTH, "little") + text
    return [text, *((name, specs[name].nbytes) for name in order)]
