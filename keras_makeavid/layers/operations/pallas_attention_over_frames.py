"""Attention between frames as a fused TPU kernel, pixels last."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from keras_makeavid.layers.operations.pallas_attention import LANES, parallel

# Float32 of one array of frames of a program: with the gradient's nine arrays, and the
# next program's, they fit the 16 MB of fast memory of v4, v5e, v5p and v6e, as their
# compiler says (tests/keras_makeavid/planning/test_kernels.py).
_FRAME_BYTES = 2**20


def pixels_per_program(frames: int, width: int, pixels: int) -> int | None:
    """Find how many pixels a program takes; `None` if no division fits the kernel.

    `width` is the channels of a head, `pixels` are those of a frame.
    """
    most = max(LANES, _FRAME_BYTES // (4 * frames * width) // LANES * LANES)
    # Fewer pixels than lanes take as much.
    if 4 * frames * width * most > 2 * _FRAME_BYTES:
        return None
    if pixels <= LANES:
        return pixels
    sizes = range(most, 0, -LANES)
    return next((size for size in sizes if pixels % size == 0), None)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def attention_over_frames(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    heads: int,
    interpret: bool = False,
) -> jax.Array:
    """Let each pixel's frames attend to one another, pixels last: `(B, F, C, N)`.

    So few scores a pixel fill no matrix unit: they are sums of products of vectors.
    `heads` divides C; `interpret` runs the kernel without a TPU.
    """
    return _over_frames(
        _frames_forward_kernel, 2, 1, (query, key, value), heads, interpret
    )[0]


def _frames_forward(query, key, value, heads, interpret):
    output = attention_over_frames(query, key, value, heads, interpret)
    return output, (query, key, value)


def _frames_backward(heads, interpret, kept, upstream):
    arrays = (*kept, upstream)
    return _over_frames(_frames_backward_kernel, 5, 3, arrays, heads, interpret)


attention_over_frames.defvjp(_frames_forward, _frames_backward)


def _over_frames(kernel, products, outputs, arrays, heads, interpret):
    batch, frames, channels, pixels = arrays[0].shape
    width = channels // heads
    size = pixels_per_program(frames, width, pixels)
    # Wide heads of many frames leave no room for the next program's arrays.
    crowded = 4 * frames * width * max(size, LANES) > _FRAME_BYTES
    block = pl.BlockSpec(
        (None, frames, width, size),
        lambda n, head, run: (n, 0, head, run),
        pipeline_mode=pl.Buffered(1) if crowded else None,
    )
    like = jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)
    scores = batch * heads * frames * frames * pixels
    sums = [pltpu.VMEM((frames, width, size), jnp.float32)] * (outputs - 1)
    moved = sum(x.size * x.dtype.itemsize for x in (*arrays, *[like] * outputs))
    return pl.pallas_call(
        functools.partial(kernel, scale=width**-0.5),
        grid=(batch, heads, pixels // size),
        in_specs=[block] * len(arrays),
        out_specs=[block] * outputs,
        out_shape=[like] * outputs,
        scratch_shapes=sums,
        compiler_params=parallel(3),
        cost_estimate=pl.CostEstimate(
            flops=2 * products * scores * width,
            transcendentals=scores,
            bytes_accessed=moved,
        ),
        interpret=interpret,
        name=kernel.__name__.strip("_"),
    )(*arrays)


def _weights_of_frames(query, key, scale):
    """Softmax `(F, N)` of one frame's query `(D, N)` against the keys `(F, D, N)`."""
    scores = jnp.sum(query[None] * key, axis=1) * scale
    weights = jnp.exp(scores - jnp.max(scores, axis=0, keepdims=True))
    return weights / jnp.sum(weights, axis=0, keepdims=True)


def _frames_forward_kernel(query, key, value, output, *, scale):
    key, value = (x[...].astype(jnp.float32) for x in (key, value))

    @pl.loop(0, key.shape[0])
    def _(frame):
        weights = _weights_of_frames(query[frame].astype(jnp.float32), key, scale)
        sums = jnp.sum(weights[:, None] * value, axis=0)
        output[frame] = sums.astype(output.dtype)


def _frames_backward_kernel(
    query,
    key,
    value,
    upstream,
    of_query,
    of_key,
    of_value,
    key_sum,
    value_sum,
    *,
    scale,
):
    key, value = (x[...].astype(jnp.float32) for x in (key, value))
    key_sum[...] = jnp.zeros_like(key_sum)
    value_sum[...] = jnp.zeros_like(value_sum)

    @pl.loop(0, key.shape[0])
    def _(frame):
        q, up = (x[frame].astype(jnp.float32) for x in (query, upstream))
        weights = _weights_of_frames(q, key, scale)
        of_weights = jnp.sum(up[None] * value, axis=1)
        shift = jnp.sum(weights * of_weights, axis=0, keepdims=True)
        of_scores = weights * (of_weights - shift) * scale
        sums = jnp.sum(of_scores[:, None] * key, axis=0)
        of_query[frame] = sums.astype(of_query.dtype)
        key_sum[...] += of_scores[:, None] * q[None]
        value_sum[...] += weights[:, None] * up[None]

    of_key[...] = key_sum[...].astype(of_key.dtype)
    of_value[...] = value_sum[...].astype(of_value.dtype)
