"""What a compiled program takes of each chip: memory, arithmetic, bytes and time."""

import dataclasses
import re
import time
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
    compute_seconds: float | None = None
    memory_seconds: float | None = None

    @property
    def tflop_in_all(self) -> float | None:
        """Operations of the step, all of them: its time is calculated from these."""
        if self.tflop is None or self.attention_tflop is None:
            return None
        return self.tflop + self.attention_tflop

    @property
    def seconds(self) -> float | None:
        """The longer of the two, which overlap at best."""
        if self.compute_seconds is None or self.memory_seconds is None:
            return None
        return max(self.compute_seconds, self.memory_seconds)


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
    attention = sum(map(int, _KERNEL.findall(compiled.as_text())))
    arguments = memory.argument_size_in_bytes / GIB
    # A donated argument's memory holds a result.
    output = (memory.output_size_in_bytes - memory.alias_size_in_bytes) / GIB
    temporaries = memory.temp_size_in_bytes / GIB
    hbm = arguments + output + temporaries
    moved = cost["bytes accessed"] / 1e9
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
        compute_seconds=cost["flops"] / 1e12 / chip.tflops,
        memory_seconds=moved / chip.hbm_gb_per_second,
    )
