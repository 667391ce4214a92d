"""Memory of a scheduled program, from its text: what is alive at once.

The compiler's own `memory_analysis` comes with machine code, after many times the
minutes that scheduling takes. This is a bound of it from below: buffers are packed as
if nothing ever lay between them.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterator

_ITEM_BYTES = {
    "pred": 1,
    **{f"{kind}{bits}": bits // 8 for kind in "suf" for bits in (8, 16, 32, 64)},
    "bf16": 2,
}
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
_INSTRUCTION = re.compile(r"(ROOT )?(%[\w.\-]+) = (.*)")
_ELEMENT = re.compile(r"index=(\d+)")
_IN_PLACE = re.compile(r"output_to_operand_aliasing=\{(.*?\))\}")
_PAIR = re.compile(r"\{(\d*)\}: \((\d+),")
# Their results are their operands, or parts of them.
_ALIASES = {
    "bitcast",
    "conditional",
    "get-tuple-element",
    "opt-barrier",
    "optimization-barrier",
    "tuple",
    "while",
}
_FIRST_IS_WRITTEN_OVER = {"dynamic-update-slice", "scatter"}


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    operation: str
    operands: list[str]
    attributes: str
    is_root: bool


def memory_of_schedule(program: str) -> tuple[int, int]:
    """Bytes of the arguments, and of all else that is alive at once, on one chip.

    Args:
        program: text of a scheduled HLO module, with layouts. What lies in faster
            memory than the HBM is not counted, and results are taken to lie where
            arguments lay.

    Example:
    ```python
    arguments, temporaries = memory_of_schedule(text)
    ```
    """
    instructions = list(_instructions(program[program.index("ENTRY ") :]))
    buffers = _Buffers(instructions)
    last_use = {}
    for number, instruction in enumerate(instructions):
        for name in (instruction.name, *instruction.operands):
            for buffer in buffers.behind(name):
                last_use[buffer] = number
    results = {b for i in instructions if i.is_root for b in buffers.behind(i.name)}
    ending = defaultdict(list)
    for buffer, number in last_use.items():
        ending[number].append(buffer)
    alive = most = 0
    for number, instruction in enumerate(instructions):
        for buffer in buffers.made_by[instruction.name]:
            if buffer not in results:
                alive += buffers.sizes[buffer]
        most = max(most, alive)
        for buffer in ending[number]:
            if buffer not in results:
                alive -= buffers.sizes[buffer]
    return buffers.arguments, most


class _Buffers:
    """Which buffers there are, and which are behind a name."""

    def __init__(self, instructions: list[_Instruction]):
        self.sizes: dict[str, int] = {}
        self.made_by: dict[str, list[str]] = defaultdict(list)
        self.arguments = 0
        self._aliases: dict[str, list[str]] = {}
        for instruction in instructions:
            self._add(instruction)

    def behind(self, name: str) -> set[str]:
        found, names = set(), [name]
        while names:
            name = names.pop()
            if name in self._aliases:
                names += self._aliases[name]
            elif name in self.made_by:
                found.update(self.made_by[name])
            elif name in self.sizes:
                found.add(name)
        return found

    def _add(self, instruction):
        name, operation = instruction.name, instruction.operation
        operands = instruction.operands
        sizes = [_size(*array) for array in _ARRAY.findall(instruction.shape)]
        if operation == "parameter":
            self.arguments += sum(sizes)
            self._make(name, [0])
        elif operation == "get-tuple-element" and len(self.made_by[operands[0]]) > 1:
            part = _ELEMENT.search(instruction.attributes)[1]
            self._aliases[name] = [f"{operands[0]}#{part}"]
        elif operation in _ALIASES or operation.endswith("-done"):
            self._aliases[name] = operands
        elif operation in _FIRST_IS_WRITTEN_OVER:
            self._aliases[name] = operands[:1]
        elif operation.endswith("-start"):
            # Operands are in the shape too: the new buffer is the second.
            self._make(name, sizes[1:2] if operation != "copy-start" else sizes[:1])
        elif in_place := _IN_PLACE.search(instruction.attributes):
            written = {int(o or 0): int(i) for o, i in _PAIR.findall(in_place[1])}
            if len(written) == len(sizes):
                self._aliases[name] = [operands[i] for i in written.values()]
            else:
                self._make(
                    name, [0 if n in written else s for n, s in enumerate(sizes)]
                )
        else:
            self._make(name, sizes)

    def _make(self, name, sizes):
        names = [f"{name}#{n}" for n in range(len(sizes))]
        self.made_by[name] = names
        self.sizes.update(zip(names, sizes, strict=True))


def _instructions(entry: str) -> Iterator[_Instruction]:
    for line in entry.splitlines()[1:]:
        match = _INSTRUCTION.match(re.sub(r"/\*.*?\*/", "", line.strip()))
        if match is None:
            continue
        root, name, rest = match.groups()
        end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
        shape, call = rest[:end], rest[end:].strip()
        opening = call.index("(")
        closing = _closing(call, opening)
        operands = re.findall(r"%[\w.\-]+", call[opening:closing])
        yield _Instruction(
            name, shape, call[:opening], operands, call[closing + 1 :], bool(root)
        )


def _closing(text: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ValueError(f"No parenthesis closes: {text[:80]!r}")


def _size(kind: str, dimensions: str, layout: str) -> int:
    """Bytes of an array in the HBM, its tiles filled."""
    if kind not in _ITEM_BYTES or re.search(r"S\([1-9]", layout):
        return 0
    sizes = [int(size) for size in dimensions.split(",") if size]
    order = re.match(r"\{([\d,]*)", layout)
    axes = [int(axis) for axis in order[1].split(",") if axis] if order else []
    minor_first = [sizes[axis] for axis in axes] or sizes[::-1]
    if tile := re.search(r"T\(([\d,]+)\)", layout):
        for position, side in enumerate(map(int, reversed(tile[1].split(",")))):
            if position == len(minor_first):
                minor_first.append(1)
            minor_first[position] = -(-minor_first[position] // side) * side
    return math.prod(minor_first) * _ITEM_BYTES[kind]
