"""Files of named tensors, read and written without knowing what the names mean."""

from weights_tools.containers.errors import ContainerError
from weights_tools.containers.opening import open_tensors
from weights_tools.containers.tensor_file import TensorFile
from weights_tools.containers.tensor_spec import TensorSpec
from weights_tools.containers.tensor_writer import TensorWriter, create_tensors

__all__ = [
    "ContainerError",
    "TensorFile",
    "TensorSpec",
    "TensorWriter",
    "create_tensors",
    "open_tensors",
]
