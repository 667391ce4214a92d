"""Which device holds what: this model's layout for `keras.distribution`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras.distribution import DataParallel, DeviceMesh, LayoutMap, TensorLayout

from keras_makeavid.recipes.schema import Distribution

# The axes of the mesh: copies of the parameters, and the parts of each copy.
COPIES, PARTS = "batch", "fsdp"
# Layers of the UNet with weights of their own; each gives one tensor of samples.
_OUTPUTS = (
    r".*\bunet/(.*/)?"
    r"(\w*norm\w*|\w+_conv|proj_\w+|time_\w+_proj|to_\w+|linear_\d)"
)


def make_distribution(
    options: Distribution, devices: Sequence[Any] | None = None
) -> DataParallel | FullySharded:
    """The distribution that a recipe asks for.

    Args:
        options: The recipe's table.
        devices: JAX's, of all processes, or those of a topology that is not there;
            `None` takes all there are.

    Returns:
        A `DataParallel`, or a `FullySharded` where several devices share a copy.

    Raises:
        ValueError: If the devices do not make whole copies, or under another backend
            than JAX.

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
        raise ValueError(
            f"distribution.fsdp must divide the number of devices, {len(devices)}. "
            f"Received: {options.fsdp}"
        )
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

    Optimizer state and averages lie as their parameters do. Each device computes its
    own samples with the whole of each layer's parameters, which are gathered for the
    moment (Rajbhandari et al., 2020, ZeRO-3, also FSDP).
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

    @contextlib.contextmanager
    def samples_apart(self) -> Iterator[None]:
        """Keep the outputs of the UNet's layers divided by samples, while traced.

        Otherwise XLA may as well divide them by channels, as the kernels are.
        """
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
    """By which axis a parameter is divided: `PARTS` for that one, `None` for others.

    The input channels of kernels before the output channels: on a TPU the last axis
    lies in lanes of 128, which parts of it would leave empty. Biases, norms and what
    no axis divides stay whole.
    """
    rank = len(shape)
    order = sorted(range(rank), key=lambda axis: (axis != rank - 2, -axis))
    divided = next((axis for axis in order if shape[axis] % parts == 0), None)
    if rank < 2:
        divided = None
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
