"""Slices of TPUs by the names that Cloud TPU gives them."""

import dataclasses
import importlib.util
import itertools
import math
import os
import re
from typing import Any

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip as published.

    Arithmetic and memory: docs.cloud.google.com/tpu/docs/ v4, v5e, v5p and v6e. Links:
    jax-ml.github.io/scaling-book/tpus, "ICI BW/link (one-way)". `hbm_gib`: "of
    ...G hbm" in what the compiler says of programs that are too large.
    """

    compiler_name: str  # Of libtpu.
    tflops: float  # Peak of bfloat16 products, 1e12 a second.
    hbm_gib: float  # Memory that programs may use, in 2**30 bytes.
    hbm_gb_per_second: float  # Peak.
    link_gb_per_second: float  # Peak to a neighbour, in one direction.
    axes: int  # Of the torus that the chips make.
    cores_in_name: int  # A chip's cores that the number in a slice's name counts.
    most_chips: int  # Of the largest slice.
    megacore: bool  # Whether two cores work as one device.


CHIPS = {
    "v4": Chip("v4", 275, 30.75, 1200, 45, 3, 2, 4096, True),
    "v5e": Chip("v5e", 197, 15.75, 819, 45, 2, 1, 256, False),
    "v5p": Chip("v5", 459, 95.74, 2765, 90, 3, 2, 6144, True),
    "v6e": Chip("v6e", 918, 31.25, 1600, 90, 2, 1, 256, False),
}
# Without these libtpu asks the cloud where it is, and lets one process in at a time.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v4-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# Chips in 4 x 4 x 4, of which larger slices of v4 and v5p are made.
_CUBE = 64
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

    @property
    def network_gb_per_second(self) -> float:
        """Of a chip's links within the slice together, in one direction.

        Along an axis of two chips each has one link; along a longer one, two.
        """
        links = sum(min(size - 1, 2) for size in self.shape)
        return links * self.chip.link_gb_per_second

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
    chip, number = CHIPS[kind], int(match[2])
    shape = _shape(number // chip.cores_in_name, chip)
    if number % chip.cores_in_name or shape is None:
        sizes = [2**power for power in range(13)]
        valid = [str(n * chip.cores_in_name) for n in sizes if _shape(n, chip)]
        told = ", ".join(valid)
        if chip.axes == 3:
            each, most = (n * chip.cores_in_name for n in (_CUBE, chip.most_chips))
            told += f" and every multiple of {each} to {most}"
        raise ValueError(f"{kind} has slices of {told}. Received: {name!r}")
    return Topology(name, chip, shape)


def _shape(chips: int, chip: Chip) -> tuple[int, ...] | None:
    """Sides of the block that `chips` make, the last the largest."""
    axes = chip.axes
    if chips == 2 or not (4 if axes == 3 else 1) <= chips <= chip.most_chips:
        return None
    if chips & (chips - 1):
        return _cubes(chips) if axes == 3 else None
    power = chips.bit_length() - 1
    if chips == 4:
        return (2, 2, 1)[:axes]
    each, more = divmod(power, axes)
    return tuple(2 ** (each + (axis >= axes - more)) for axis in range(axes))


def _cubes(chips: int) -> tuple[int, ...] | None:
    """Sides of the block nearest to a cube, all multiples of four."""
    cubes, rest = divmod(chips, _CUBE)
    if rest:
        return None
    sides = range(1, cubes + 1)
    blocks = (
        (4 * a, 4 * b, 4 * cubes // (a * b))
        for a, b in itertools.combinations_with_replacement(sides, 2)
        if cubes % (a * b) == 0 and b <= cubes // (a * b)
    )
    return min(blocks, key=max)


def check_compiler() -> None:
    """Make sure that the compiler for TPUs is installed."""
    if importlib.util.find_spec("libtpu") is None:
        problem = "Compiling for TPUs needs libtpu, though no TPU"
        raise ImportError(f"{problem}: pip install 'keras-makeavid[tpu]'")
