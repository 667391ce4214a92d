"""Slices of TPUs by the names that Cloud TPU gives them."""

import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip as published.

    Arithmetic and memory: docs.cloud.google.com/tpu/docs/ v4, v5e, v5p and v6e.
    `hbm_gib`: "of ...G hbm" in what the compiler says of programs that are too large.
    """

    compiler_name: str  # Of libtpu.
    tflops: float  # Peak of bfloat16 products, 1e12 a second.
    hbm_gib: float  # Memory that programs may use, in 2**30 bytes.
    hbm_gb_per_second: float  # Peak.
    axes: int  # Of the torus that the chips make.
    cores_in_name: int  # A chip's cores that the number in a slice's name counts.
    most_chips: int  # Of the largest slice.
    megacore: bool  # Whether two cores work as one device.


CHIPS = {
    "v4": Chip("v4", 275, 30.75, 1200, 3, 2, 4096, True),
    "v5e": Chip("v5e", 197, 15.75, 819, 2, 1, 256, False),
    "v5p": Chip("v5", 459, 95.74, 2765, 3, 2, 6144, True),
    "v6e": Chip("v6e", 918, 31.25, 1600, 2, 1, 256, False),
}
# Without these libtpu asks the cloud where it is, and lets one process in at a time.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v4-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_NAME = re.compile(r"(v\d\w?|v5litepod)-(\d+)")


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice of TPUs: its name, the chip, and the chips along each axis.

    Example:
    ```python
    find_topology("v4-32").shape  # (2, 2, 4)
    ```
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """How many there are; each is one device."""
        return math.prod(self.shape)

    def devices(self) -> list[Any]:
        """Its devices, for the compiler alone: nothing can run on them."""
        check_compiler()
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import jax
        from jax.experimental import topologies

        # Or it would start whatever TPU there is.
        jax.config.update("jax_platforms", "cpu")
        # A host has a 2 x 2 square of chips, where there are so many.
        host = [min(size, 2) for size in self.shape[:2]]
        description = topologies.get_topology_desc(
            platform="tpu",
            topology_name=f"{self.chip.compiler_name}:{'x'.join(map(str, self.shape))}",
            chip_config_name="megacore" if self.chip.megacore else "default",
            chips_per_host_bounds=(*host, 1),
        )
        return list(description.devices)


def find_topology(name: str) -> Topology:
    """The slice of a name of Cloud TPU: the chip and a number.

    That is of cores for v4 and v5p, of chips for v5e and v6e; or a `ValueError`.

    Example:
    ```python
    find_topology("v5e-16").chips  # 16
    ```
    """
    match = _NAME.fullmatch(name)
    kind = match[1].replace("v5litepod", "v5e") if match else None
    if match is None or kind not in CHIPS:
        expected = f"A topology is one of {', '.join(CHIPS)} and a number, such as v4-8"
        raise ValueError(f"{expected}. Received: {name!r}")
    chip = CHIPS[kind]
    shapes = _shapes(chip)
    shape = shapes.get(int(match[2]))
    if shape is None:
        told = ", ".join(map(str, shapes))
        raise ValueError(f"{kind} has slices of {told} to plan. Received: {name!r}")
    return Topology(name, chip, shape)


def _shapes(chip: Chip) -> dict[int, tuple[int, ...]]:
    """Sides of blocks, the last the largest, by the numbers in their names."""
    shapes = {}
    for power in (0, *range(2, 13)):
        if 2**power > chip.most_chips or (power == 0 and chip.axes == 3):
            continue
        each, more = divmod(power, chip.axes)
        sides = tuple(2 ** (each + (n >= chip.axes - more)) for n in range(chip.axes))
        # Of four chips the third axis is the short one.
        sides = (2, 2, 1) if sides == (1, 2, 2) else sides
        shapes[2**power * chip.cores_in_name] = sides
    return shapes


def check_compiler() -> None:
    """Make sure that the compiler for TPUs is installed."""
    if importlib.util.find_spec("libtpu") is None:
        problem = "Compiling for TPUs needs libtpu, though no TPU"
        raise ImportError(f"{problem}: pip install 'keras-makeavid[tpu]'")
