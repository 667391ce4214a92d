"""SiLU, and the gated GELU of a feed-forward."""

import functools

import keras
from keras import ops

from keras_makeavid.tensor import Tensor

# Gated numbers whose float32 copies stay in a core's cache: 2 MB. On two cores of an
# x86-64 server (AMD EPYC), PyTorch 2.13.
_TORCH_GATED_AT_ONCE = 1 << 19


def silu(x: Tensor) -> Tensor:
    """Apply SiLU, in float32 whatever the dtype: half precision is rounded once."""
    if keras.config.backend() == "torch":
        # Its own does so, without a float32 copy.
        return ops.silu(x)
    return _silu_portable(x)


def _silu_portable(x):
    return ops.cast(ops.silu(ops.cast(x, "float32")), x.dtype)


def gated_gelu(inputs: Tensor, approximate: bool) -> Tensor:
    """Calculate `value * gelu(gate)` of `(..., 2 C)`, in float32 whatever the dtype.

    `approximate` is the tanh form. Under JAX, and under PyTorch on a CPU, nothing but
    `inputs` is kept for the gradient: the rest is many times as large.
    """
    gated = functools.partial(_gated_gelu_portable, approximate=approximate)
    if keras.config.backend() == "jax":
        return keras.remat(gated)(inputs)
    if keras.config.backend() == "torch":
        import torch

        inputs = ops.convert_to_tensor(inputs)
        # A trace loses what is written in place.
        if inputs.device.type == "cpu" and not torch.jit.is_tracing():
            return _gated_gelu_torch()(inputs, approximate)
    return gated(inputs)


def _gated_gelu_portable(inputs, approximate):
    value, gate = ops.split(inputs, 2, axis=-1)
    gate = ops.gelu(ops.cast(gate, "float32"), approximate=approximate)
    return ops.cast(ops.cast(value, "float32") * gate, inputs.dtype)


@functools.cache
def _gated_gelu_torch():
    """The portable form by runs of tokens, whose float32 copies stay in the cache."""
    import torch
    from torch.nn.functional import gelu

    def runs(*tensors):
        size = max(1, _TORCH_GATED_AT_ONCE // tensors[0].shape[-1])
        return zip(*(x.split(size) for x in tensors), strict=True)

    class GatedGelu(torch.autograd.Function):
        @staticmethod
        def forward(context, inputs, approximate):
            context.save_for_backward(inputs)
            context.approximate = "tanh" if approximate else "none"
            channels = inputs.shape[-1] // 2
            flat = inputs.reshape(-1, 2 * channels)
            outputs = flat.new_empty((flat.shape[0], channels))
            for x, out in runs(flat, outputs):
                value, gate = x.float().split(channels, dim=1)
                gate = gelu(gate, approximate=context.approximate)
                torch.mul(value, gate, out=out)
            return outputs.view(*inputs.shape[:-1], channels)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context, upstream):
            (inputs,) = context.saved_tensors
            channels = inputs.shape[-1] // 2
            flat = inputs.reshape(-1, 2 * channels)
            gradients = torch.empty_like(flat)
            for x, up, out in runs(flat, upstream.reshape(-1, channels), gradients):
                value, gate = x.float().split(channels, dim=1)
                up = up.float()
                out[:, :channels] = up * gelu(gate, approximate=context.approximate)
                out[:, channels:] = torch.ops.aten.gelu_backward(
                    up * value, gate, approximate=context.approximate
                )
            return gradients.view(inputs.shape), None

    return GatedGelu.apply
