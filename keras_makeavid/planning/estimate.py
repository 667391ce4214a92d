"""What a compiled program takes of each chip: memory, arithmetic, bytes and time."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

from keras_makeavid.planning.collectives import collective_bytes
from keras_makeavid.planning.liveness import memory_of_schedule
from keras_makeavid.planning.schedule import Scheduler, cost_of_schedule
from keras_makeavid.planning.topology import GIB, Topology

# Of a program that is too large; the second of its temporaries alone.
_USED = (
    re.compile(r"Used ([\d.]+)([KMGT]) of [\d.]+[KMGT] hbm"),
    re.compile(r"required for HLO temporaries \(([\d.]+)([KMGT])\) exceeds"),
)
# What a kernel says of itself, for the compiler cannot look into it.
_KERNEL = re.compile(r'"cost_estimate":\{"flops":"(\d+)"')
_UNITS = {"K": 2.0**-20, "M": 2.0**-10, "G": 1.0, "T": 2.0**10}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A program on each chip. All but the memory is `None` if it does not compile.

    Args:
        fits: whether its memory is enough.
        hbm_gib: memory in 2**30 bytes, of arguments, results beside them, and
            temporaries; alone of all where the compiler gave up.
        arguments_gib: state and batch.
        output_gib: results that are not written over arguments.
        temporaries_gib: all else that is alive at once.
        tflop: operations outside attention's kernels, 1e12. Of attention as a loop over
            chunks the compiler counts the body once: this is the number to compare.
        attention_tflop: those that the kernels of attention tell of themselves.
        gb_moved: bytes that its operations read and write, 1e9.
        collective_gb: bytes that it sends to other chips, 1e9, by kind.
        compute_seconds: of its arithmetic at the peak.
        memory_seconds: of its bytes at the peak.
        network_seconds: of its collectives at the peak.
        compile_seconds: that the compiler took, or loading what it had compiled.
        is_of_schedule: whether the program was scheduled and not compiled to its end:
            then its temporaries are a bound from below, and its bytes without padding.
    """

    fits: bool
    hbm_gib: float
    compile_seconds: float
    arguments_gib: float | None = None
    output_gib: float | None = None
    temporaries_gib: float | None = None
    tflop: float | None = None
    attention_tflop: float | None = None
    gb_moved: float | None = None
    collective_gb: dict[str, float] | None = None
    compute_seconds: float | None = None
    memory_seconds: float | None = None
    network_seconds: float | None = None
    is_of_schedule: bool = False

    @property
    def tflop_in_all(self) -> float | None:
        """Operations of the step, all of them: its time is calculated from these."""
        return None if self.tflop is None else self.tflop + self.attention_tflop

    @property
    def seconds(self) -> float | None:
        """The longest of the three, which overlap at best."""
        if self.tflop is None:
            return None
        return max(self.compute_seconds, self.memory_seconds, self.network_seconds)


def compile_and_estimate(
    lowered: Any, topology: Topology, scheduler: Scheduler | None = None
) -> Estimate:
    """Compile a program, or find that it needs more memory than there is.

    Args:
        lowered: a `jax.stages.Lowered` for a topology's devices.
        topology: that it is for.
        scheduler: with which it is only scheduled.
    """
    import jax

    start = time.perf_counter()
    try:
        if scheduler is None:
            text, compiled = None, lowered.compile()
        else:
            text, compiled = scheduler.schedule(lowered)
    except jax.errors.JaxRuntimeError as error:
        found = (pattern.search(str(error)) for pattern in _USED)
        used = next(filter(None, found), None)
        if "RESOURCE_EXHAUSTED" not in str(error) or used is None:
            raise
        hbm = float(used[1]) * _UNITS[used[2]]
        return Estimate(False, hbm, time.perf_counter() - start)
    seconds = time.perf_counter() - start
    if text is not None:
        return estimate_of_schedule(text, topology, seconds)
    return estimate(compiled, topology, seconds)


def estimate(
    compiled: Any, topology: Topology, compile_seconds: float = 0.0
) -> Estimate:
    """What a compiled program takes, by the compiler's own analysis.

    Args:
        compiled: a `jax.stages.Compiled`.
        topology: that it is for.
        compile_seconds: to be reported.
    """
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    program = compiled.as_text()
    # The compiler takes a kernel's word for its operations.
    operations = cost["flops"] - _kernel_operations(program)
    return _estimate(
        program,
        topology,
        (
            memory.argument_size_in_bytes,
            # A donated argument's memory holds a result.
            memory.output_size_in_bytes - memory.alias_size_in_bytes,
            memory.temp_size_in_bytes,
        ),
        operations,
        cost["bytes accessed"],
        compile_seconds=compile_seconds,
    )


def estimate_of_schedule(
    program: str, topology: Topology, compile_seconds: float = 0.0
) -> Estimate:
    """What a scheduled program takes, by its text.

    Args:
        program: text of a scheduled HLO module.
        topology: that it is for.
        compile_seconds: to be reported.
    """
    arguments, temporaries = memory_of_schedule(program)
    cost = cost_of_schedule(program)
    return _estimate(
        program,
        topology,
        (arguments, 0, temporaries),
        cost["flops"],
        cost["bytes accessed"],
        compile_seconds=compile_seconds,
        is_of_schedule=True,
    )


def _estimate(program, topology, memory, operations, moved, **facts):
    chip = topology.chip
    arguments, output, temporaries = (size / GIB for size in memory)
    attention = _kernel_operations(program)
    sent = collective_bytes(program)
    hbm = arguments + output + temporaries
    return Estimate(
        fits=hbm <= chip.hbm_gib,
        hbm_gib=hbm,
        arguments_gib=arguments,
        output_gib=output,
        temporaries_gib=temporaries,
        tflop=operations / 1e12,
        attention_tflop=attention / 1e12,
        gb_moved=moved / 1e9,
        collective_gb={kind: count / 1e9 for kind, count in sent.items()},
        compute_seconds=(operations + attention) / 1e12 / chip.tflops,
        memory_seconds=moved / 1e9 / chip.hbm_gb_per_second,
        network_seconds=_network_seconds(sum(sent.values()), topology),
        **facts,
    )


def _kernel_operations(program: str) -> int:
    return sum(map(int, _KERNEL.findall(program)))


def _network_seconds(sent: int, topology: Topology) -> float:
    # One chip has no links, and sends nothing.
    return sent / 1e9 / topology.network_gb_per_second if sent else 0.0
