"""Where a program runs, and how its arrays are shared among devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.tensor import Tensor


def platform() -> str:
    """Tell where the program will run: on `"cpu"`, `"gpu"` or `"tpu"`."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return "gpu" if tf.config.list_logical_devices("GPU") else "cpu"
    import jax

    distribution = keras.distribution.distribution()
    if distribution is None:
        return jax.default_backend()
    # The program may be compiled here for devices that are elsewhere.
    return distribution.device_mesh.backend_mesh.devices.flat[0].platform


def summed_in_float32(product: Callable[..., Tensor], *arrays: Tensor) -> Tensor:
    """Calculate a product of half precision as accelerators do, rounded once.

    On a CPU without instructions for half precision, TensorFlow rounds each partial
    sum as well, and JAX the sum before its bias: the error is twice as large.
    """
    dtype = keras.backend.standardize_dtype(arrays[0].dtype)
    if dtype not in ("bfloat16", "float16") or platform() != "cpu":
        return product(*arrays)
    return ops.cast(product(*(ops.cast(x, "float32") for x in arrays)), dtype)


def is_shared_equally(batch: int | None, *sizes: int | None) -> bool:
    """Tell whether sizes are known, and every device gets as much of the batch."""
    # While a graph is traced symbolically, a size is `None` or an expression.
    if not all(isinstance(size, int) for size in (batch, *sizes)):
        return False
    distribution = keras.distribution.distribution()
    return distribution is None or batch % distribution.device_mesh.devices.size == 0


def shard_batch(x: Tensor) -> Tensor:
    """Divide a tensor `(B, ...)` by samples over the devices of the distribution.

    It stays as it is where the devices would not get equally many samples.
    """
    distribution = keras.distribution.distribution()
    if distribution is None or not is_shared_equally(x.shape[0]):
        return x
    layout = distribution.get_data_layout(x.shape)
    return keras.distribution.distribute_tensor(x, layout)


def replicated(x: Tensor) -> Tensor:
    """Give all devices the whole tensor, so that every process can read it."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return x
    axes = [None] * len(x.shape)
    layout = keras.distribution.TensorLayout(axes, distribution.device_mesh)
    return keras.distribution.distribute_tensor(x, layout)


def shard_mapped(function: Callable[..., Tensor], *arrays: Tensor) -> Tensor:
    """Call a function that XLA cannot divide on each device's share of the batch.

    Under JAX; the batch is the first axis of every array.
    """
    import jax

    distribution = keras.distribution.distribution()
    if distribution is None:
        return function(*arrays)
    spec = distribution.get_data_layout(arrays[0].shape).backend_layout.spec
    batch = jax.sharding.PartitionSpec(spec[0])
    return jax.shard_map(
        function,
        mesh=distribution.device_mesh.backend_mesh,
        in_specs=batch,
        out_specs=batch,
        check_vma=False,
    )(*arrays)


def gathered(value: Any) -> np.ndarray:
    """Bring an array together on the host, from all devices of all processes.

    Where parts are in other processes, each of them must call this.
    """
    if keras.config.backend() == "jax" and not (
        value.is_fully_addressable or value.is_fully_replicated
    ):
        import jax
        from jax.sharding import NamedSharding, PartitionSpec

        whole = NamedSharding(value.sharding.mesh, PartitionSpec())
        value = jax.jit(_same, out_shardings=whole)(value)
    return keras.ops.convert_to_numpy(value)


def _same(value):
    return value
