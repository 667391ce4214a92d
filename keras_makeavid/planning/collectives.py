"""What a compiled program sends from chip to chip, from its text."""

from __future__ import annotations

import math
import re
from collections import Counter

_BITS = {"pred": 8, "bf16": 16}
_KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
_OPERATION = re.compile(
    r"^\s*(?:ROOT )?%?[\w.\-]+ = (?P<shape>.*?) "
    rf"(?P<kind>{'|'.join(_KINDS)})(?P<start>-start)?\("
)
_ARRAY = re.compile(r"\b([a-z]+\d*)\w*\[([\d,]*)\]")
# Devices in a group: listed, counted, or those along axes of a mesh or parts of them.
_LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_COUNTED = re.compile(r"replica_groups=\[\d+,(\d+)\]")
_AXES = re.compile(r"replica_groups=\S*mesh\[([^\]]*)\]\s*\{([^}]*)\}")
_AXIS = re.compile(r"'(\w+)'(?::\(\d+\)(\d+))?")
_ALL = re.compile(r"num_partitions=(\d+)")


def collective_bytes(program: str) -> dict[str, int]:
    """Bytes that each chip sends, by the kind of collective, of HLO text for one chip.

    In a ring of n chips one that gathers or scatters the whole of x bytes sends
    x (n - 1) / n, and one that reduces them twice as much.
    """
    sent: Counter[str] = Counter()
    found = _ALL.search(program)
    devices = int(found[1]) if found else 1
    for line in program.splitlines():
        match = _OPERATION.match(line)
        if match is None:
            continue
        kind, arrays = match["kind"], _sizes(match["shape"])
        # Of one that starts, operands and results are both in the shape.
        result = max(arrays) if match["start"] and kind != "all-reduce" else sum(arrays)
        sent[kind] += _sent(kind, result, _group_size(line, devices))
    return {kind: round(count) for kind, count in sent.items()}


def _sizes(shape):
    return [
        _bits(name) // 8 * math.prod(int(n) for n in sizes.split(",") if n)
        for name, sizes in _ARRAY.findall(shape)
    ]


def _bits(name):
    return _BITS.get(name) or int(re.sub(r"\D", "", name))


def _group_size(line, devices):
    if match := _LISTED.search(line):
        return len(match[1].split(","))
    if match := _COUNTED.search(line):
        return int(match[1])
    if match := _AXES.search(line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        axes = _AXIS.findall(match[2])
        return math.prod(int(part or sizes[name]) for name, part in axes)
    return devices


def _sent(kind, result, group):
    if kind == "collective-permute":
        return result
    if group < 2:
        return 0
    share = (group - 1) / group
    factor = {"all-reduce": 2, "reduce-scatter": group}.get(kind, 1)
    return factor * result * share
