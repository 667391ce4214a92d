"""Files of named tensors, read and written without knowing what the names mean."""

from weights_tools.formats.opening import open_tensors
from weights_tools.formats.tensors import FormatError, TensorFile, TensorSpec, reading
from weights_tools.formats.writing import TensorWriter, create_tensors

__all__ = [
    "FormatError",
    "TensorFile",
    "TensorSpec",
    "TensorWriter",
    "create_tensors",
    "open_tensors",
    "reading",
]
