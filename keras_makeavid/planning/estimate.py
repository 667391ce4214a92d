"""What a compiled program takes of each chip: memory, arithmetic, bytes and time."""

import dataclasses
import math
import re
import time
from collections import Counter
from typing import Any

from keras_makeavid.planning.topology import GIB, Topology

# Of a program that is too large; the second of its temporaries alone.
_USED = (
    re.compile(r"Used ([\d.]+)([KMGT]) of [\d.]+[KMGT] hbm"),
    re.compile(r"required for HLO temporaries \(([\d.]+)([KMGT])\) exceeds"),
)
# What a kernel says of itself, for the compiler cannot look into it.
_KERNEL = re.compile(r'"cost_estimate":\{"flops":"(\d+)"')
_UNITS = {"K": 2.0**-20, "M": 2.0**-10, "G": 1.0, "T": 2.0**10}

_BITS = {"pred": 8, "bf16": 16}
_KINDS = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"),
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


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A program on each chip. All but the memory is `None` if it does not compile.

    Memory is in 2**30 bytes, the rest in 1e12 operations, 1e9 bytes, seconds at peak.
    """

    fits: bool  # Whether its memory is enough.
    hbm_gib: float  # Of the next three, or what the compiler gave up at.
    compile_seconds: float  # To compile it, or to load what was compiled before.
    arguments_gib: float | None = None  # State and batch.
    output_gib: float | None = None  # Results that are not written over arguments.
    temporaries_gib: float | None = None  # All else that is alive at once.
    # Outside attention's kernels. Of attention as a loop over chunks the compiler
    # counts the body once: this is the number to compare.
    tflop: float | None = None
    attention_tflop: float | None = None  # What its kernels tell of themselves.
    gb_moved: float | None = None  # What its operations read and write.
    collective_gb: dict[str, float] | None = None  # Sent to other chips, by kind.
    compute_seconds: float | None = None
    memory_seconds: float | None = None
    network_seconds: float | None = None

    @property
    def tflop_in_all(self) -> float | None:
        """Operations of the step, all of them: its time is calculated from these."""
        if self.tflop is None or self.attention_tflop is None:
            return None
        return self.tflop + self.attention_tflop

    @property
    def seconds(self) -> float | None:
        """The longest of the three, which overlap at best."""
        bounds = (self.compute_seconds, self.memory_seconds, self.network_seconds)
        return max((bound for bound in bounds if bound is not None), default=None)


def compile_and_estimate(lowered: Any, topology: Topology) -> Estimate:
    """Compile a program, or find that it needs more memory than there is."""
    import jax

    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        found = (pattern.search(str(error)) for pattern in _USED)
        used = next(filter(None, found), None)
        if "RESOURCE_EXHAUSTED" not in str(error) or used is None:
            raise
        hbm = float(used[1]) * _UNITS[used[2]]
        return Estimate(False, hbm, time.perf_counter() - start)
    return _estimate(compiled, topology, time.perf_counter() - start)


def _estimate(compiled, topology, compile_seconds) -> Estimate:
    chip = topology.chip
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    program = compiled.as_text()
    attention = sum(map(int, _KERNEL.findall(program)))
    sent = collective_bytes(program)
    arguments = memory.argument_size_in_bytes / GIB
    # A donated argument's memory holds a result.
    output = (memory.output_size_in_bytes - memory.alias_size_in_bytes) / GIB
    temporaries = memory.temp_size_in_bytes / GIB
    hbm = arguments + output + temporaries
    moved, network = cost["bytes accessed"] / 1e9, topology.network_gb_per_second
    # One chip has no links, and sends nothing.
    gb_sent = sum(sent.values()) / 1e9
    return Estimate(
        fits=hbm <= chip.hbm_gib,
        hbm_gib=hbm,
        compile_seconds=compile_seconds,
        arguments_gib=arguments,
        output_gib=output,
        temporaries_gib=temporaries,
        # The compiler takes a kernel's word for its operations.
        tflop=(cost["flops"] - attention) / 1e12,
        attention_tflop=attention / 1e12,
        gb_moved=moved,
        collective_gb={kind: count / 1e9 for kind, count in sent.items()},
        compute_seconds=cost["flops"] / 1e12 / chip.tflops,
        memory_seconds=moved / chip.hbm_gb_per_second,
        network_seconds=gb_sent / network if gb_sent else 0.0,
    )


def collective_bytes(program: str) -> dict[str, int]:
    """Bytes that each chip sends, by the kind of collective, of HLO text for one chip.

    In a ring of n chips one that gathers or scatters x bytes sends x (n - 1) / n, and
    one that reduces them twice as much.
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
