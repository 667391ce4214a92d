"""Where a program runs, and how its arrays are shared among devices."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.tensor import Tensor

# NVIDIA's compute capability of Ampere.
_BFLOAT16_SINCE = (8, 0)


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


def half_precision() -> str | None:
    """The half precision of the accelerator: bfloat16 if it has it; `None` on a CPU."""
    backend = keras.config.backend()
    if backend == "torch":
        import torch

        device = ops.convert_to_tensor(0.0).device.type
        if device == "cpu":
            return None
        has_it = device == "cuda" and torch.cuda.is_bf16_supported(False)
    elif platform() != "gpu":
        return "bfloat16" if platform() == "tpu" else None
    elif backend == "tensorflow":
        import tensorflow as tf

        device = tf.config.list_physical_devices("GPU")[0]
        details = tf.config.experimental.get_device_details(device)
        has_it = details.get("compute_capability", (0, 0)) >= _BFLOAT16_SINCE
    else:
        import jax

        # Such as "7.5" of NVIDIA; AMD's have names, and all that JAX takes have it.
        capability = str(jax.local_devices()[0].compute_capability)
        numbers = capability.replace(".", "")
        has_it = not numbers.isdecimal() or float(capability) >= _BFLOAT16_SINCE[0]
    return "bfloat16" if has_it else "float16"


@contextlib.contextmanager
def on_device(part: keras.Layer | None, only_now: bool) -> Iterator[None]:
    """Bring the weights of a part to the accelerator, and `only_now` off it after.

    Nothing moves on a CPU, where weights are divided among devices, and under
    TensorFlow, whose variables cannot move.
    """
    if part is None or not only_now or _accelerator() is None:
        yield
        return
    _move(part, to_host=False)
    try:
        yield
    finally:
        _move(part, to_host=True)


def made_on_host(wanted: bool) -> contextlib.AbstractContextManager:
    """Scope in which new weights lie in the host's memory, if `wanted`."""
    if wanted and _accelerator() is not None:
        return keras.device("cpu:0")
    return contextlib.nullcontext()


def _accelerator():
    """The device that weights can be moved to and from, or `None`."""
    backend = keras.config.backend()
    if backend == "torch":
        device = ops.convert_to_tensor(0.0).device
        return None if device.type == "cpu" else device
    if backend != "jax" or keras.distribution.distribution() is not None:
        return None
    import jax

    device = ops.convert_to_tensor(0.0).devices().pop()
    return None if device == jax.local_devices(backend="cpu")[0] else device


def _move(part, to_host):
    device = _accelerator()
    if keras.config.backend() == "torch":
        for variable in part.variables:
            tensor = variable.value
            tensor.data = tensor.data.to("cpu" if to_host else device)
        return
    import jax

    device = jax.local_devices(backend="cpu")[0] if to_host else device
    for variable in part.variables:
        variable.assign(jax.device_put(variable.value, device))


def summed_in_float32(product: Callable[..., Tensor], *arrays: Tensor) -> Tensor:
    """Calculate a product of half precision as accelerators do, rounded once.

    On a CPU without half precision, TensorFlow rounds each partial sum as well, and JAX
    the sum before its bias: the error is twice as large.
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
    """Divide a tensor `(B, ...)` by samples over the devices, if that is equally."""
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
    """Call what XLA cannot divide on each device's share of the batch, under JAX."""
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
    """Bring an array to the host; every process that has parts of it must call this."""
    if keras.config.backend() == "jax" and not value.is_fully_addressable:
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(value, tiled=True)
    return ops.convert_to_numpy(value)
