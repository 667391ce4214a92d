"""Group and layer normalisation."""

import keras
from keras import ops

from keras_makeavid.devices import platform
from keras_makeavid.layers.operations.activations import silu
from keras_makeavid.tensor import Tensor

# Group means of more standard deviations than these cost PyTorch's norm more than the
# last digit of the variance. A matter of float32 on any CPU, not of a machine.
_TORCH_MOST_DEVIATIONS = 4.0


def group_normalization(
    inputs: Tensor,
    scale: Tensor,
    offset: Tensor,
    groups: int,
    epsilon: float,
    activated: bool = False,
) -> Tensor:
    """Normalise `(B, ..., C)` in groups of channels over all between, in float32.

    Under JAX nothing but `inputs` and the statistics is kept for the gradient.
    """
    if keras.config.backend() == "jax":
        normalise = _group_normalization_jax(groups, epsilon, activated)
        return normalise(*map(ops.convert_to_tensor, (inputs, scale, offset)))
    if keras.config.backend() == "torch":
        outputs = _group_normalization_torch(inputs, scale, offset, groups, epsilon)
    else:
        outputs = _group_normalization_portable(inputs, scale, offset, groups, epsilon)
    return silu(outputs) if activated else outputs


def _group_normalization_jax(groups, epsilon, activated):
    """Group normalisation in as few passes over memory as XLA allows."""
    import jax

    @jax.custom_gradient
    def normalise(inputs, scale, offset):
        x, rank = ops.cast(inputs, "float32"), len(inputs.shape)
        scale32, offset32 = ops.cast(scale, "float32"), ops.cast(offset, "float32")

        def channel_means(values):
            # Axes stay apart: a reshape would cost TPUs a copy into another layout.
            return ops.mean(values, axis=tuple(range(1, rank - 1)))

        def of_groups(per_channel):
            channels = per_channel.shape[-1]
            per_group = ops.reshape(per_channel, (-1, groups, channels // groups))
            mean = ops.mean(per_group, axis=-1, keepdims=True)
            mean = ops.broadcast_to(mean, ops.shape(per_group))
            return ops.reshape(mean, (-1, *[1] * (rank - 2), channels))

        mean = of_groups(channel_means(x))
        if inputs.dtype == "float32":
            # Centring before squaring keeps the last digits.
            variance = of_groups(channel_means(ops.square(x - mean)))
        else:
            # A pass less; half precision has no digits left to lose.
            squares = of_groups(channel_means(ops.square(x)))
            variance = ops.maximum(squares - ops.square(mean), 0.0)
        inverse = ops.rsqrt(variance + epsilon)

        def normalised(inputs):
            return (ops.cast(inputs, "float32") - mean) * inverse

        def before_activation(inputs, upstream):
            x, upstream = normalised(inputs), ops.cast(upstream, "float32")
            if activated:
                z = x * scale32 + offset32
                gate = ops.sigmoid(z)
                upstream = upstream * (gate + z * gate * (1.0 - gate))
            return x, upstream

        def gradient(upstream):
            # Or XLA would keep what the forward pass has calculated in float32.
            x, of_outputs = before_activation(*_apart(inputs, upstream))
            means = channel_means(of_outputs), channel_means(of_outputs * x)
            # Calculating the rest anew moves less than keeping it in float32.
            *arrays, of_offset, of_scale = _apart(inputs, upstream, *means)
            x, upstream = before_activation(*arrays)
            shift = of_groups(of_offset * scale32) + x * of_groups(of_scale * scale32)
            of_inputs = (upstream * scale32 - shift) * inverse
            count = ops.size(inputs) // (inputs.shape[0] * inputs.shape[-1])
            return (
                ops.cast(of_inputs, inputs.dtype),
                ops.cast(ops.sum(of_scale, axis=0) * count, scale.dtype),
                ops.cast(ops.sum(of_offset, axis=0) * count, offset.dtype),
            )

        outputs = normalised(inputs) * scale32 + offset32
        outputs = ops.silu(outputs) if activated else outputs
        (outputs,) = _apart(ops.cast(outputs, inputs.dtype))
        return outputs, gradient

    return normalise


def _apart(*tensors):
    """Keep XLA from merging what makes tensors with what uses them, on a TPU.

    There it would put an activation into a convolution, and keep its float32 input.
    """
    if platform() != "tpu":
        return tensors
    import jax

    return jax.lax.optimization_barrier(tensors)


def _group_normalization_portable(inputs, scale, offset, groups, epsilon):
    # Sums over positions first, then over the few channels of a group: the
    # reduction keeps the memory order, and centring before squaring keeps the
    # last digits that E[x^2] - E[x]^2 would lose.
    shape = ops.shape(inputs)
    channels = inputs.shape[-1]
    x = ops.reshape(ops.cast(inputs, "float32"), (shape[0], -1, channels))
    scale, offset = ops.cast(scale, "float32"), ops.cast(offset, "float32")

    def group_mean(values):
        per_channel = ops.mean(values, axis=1)
        per_group = ops.reshape(per_channel, (-1, groups, channels // groups))
        mean = ops.mean(per_group, axis=-1, keepdims=True)
        mean = ops.broadcast_to(mean, ops.shape(per_group))
        return ops.reshape(mean, (-1, 1, channels))

    centred = x - group_mean(x)
    variance = group_mean(ops.square(centred))
    outputs = centred * (ops.rsqrt(variance + epsilon) * scale) + offset
    return ops.cast(ops.reshape(outputs, shape), inputs.dtype)


def _group_normalization_torch(inputs, scale, offset, groups, epsilon):
    import torch

    inputs, scale, offset = map(ops.convert_to_tensor, (inputs, scale, offset))
    trains = torch.is_grad_enabled() and scale.requires_grad
    if torch.jit.is_tracing() or (trains and not inputs.requires_grad):
        # A traced program cannot choose by what it computes. And where nothing before
        # it trains, torch 2.13 crashes in some memory orders.
        return _group_normalization_portable(inputs, scale, offset, groups, epsilon)
    batch, channels = inputs.shape[0], inputs.shape[-1]
    # Rank 4 with channels second: the layout torch's channels_last kernel takes.
    x = inputs.float().reshape(batch, -1, inputs.shape[-2], channels)
    x = x.permute(0, 3, 1, 2)

    def normalise(x):
        factors = scale.float(), offset.float()
        sizes = *x.shape[:2], x[0, 0].numel()
        return torch.native_group_norm(x, *factors, *sizes, groups, epsilon)

    outputs, mean, inverse_deviation = normalise(x)
    if _is_far_from_zero(mean, inverse_deviation):
        # The norm does not depend on the mean: nor does the gradient.
        with torch.no_grad():
            mean = mean.repeat_interleave(channels // groups, 1)[..., None, None]
        outputs, _, _ = normalise(x - mean)
    return outputs.permute(0, 2, 3, 1).reshape(inputs.shape).to(inputs.dtype)


def _is_far_from_zero(mean, inverse_deviation) -> bool:
    """Whether torch's kernel on a CPU loses digits: it takes E[x^2] - E[x]^2."""
    if mean.device.type != "cpu":
        return False
    return bool(((mean * inverse_deviation).abs() > _TORCH_MOST_DEVIATIONS).any())


def layer_normalization(
    inputs: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> Tensor:
    """Normalise over the last axis, in float32 whatever the dtype of `inputs`."""
    if keras.config.backend() == "torch":
        import torch

        # There is no ONNX of torch's norm where sizes are open.
        if not torch.jit.is_tracing():
            return ops.layer_normalization(inputs, scale, offset, epsilon=epsilon)
    return _layer_normalization_portable(inputs, scale, offset, epsilon)


def _layer_normalization_portable(inputs, scale, offset, epsilon):
    # Keras's own takes it from the products: more for XLA to compile, and less exact.
    x = ops.cast(inputs, "float32")
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    scale, offset = ops.cast(scale, "float32"), ops.cast(offset, "float32")
    outputs = centred * ops.rsqrt(variance + epsilon) * scale + offset
    return ops.cast(outputs, inputs.dtype)
