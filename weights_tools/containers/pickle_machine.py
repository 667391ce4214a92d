"""What a pickle says, found without running any of it.

A pickle is a program for a stack machine. Python's own machine imports and calls
whatever the program names. This one has the data instructions only; the few names that
checkpoints need stand for functions of ours that build inert records.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from weights_tools.containers.errors import shortened

# Several times those of a full training checkpoint of this family.
_MOST_INSTRUCTIONS = 500_000


class PickleError(ValueError):
    """A pickle is damaged, or asks for more than data."""


@dataclass(frozen=True)
class Inert:
    """Something that a pickle names or makes and that tells us nothing.

    Args:
        name: what it would be in Python.
    """

    name: str


@dataclass(frozen=True)
class Builder:
    """A name of a pickle that may be called.

    Args:
        name: what it would be in Python.
        build: our function that takes the arguments, as the pickle gives them.
    """

    name: str
    build: Callable[..., Any]


class _Mark:
    """Where a group of items starts on the stack."""


_MARK = _Mark()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PLAIN = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Inert("builtins.set"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NO_EFFECT = {"PROTO", "FRAME"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}


def read_pickle(
    stream: io.BytesIO,
    names: Callable[[str, str], Any],
    persistent: Callable[[Any], Any],
) -> Any:
    """Read one pickle as data.

    Args:
        stream: where it starts; afterwards, where it ends.
        names: gives the `Inert`, `Builder` or record that a module and a name in it
            stand for, or raises `PickleError`.
        persistent: gives what a persistent id stands for.

    Returns:
        Its object, of dicts, lists, tuples, strings, numbers and records.

    Raises:
        PickleError: if it is damaged or asks for anything else.

    Example:
    ```python
    pickled = bytes([0x80, 2, *b"K", 1, *b"K", 2, 0x86, *b"."])
    read_pickle(io.BytesIO(pickled), names=Inert, persistent=Inert)  # (1, 2)
    ```
    """
    machine = _Machine(names, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count == _MOST_INSTRUCTIONS:
                raise PickleError(f"has more than {_MOST_INSTRUCTIONS} instructions")
            machine.step(opcode.name, argument)
    except PickleError:
        raise
    except ValueError as error:
        raise PickleError(f"is damaged: {shortened(str(error))}") from error
    return machine.pop()


class _Machine:
    def __init__(self, names, persistent):
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.names = names
        self.persistent = persistent

    def step(self, name: str, argument: Any) -> None:
        if name in _PLAIN:
            self.stack.append(argument)
        elif name in _PUTS:
            self.memo[argument] = self.top()
        elif name in _GETS:
            self.stack.append(self.remembered(argument))
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[name])]
            self.stack.append(tuple(reversed(items)))
        elif name in self.OPERATIONS:
            self.OPERATIONS[name](self, argument)
        elif name not in _NO_EFFECT:
            raise PickleError(f"has the instruction {name}, which no weights need")

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("is damaged: it takes more than it has put down")
        return self.stack[-1]

    def pop(self) -> Any:
        item = self.top()
        self.stack.pop()
        return item

    def items(self) -> list[Any]:
        """Take everything down to the last mark, and the mark."""
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                items = self.stack[at + 1 :]
                del self.stack[at:]
                return items
        raise PickleError("is damaged: it takes more than it has put down")

    def remembered(self, key: int) -> Any:
        if key not in self.memo:
            raise PickleError(f"is damaged: it recalls {key}, which it never noted")
        return self.memo[key]

    def mark(self, _) -> None:
        self.stack.append(_MARK)

    def memoize(self, _) -> None:
        self.memo[len(self.memo)] = self.top()

    def drop(self, _) -> None:
        if not self.stack:
            raise PickleError("is damaged: it takes more than it has put down")
        self.stack.pop()

    def make_tuple(self, _) -> None:
        self.stack.append(tuple(self.items()))

    def make_list(self, _) -> None:
        self.stack.append(self.items())

    def make_dict(self, _) -> None:
        items = self.items()
        self.stack.append({})
        self.set_pairs(items)

    def append(self, _) -> None:
        self.extend([self.pop()])

    def appends(self, _) -> None:
        self.extend(self.items())

    def extend(self, items: list[Any]) -> None:
        if isinstance(self.top(), list):
            self.top().extend(items)
        elif not isinstance(self.top(), Inert):
            raise PickleError("is damaged: it appends to what is no list")

    def set_item(self, _) -> None:
        value = self.pop()
        self.set_pairs([self.pop(), value])

    def set_items(self, _) -> None:
        self.set_pairs(self.items())

    def set_pairs(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, (dict, Inert)) or len(items) % 2:
            raise PickleError("is damaged: it sets items of what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # A nested tuple as key could take for ever to hash.
            if not isinstance(key, (str, bytes, int, float, Inert, type(None))):
                raise PickleError(f"has a {type(key).__name__} as key of a dict")
            if isinstance(target, dict):
                target[key] = value

    def global_(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self.names(module, name))

    def stack_global(self, _) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleError("is damaged: the name of a class is no string")
        self.stack.append(self.names(module, name))

    def call(self, _) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(called(function, arguments))

    def build(self, _) -> None:
        self.pop()
        # The state of a dict, such as `_metadata` of a state dict, is no weight.
        if not isinstance(self.top(), (dict, Inert)):
            raise PickleError(f"sets the state of a {type(self.top()).__name__}")

    def persistent_id(self, _) -> None:
        self.stack.append(self.persistent(self.pop()))

    OPERATIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
        "MARK": mark,
        "MEMOIZE": memoize,
        "POP": drop,
        "TUPLE": make_tuple,
        "LIST": make_list,
        "DICT": make_dict,
        "APPEND": append,
        "APPENDS": appends,
        "ADDITEMS": appends,
        "SETITEM": set_item,
        "SETITEMS": set_items,
        "GLOBAL": global_,
        "STACK_GLOBAL": stack_global,
        "REDUCE": call,
        "NEWOBJ": call,
        "BUILD": build,
        "BINPERSID": persistent_id,
        "STOP": lambda machine, _: None,
    }


def called(function: Any, arguments: Any) -> Any:
    """What a call in a pickle stands for.

    Args:
        function: what the pickle calls.
        arguments: what it calls it with.

    Raises:
        PickleError: if it is nothing to be called, or not with such arguments.

    Example:
    ```python
    called(Inert("pytorch_lightning.Trainer"), ())  # Inert("pytorch_lightning.Trainer")
    ```
    """
    if not isinstance(arguments, tuple):
        raise PickleError("is damaged: arguments are no tuple")
    if isinstance(function, Inert):
        return function
    if not isinstance(function, Builder):
        raise PickleError(f"calls a {type(function).__name__}")
    try:
        return function.build(*arguments)
    except TypeError as error:
        raise PickleError(f"calls {function.name} with wrong arguments") from error
