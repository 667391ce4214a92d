"""Training on several devices and hosts: which holds what, and what they tell."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.distribution import DataParallel, DeviceMesh, LayoutMap, TensorLayout

from keras_makeavid.devices import gathered
from keras_makeavid.recipes.schema import Distribution

# The axes of the mesh: copies of the parameters, and the parts of each copy.
COPIES, PARTS = "batch", "fsdp"
# Layers of the UNet with weights of their own; each gives one tensor of samples.
_OUTPUTS = (
    r".*\bunet/(.*/)?"
    r"(\w*norm\w*|\w+_conv|proj_\w+|time_\w+_proj|to_\w+|linear_\d)"
)
_SECONDS_WITHOUT_HEARTBEAT = 30
# A process that has failed waits for the others at its end, and they for it.
_SECONDS_TO_END = 60


def make_distribution(
    options: Distribution, devices: Sequence[Any] | None = None
) -> DataParallel | FullySharded:
    """The distribution that a recipe asks for, of JAX's devices, or of all there are.

    It is a `DataParallel`, or a `FullySharded` where several devices share a copy.
    Those that do not make whole copies, and other backends, are a `ValueError`.

    Example:
    ```python
    distribution = make_distribution(Distribution(fsdp=4))
    with distribution.scope():
        unet = UNetPseudo3D(block_channels=(32, 64), attention_levels=(True, False))
    ```
    """
    check_backend()
    import jax

    # Those of a process next to each other: it reads one run of each batch's samples,
    # and the parts of a copy are close together.
    devices = sorted(
        jax.devices() if devices is None else devices,
        key=lambda device: (device.process_index, device.id),
    )
    parts = min(options.fsdp, len(devices))
    if len(devices) % parts:
        problem = f"distribution.fsdp must divide the number of devices, {len(devices)}"
        raise ValueError(f"{problem}. Received: {options.fsdp}")
    if parts == 1:
        return DataParallel(devices=devices, auto_shard_dataset=False)
    shape = (len(devices) // parts, parts)
    return FullySharded(DeviceMesh(shape, (COPIES, PARTS), devices))


def check_backend() -> None:
    """Make sure that the backend can train on several devices."""
    backend = keras.config.backend()
    if backend != "jax":
        raise ValueError(
            "A recipe with [distribution] trains under JAX: set KERAS_BACKEND=jax, or "
            f"leave the table out. Received: the backend {backend}"
        )


class FullySharded(keras.distribution.ModelParallel):
    """Parameters in parts over one axis of a mesh, samples over all axes.

    Each device computes its own samples with the whole of each layer's parameters,
    gathered for the moment (Rajbhandari et al., 2020, ZeRO-3, also FSDP).
    """

    def __init__(self, device_mesh: DeviceMesh):
        layout_map = LayoutMap(device_mesh)
        layout_map[f"{_OUTPUTS}/output"] = self._samples_layout(device_mesh, 1)
        super().__init__(
            layout_map=layout_map, batch_dim_name=COPIES, auto_shard_dataset=False
        )
        self._keeps_samples_apart = False

    @property
    def num_model_replicas(self) -> int:
        # What Keras divides a batch by: not only the copies, as in its own class.
        return math.prod(self.device_mesh.shape)

    def get_data_layout(self, data_shape) -> TensorLayout:
        return self._samples_layout(self.device_mesh, len(data_shape))

    def get_variable_layout(self, variable) -> TensorLayout:
        # Keras's own goes by the path, and not every width of a model can be divided.
        parts = self.device_mesh.shape[1]
        return TensorLayout(parameter_axes(variable.shape, parts), self.device_mesh)

    def get_tensor_layout(self, path) -> TensorLayout | None:
        return super().get_tensor_layout(path) if self._keeps_samples_apart else None

    @contextmanager
    def samples_apart(self) -> Iterator[None]:
        """Keep outputs of layers divided by samples, as XLA may not, while traced."""
        self._keeps_samples_apart = True
        try:
            yield
        finally:
            self._keeps_samples_apart = False

    @staticmethod
    def _samples_layout(device_mesh, rank):
        from jax.sharding import NamedSharding, PartitionSpec

        layout = TensorLayout((COPIES, *[None] * (rank - 1)), device_mesh)
        # Keras's TensorLayout (keras/src/distribution/distribution_lib.py) takes one
        # axis of the mesh for each of the tensor: this is what it makes of its own.
        spec = PartitionSpec((COPIES, PARTS))
        layout._backend_layout = NamedSharding(device_mesh.backend_mesh, spec)
        return layout


def parameter_axes(shape: Sequence[int], parts: int) -> tuple[str | None, ...]:
    """`PARTS` for the axis by which a parameter is divided, if one can be."""
    rank = len(shape)
    # Input channels first: on a TPU parts of the last axis leave lanes of 128 empty.
    order = sorted(range(rank), key=lambda axis: (axis != rank - 2, -axis))
    divisible = [axis for axis in order if shape[axis] % parts == 0 and rank > 1]
    divided = divisible[0] if divisible else None
    return tuple(PARTS if axis == divided else None for axis in range(rank))


def check_batch_size(batch_size: int, stage: str) -> None:
    """Make sure that the current distribution's devices get equally many samples."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return
    devices = distribution.device_mesh.devices.size
    if batch_size % devices:
        raise ValueError(
            f"stage.{stage}: data.batch_size must be a multiple of the number of "
            f"devices, {devices}. Received: {batch_size}"
        )


class ProcessLost(RuntimeError):
    """Another process of the run has ended, or cannot be reached."""


@dataclass(frozen=True)
class Hosts:
    """This process and its peers, which all call what talks to others, in one order."""

    number: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.number == 0

    def is_process_loss(self, error: BaseException | None) -> bool:
        """Whether an error is what JAX raises when another process is gone."""
        if self.count == 1 or error is None:
            return False
        import jax

        is_jax_s = isinstance(error, jax.errors.JaxRuntimeError)
        return is_jax_s and "RESOURCE_EXHAUSTED" not in str(error)

    def first_does(self, action: Callable[[], Any]) -> None:
        """Let the first process do something; what it raises, all processes raise."""
        if self.count == 1:
            action()
            return
        error = None
        if self.is_first:
            try:
                action()
            except Exception as raised:
                error = raised
        failed = self.any(error is not None)
        if error is not None:
            raise error
        if failed:
            raise RuntimeError("The first process failed: see what it says")

    def any(self, here: bool) -> bool:
        """Whether something is so in any process."""
        if self.count == 1:
            return here
        from jax.experimental import multihost_utils

        return bool(multihost_utils.process_allgather(np.array(here)).any())

    @contextmanager
    def holding(self, variables: Iterable[keras.Variable]) -> Iterator[None]:
        """Bring whole values to the first process's host, for a block that saves.

        In the block no distribution is current: it computes with them alone.
        """
        distribution = keras.distribution.distribution()
        if distribution is None:
            yield
            return
        # Keras's saving (keras/src/saving/saving_lib.py) reads each variable by
        # itself, which fails where parts of it are in other processes.
        kept = [(variable, variable.value, variable._layout) for variable in variables]
        keras.distribution.set_distribution(None)
        try:
            for variable, value, _ in kept:
                whole = gathered(value)
                variable._layout = None
                variable._value = whole if self.is_first else value
            yield
        finally:
            keras.distribution.set_distribution(distribution)
            for variable, value, layout in kept:
                variable._value, variable._layout = value, layout


@contextmanager
def distributed(options: Distribution | None) -> Iterator[Hosts]:
    """Train on the devices that a recipe says, on one if `None`, while a block runs.

    It raises `ProcessLost` when another process is gone. JAX ends one that waits for
    it by SIGABRT, when there has been no heartbeat for half a minute.
    """
    if options is None:
        yield Hosts()
        return
    check_backend()
    import jax

    connect()
    hosts = Hosts(jax.process_index(), jax.process_count())
    with make_distribution(options).scope():
        try:
            yield hosts
        except jax.errors.JaxRuntimeError as error:
            if not hosts.is_process_loss(error):
                raise
            told = str(error).partition("\n")[0]
            raise ProcessLost(
                f"Process {hosts.number} of {hosts.count} has lost another one: it has "
                "ended, or the network has failed. Start all of them again with "
                f"--resume auto. JAX says: {told}"
            ) from error


def connect() -> None:
    """Join the other processes, if there are any, before JAX is at work.

    What Keras's environment (`KERAS_DISTRIBUTION_...`) leaves out JAX finds out itself:
    on Cloud TPU, SLURM, Open MPI.
    """
    import jax

    if jax.distributed.is_initialized():
        return
    addresses, processes, process = told = [
        os.environ.get(f"KERAS_DISTRIBUTION_{name}")
        for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
    ]
    try:
        # As `keras.distribution.initialize`, which has no heartbeat.
        jax.distributed.initialize(
            # Of the addresses of all processes this is the first.
            addresses and addresses.split(",")[0],
            int(processes) if processes else None,
            int(process) if process else None,
            heartbeat_timeout_seconds=_SECONDS_WITHOUT_HEARTBEAT,
            shutdown_timeout_seconds=_SECONDS_TO_END,
        )
    except (ValueError, RuntimeError) as error:
        # Where nobody tells of others, or JAX is at work, it finds no cluster: there is
        # this process alone. Its runtime fails where others do not answer.
        of_runtime = isinstance(error, jax.errors.JaxRuntimeError)
        if any(told) or of_runtime or jax.process_count() > 1:
            raise
    if jax.process_count() > 1:
        # All processes must draw the same weights, also where others replace them.
        keras.utils.set_random_seed(0)
