"""What the names in a checkpoint of PyTorch stand for, without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weights_tools.containers.pickle_machine import (
    Builder,
    Inert,
    PickleError,
    called,
)


@dataclass(frozen=True)
class DtypeName:
    """A dtype of PyTorch.

    Args:
        name: the same dtype's name in numpy and ml_dtypes.
    """

    name: str


@dataclass(frozen=True)
class StorageKind:
    """A class of storages.

    Args:
        dtype: of its elements; bytes, if it has none.
    """

    dtype: str


@dataclass(frozen=True)
class StorageRecord:
    """A run of elements that tensors look into.

    Args:
        dtype: of its elements.
        key: what it is called in the file.
        size: how many elements it has.
    """

    dtype: str
    key: str
    size: int


@dataclass(frozen=True)
class TensorRecord:
    """A tensor as a checkpoint describes it; nothing in it has been checked.

    Args:
        storage: where its elements lie.
        offset: of its first element, in elements.
        shape: its dimensions.
        stride: elements from one to the next along each axis.
        dtype: of its elements.
    """

    storage: Any
    offset: Any
    shape: Any
    stride: Any
    dtype: Any


_DTYPES = {
    **{name: name for name in ("bool", "int8", "int16", "int32", "int64", "bfloat16")},
    **{name: name for name in ("uint8", "uint16", "uint32", "uint64")},
    **{name: name for name in ("float16", "float32", "float64")},
    **{name: name for name in ("complex64", "complex128", "float8_e5m2")},
    **{name: name for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2fnuz")},
}
_STORAGES = {
    **{"BoolStorage": "bool", "ByteStorage": "uint8", "CharStorage": "int8"},
    **{"ShortStorage": "int16", "IntStorage": "int32", "LongStorage": "int64"},
    **{"HalfStorage": "float16", "FloatStorage": "float32", "DoubleStorage": "float64"},
    **{"BFloat16Storage": "bfloat16", "ComplexFloatStorage": "complex64"},
    **{"ComplexDoubleStorage": "complex128", "UntypedStorage": "uint8"},
}


def _tensor(storage, offset, size, stride, gradient=None, hooks=None, math_bits=None):
    dtype = getattr(storage, "dtype", None)
    return _plain_tensor(storage, offset, size, stride, dtype, math_bits)


def _tensor_of_dtype(
    storage, offset, size, stride, gradient, hooks, dtype, math_bits=None
):
    dtype = getattr(dtype, "name", None)
    return _plain_tensor(storage, offset, size, stride, dtype, math_bits)


def _plain_tensor(storage, offset, size, stride, dtype, math_bits) -> TensorRecord:
    if math_bits:
        raise PickleError("has a conjugated or negated view, which is not supported")
    return TensorRecord(storage, offset, size, stride, dtype)


def _parameter(tensor, *gradient_and_hooks):
    return tensor


def _of_type(function, kind, arguments, state):
    # Not of itself: a pickle could nest that without end.
    if not isinstance(function, Builder) or function.build is _of_type:
        raise PickleError("rebuilds a tensor by what is no function for it")
    return called(function, arguments)


def _dict(*arguments) -> dict[Any, Any]:
    if not arguments:
        return {}
    pairs = arguments[0]
    if isinstance(pairs, dict):
        return dict(pairs)
    # A dict of pickles from Python 2: its keys are names or numbers.
    if not isinstance(pairs, list) or not all(
        isinstance(pair, (list, tuple))
        and len(pair) == 2
        and isinstance(pair[0], (str, int))
        for pair in pairs
    ):
        raise PickleError("makes a dict of what are no pairs")
    return dict(pairs)


_BUILDERS = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": tuple,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": lambda *_: {},
}
# Beside the weights: settings, step counts and classes that only say their name.
_INERT = {
    *("torch.device", "torch.Tensor", "torch.nn.parameter.Parameter"),
    *("builtins.set", "__builtin__.set", "_codecs.encode", "numpy.dtype"),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    *("builtins.int", "builtins.float", "builtins.dict", "builtins.list"),
    "collections.Counter",
}
# Checkpoints of Stable Diffusion name the callbacks that they were trained with.
_INERT_PACKAGE = "pytorch_lightning."


def torch_name(module: str, name: str) -> Any:
    """What a name in a pickle of PyTorch stands for.

    Args:
        module: the module that Python would import.
        name: the name in it.

    Raises:
        PickleError: if no checkpoint of weights needs it.

    Example:
    ```python
    torch_name("torch", "HalfStorage")  # StorageKind(dtype="float16")
    ```
    """
    full = f"{module}.{name}"
    if full in _BUILDERS:
        return Builder(full, _BUILDERS[full])
    if full in _INERT or full.startswith(_INERT_PACKAGE):
        return Inert(full)
    if module in ("torch", "torch.cuda", "torch.storage") and name in _STORAGES:
        return StorageKind(_STORAGES[name])
    if module == "torch" and name in _DTYPES:
        return DtypeName(_DTYPES[name])
    raise PickleError(
        f"asks for {full}, which no weights need; nothing of the pickle was run"
    )


def storage_record(identity: Any) -> StorageRecord:
    """The storage that a persistent id of a checkpoint means.

    Args:
        identity: the id, a tuple of `"storage"`, class, key, device, size and, in old
            files, the description of a view.

    Raises:
        PickleError: if it is no such id.

    Example:
    ```python
    kind = StorageKind("float32")
    storage_record(("storage", kind, "0", "cpu", 12))
    # StorageRecord(dtype="float32", key="0", size=12)
    ```
    """
    if (
        not isinstance(identity, tuple)
        or len(identity) not in (5, 6)
        or identity[0] != "storage"
        or not isinstance(identity[1], StorageKind)
        or not isinstance(identity[2], str)
        or type(identity[4]) is not int
        or identity[4] < 0
    ):
        raise PickleError("refers to something that is no storage of a tensor")
    if identity[5:] and identity[5] is not None:
        raise PickleError("has a storage that is a view of another: too old a file")
    return StorageRecord(identity[1].dtype, identity[2], identity[4])
