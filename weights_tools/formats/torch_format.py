"""Checkpoints of PyTorch, zip archives or older, read by `torch.load` as data alone."""

import io
import pickletools
import re
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from typing import Any

import numpy as np

from weights_tools.formats.tensors import (
    DEEPEST,
    Extent,
    MappedFile,
    Pages,
    TensorFile,
    checked_spec,
    read_only,
    reading,
    shortened,
)

# Several times those of a full training checkpoint of this family.
_LONGEST_PICKLE = 16 * 2**20
_MOST_OBJECTS = 500_000
# Five pickles stand before the tensors of an old checkpoint.
_OLD_PICKLES = 5
# Where a training checkpoint keeps its weights, if not at the top.
_STATE_DICTS = ("state_dict", "model_state_dict", "model", "module", "string_to_param")

# Objects that training tools leave beside the weights: all of these packages, all that
# these modules of Python have, which is data, and these names.
_PASSED_PACKAGES = {"pytorch_lightning", "lightning", "lightning_fabric", "omegaconf"}
_PASSED_MODULES = {
    *("argparse", "array", "collections", "datetime", "decimal", "enum", "fractions"),
    *("http", "ipaddress", "numbers", "pathlib", "random", "typing", "uuid"),
}
_PASSED_NAMES = {
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    *(f"builtins.{kind}" for kind in ("int", "float", "bool", "complex", "str")),
    *(f"builtins.{kind}" for kind in ("bytes", "bytearray", "list", "dict", "tuple")),
    *(f"builtins.{kind}" for kind in ("set", "frozenset", "range", "slice", "type")),
    *(f"builtins.{kind}" for kind in ("object", "Ellipsis", "NotImplemented")),
    *("types.SimpleNamespace", "types.GenericAlias", "functools.partial"),
    *("numpy.dtype", "numpy.ndarray", "numpy.rec.recarray"),
    *("re._compile", "logging.getLogger", "copyreg._reconstructor"),
}


class _Object:
    """Stands for an object beside the weights, which is never made."""

    def __new__(cls, *arguments, **more):
        return object.__new__(cls)

    def __setstate__(self, state):
        self.state = state


class _Dict(_Object):
    """The same for one that is filled as a dict."""

    def __new__(cls, *arguments, **more):
        return OrderedDict()


class _List(_Object):
    """The same for one that is filled as a list."""

    def __new__(cls, *arguments, **more):
        return []


def open_torch(file: MappedFile) -> TensorFile:
    """Open a checkpoint of PyTorch. Nothing that it names is imported or run.

    The tensors of a zip archive stay in the file until they are read, others not.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{file.path} is a checkpoint of PyTorch: install keras-makeavid[torch] "
            "to read it."
        ) from error
    zipped = file.map[:2] == b"PK"
    pickles = _zipped_pickle(file) if zipped else file.map[:_LONGEST_PICKLE]
    names: dict[str, type] = {}
    called: set[str] = set()
    try:
        _look_at(io.BytesIO(pickles), 1 if zipped else _OLD_PICKLES, names, called)
        passed: list[Any] = [
            (kind, n) for n, kind in names.items() if _is_passed_over(n, n in called)
        ]
        # A mapping has no descriptor, with which PyTorch would try an archive of tar.
        source: Any = str(file.path) if zipped else file.map
        file.map.seek(0)
        with torch.serialization.safe_globals(passed):
            content = torch.load(source, "cpu", weights_only=True, mmap=zipped)
    except Exception as error:
        # Damage meets PyTorch in many ways.
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked:
            # PyTorch leaves out what stands before the names of Python's own.
            full = next((name for name in names if name.endswith(asked[1])), asked[1])
            reason = f"asks for {shortened(full)[1:-1]}, which no weights need; "
            reason += "nothing of the pickle was run"
        else:
            reason = f"is damaged, or no checkpoint of weights: {shortened(str(error))}"
        raise file.error(reason) from error
    tensors, others = _tensors_of(file, content, torch)
    specs = {}
    for name, tensor in tensors.items():
        with reading(file.path, name):
            dtype = str(tensor.dtype).removeprefix("torch.")
            specs[name] = spec = checked_spec(tuple(tensor.shape), dtype)
            # A view may repeat elements: cheap in the file, not when it is copied.
            if spec.nbytes > file.size:
                problem = f"shape {spec.shape} takes {spec.nbytes} bytes"
                raise ValueError(f"{problem}, more than the whole file ({file.size})")
    pages = Pages()

    def read(name: str) -> np.ndarray:
        if zipped:
            storage = tensors[name].untyped_storage()
            pages.touch(storage, Extent(storage.data_ptr(), storage.nbytes()))
        tensor, dtype = tensors[name].detach(), specs[name].numpy_dtype
        if dtype.kind == "V" or dtype.num > np.dtype("V").num:
            # One that NumPy itself does not know: the same bits as integers.
            tensor = tensor.view({1: torch.uint8, 2: torch.int16}[dtype.itemsize])
        return read_only(tensor.numpy().view(dtype))

    return TensorFile(file.path, specs, read, left_out=others)


def _zipped_pickle(file: MappedFile) -> bytes:
    """The pickle of a zip archive, of which PyTorch takes only an uncompressed one."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            pickles = [name for name in entries if name.endswith("/data.pkl")]
            if len(pickles) != 1 or len(entries) != len(archive.infolist()):
                raise ValueError(
                    "it has no data.pkl, or more than one of a name. If a checkpoint "
                    "is packed in it, unpack it"
                )
            if any(info.compress_type for info in entries.values()):
                raise ValueError("it is compressed")
            order = pickles[0].replace("data.pkl", "byteorder")
            if order in entries and archive.read(order) != b"little":
                raise ValueError("it has big-endian numbers")
            if entries[pickles[0]].file_size > _LONGEST_PICKLE:
                raise ValueError(f"its pickle is larger than {_LONGEST_PICKLE} bytes")
            return archive.read(pickles[0])
    except Exception as error:
        # Damage meets Python's reader in many ways, not all of them `BadZipFile`.
        problem = "is no whole zip archive of PyTorch"
        raise file.error(f"{problem}: {shortened(str(error))}") from error


def _is_passed_over(name: str, is_called: bool) -> bool:
    """Whether a name is one of settings: as a rule data, or a class and no function."""
    package, last = name.split(".")[0], name.split(".")[-1]
    if name in _PASSED_NAMES or package in _PASSED_MODULES | _PASSED_PACKAGES:
        return True
    if package in sys.stdlib_module_names:
        return False
    is_class = last.lstrip("_")[:1].isupper()
    if package == "numpy":
        # A class that says a dtype, or what puts an array or a generator together.
        is_class |= isinstance(getattr(np, last, None), type) or last[0] == "_"
    return is_class or not is_called


def _look_at(
    stream: io.BytesIO, count: int, names: dict[str, type], called: set[str]
) -> None:
    """Find what pickles ask for, what can stand for it, and if it is called.

    Objects are counted, too: some could take for ever to hash, or end the process.
    """
    objects = 0
    for _ in range(count):
        # Of each item on the stack: how many objects, how deep, made by which name.
        stack: list[Any] = []
        memo: dict[Any, tuple[int, int, str]] = {}
        for opcode, argument, _ in pickletools.genops(stream):
            name, item = opcode.name, (1, 0, "")
            if name == "PROTO" and argument != 2:
                raise ValueError(
                    f"its pickle has protocol {argument}, and PyTorch loads weights of "
                    "protocol 2: save it again by torch.save"
                )
            if name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
                objects += memo[argument][0]
            elif name == "MARK":
                stack.append(None)
            elif name == "GLOBAL":
                full = _as_python_3(str(argument))
                names.setdefault(full, _Object)
                stack.append((1, 0, full))
            else:
                item = _made(stack, opcode, names, item)
                if name == "REDUCE":
                    called.add(item[2])
                stack.extend(item for _ in opcode.stack_after)
            objects += 1
            if objects > _MOST_OBJECTS or item[1] > DEEPEST:
                raise ValueError("its pickle nests too deeply, or without end")


def _as_python_3(name: str) -> str:
    """The name of today, with a dot, for one that a pickle has as Python 2 had it."""
    module, _, attribute = name.partition(" ")
    pair = NAME_MAPPING.get((module, attribute), (module, attribute))
    module = IMPORT_MAPPING.get(pair[0], pair[0])
    return f"{module}.{pair[1]}"


def _made(stack: list, opcode: Any, names: dict[str, type], item: tuple) -> tuple:
    """Take from a stack what an instruction takes, and give what it makes of it."""
    taken, before = [], opcode.stack_before
    if pickletools.markobject in before:
        while stack[-1] is not None:
            taken.append(stack.pop())
        stack.pop()
        before = before[: before.index(pickletools.markobject)]
    taken += [stack.pop() for _ in before]
    if not taken:
        return item
    count = 1 + sum(number for number, _, _ in taken)
    depth = 1 + max(deep for _, deep, _ in taken)
    _, target_depth, target = taken[-1]
    fills = {"APPEND": _List, "SETITE": _Dict, "BUILD": None}
    if opcode.name[:6] in fills:
        # To fill an object does not make it deeper.
        depth = max(target_depth, *(deep + 1 for _, deep, _ in taken[:-1]), 0)
        kind = fills[opcode.name[:6]]
        if target and kind:
            names[target] = kind
    elif opcode.name not in ("REDUCE", "NEWOBJ"):
        target = ""
    return count, depth, target


def _tensors_of(
    file: MappedFile, content: Any, torch: Any
) -> tuple[dict[str, Any], list[str]]:
    """The tensors of a checkpoint, its own or those of the state dict in it.

    And what else there is, such as the state of an optimizer, in words.
    """
    if not isinstance(content, dict):
        kind = type(content).__name__
        if isinstance(content, _Object):
            kind = "whole object, such as a model (save its state_dict() instead)"
        raise file.error(f"holds a {kind}, expected a dict of tensors")

    def tensors_in(value):
        found = value if isinstance(value, dict) else {}
        return {k: v for k, v in found.items() if isinstance(v, torch.Tensor)}

    places = {name: tensors_in(content.get(name)) for name in _STATE_DICTS}
    places[""] = tensors_in(content)
    if not any(t.ndim for found in places.values() for t in found.values()):
        # Of whatever name: the one that has tensors, where others are numbers at most.
        inner = {k: tensors_in(v) for k, v in content.items() if tensors_in(v)}
        places = {**(inner if len(inner) == 1 else {}), **places}
    chosen = next((name for name, found in places.items() if found), None)
    if chosen is None:
        keys = shortened(", ".join(str(key) for key in list(content)[:20]))
        raise file.error(f"holds no tensors, only entries {keys}")
    tensors = places[chosen]
    others = [
        f"{shortened(str(key))[1:-1]}: "
        + ("further entries" if key == chosen else "an entry of the checkpoint")
        for key, value in content.items()
        if isinstance(value, dict | list | tuple | _Object) and value
        if key != chosen or len(content[key]) > len(tensors)
    ]
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise file.error(f"name is no string: {shortened(name)}")
        is_odd = tensor.is_meta or tensor.is_conj() or tensor.is_neg()
        if tensor.layout != torch.strided or tensor.is_quantized or is_odd:
            raise file.error("is no plain tensor, but sparse or such", name)
    return tensors, others
