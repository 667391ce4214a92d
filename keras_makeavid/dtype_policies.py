"""Dtype policies of a task: what weights are stored in, and what is calculated in."""

import keras

from keras_makeavid.devices import half_precision

__all__ = ["StoredPolicy", "policy_of"]

_STORED = "stored_"


@keras.saving.register_keras_serializable(package="keras_makeavid")
class StoredPolicy(keras.DTypePolicy):
    """Stores weights in half precision and calculates in float32.

    It is the reverse of Keras's `"mixed_bfloat16"`: half the memory of float32 weights,
    for devices that calculate fastest in float32. A layer widens its weights in its
    call. The name is `"stored_bfloat16"` or `"stored_float16"`.

    Example:
    ```python
    layer = keras.layers.Dense(4, dtype=StoredPolicy("stored_bfloat16"))
    ```
    """

    def __init__(self, name: str = "stored_bfloat16"):
        if name not in (f"{_STORED}bfloat16", f"{_STORED}float16"):
            expected = "name must be stored_bfloat16 or stored_float16"
            raise ValueError(f"{expected}. Received: {name!r}")
        super().__init__(name.removeprefix(_STORED))

    @property
    def name(self) -> str:
        return _STORED + super().name

    @property
    def compute_dtype(self) -> str:
        return "float32"


def policy_of(dtype: str | keras.DTypePolicy | None) -> keras.DTypePolicy:
    """The dtype policy that `TextToVideo.from_preset` loads with.

    `dtype` is a policy, or the name of one: of Keras, or of a `StoredPolicy`. `None` is
    `keras.config.dtype_policy()`, or half precision for float32 on an accelerator.
    """
    if dtype is None:
        policy = keras.config.dtype_policy()
        half = half_precision() if policy.name == "float32" else None
        return policy if half is None else keras.DTypePolicy(half)
    if isinstance(dtype, str) and dtype.startswith(_STORED):
        return StoredPolicy(dtype)
    return keras.dtype_policies.get(dtype)


def without_overflow(policy: keras.DTypePolicy) -> keras.DTypePolicy:
    """The policy of VAE and text encoder beside a UNet of `policy`.

    In float16 Stable Diffusion's VAE overflows on some pictures, and JAX on a CPU lacks
    attention: they calculate in float32, from weights that are stored as asked for.
    """
    if policy.compute_dtype != "float16":
        return policy
    if policy.quantization_mode is not None:
        return policy_of(f"{policy.quantization_mode}_from_float32")
    if policy.variable_dtype == "float16":
        return StoredPolicy(f"{_STORED}float16")
    return keras.DTypePolicy(policy.variable_dtype)
