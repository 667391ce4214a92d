"""Attention as fused TPU kernels, tokens or pixels last: no scores reach the HBM.

Channels lie in the sublanes and tokens in the lanes, so that heads of 40 channels fill
the vector registers and need no transposes. A program has all keys of a head at hand:
its softmax is the plain one, and the gradient calculates it again. JAX's own
`flash_attention` pads heads of 40 channels to 128: by the compiler for v4, attention in
24 frames of 4096 tokens and its gradient then move 6.6 times the bytes, beside 3.2 GiB
of temporaries where these have none.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128
# The sizes below fit the 16 MB of fast memory of v4, v5e, v5p and v6e, as the compiler
# says (tests/keras_makeavid/planning/test_kernels.py).
# Scores of a program, in float32: five arrays of so many bytes are alive at once.
_SCORE_BYTES = 2**21
# Float32 of one array of frames of a program: a gradient has nine, and those ahead.
_FRAME_BYTES = 2**20
# The most tokens of a program, where keys are few.
_MOST_BLOCK = 2048


def tokens_per_program(tokens: int, keys: int) -> int | None:
    """Find how many tokens a program takes; `None` if no division fits the kernel."""
    most = min(_MOST_BLOCK, _SCORE_BYTES // (4 * keys))
    if tokens <= min(most, LANES):
        return tokens
    sizes = range(most - most % LANES, 0, -LANES)
    return next((size for size in sizes if tokens % size == 0), None)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def attention(
    query: Array, key: Array, value: Array, heads: int, interpret: bool = False
) -> Array:
    """Attend from `(N, C, T)` to keys and values `(N, C, S)`; `heads` divides C.

    `interpret` runs the kernel without a TPU.
    """
    spec = _Blocks(query, key, heads)
    return pl.pallas_call(
        functools.partial(_forward_kernel, scale=spec.scale),
        grid=spec.grid,
        in_specs=[spec.tokens, spec.keys, spec.keys],
        out_specs=spec.tokens,
        out_shape=jax.ShapeDtypeStruct(query.shape, query.dtype),
        compiler_params=parallel(3),
        cost_estimate=_cost(2, spec.scores, spec.width, query, key, value, query),
        interpret=interpret,
        name="attention",
    )(query, key, value)


def _with_arguments(function):
    """The forward pass of a kernel whose gradient begins from its arguments."""

    def forward(query, key, value, heads, interpret):
        return function(query, key, value, heads, interpret), (query, key, value)

    return forward


def _attention_backward(heads, interpret, kept, upstream):
    query, key, value = kept
    spec = _Blocks(query, key, heads)
    sums = pltpu.VMEM((spec.width, key.shape[2]), jnp.float32)
    like = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in kept]
    return tuple(
        pl.pallas_call(
            functools.partial(_backward_kernel, scale=spec.scale),
            grid=spec.grid,
            in_specs=[spec.tokens, spec.keys, spec.keys, spec.tokens],
            out_specs=[spec.tokens, spec.keys, spec.keys],
            out_shape=like,
            scratch_shapes=[sums, sums],
            compiler_params=parallel(2, 1),
            cost_estimate=_cost(5, spec.scores, spec.width, *kept, upstream, *kept),
            interpret=interpret,
            name="attention_gradient",
        )(query, key, value, upstream)
    )


attention.defvjp(_with_arguments(attention), _attention_backward)


class _Blocks:
    """How the arrays are divided among the programs: sequence, head, run of tokens."""

    def __init__(self, query, key, heads):
        number, channels, tokens = query.shape
        self.width = channels // heads
        self.scale = self.width**-0.5
        size = tokens_per_program(tokens, key.shape[2])
        self.grid = (number, heads, tokens // size)
        self.tokens = pl.BlockSpec(
            (None, self.width, size), lambda n, head, run: (n, head, run)
        )
        self.keys = pl.BlockSpec(
            (None, self.width, key.shape[2]), lambda n, head, run: (n, head, 0)
        )
        self.scores = number * heads * tokens * key.shape[2]


def _cost(products: int, scores: int, width: int, *arrays) -> pl.CostEstimate:
    return pl.CostEstimate(
        flops=2 * products * scores * width,
        transcendentals=scores,
        bytes_accessed=sum(x.size * x.dtype.itemsize for x in arrays),
    )


def parallel(axes: int, in_order: int = 0) -> pltpu.CompilerParams:
    """Say that the first axes of a grid may run at once, and others in order."""
    semantics: tuple[Any, ...] = ("parallel",) * axes + ("arbitrary",) * in_order
    return pltpu.CompilerParams(dimension_semantics=semantics)


def _sorted(arrays):
    """A gradient's inputs, its outputs, and the sums over its programs."""
    return arrays[:4], arrays[4:7], arrays[7:]


def _product(a, b, axis_a, axis_b):
    """Sum over one axis of each, in float32."""
    dimensions = (((axis_a,), (axis_b,)), ((), ()))
    return lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


def _weights(query, key, scale):
    """Exponentials of scores `(S, T)` and their sums `(1, T)`."""
    scores = _product(key, query, 0, 0) * scale
    weights = jnp.exp(scores - jnp.max(scores, axis=0, keepdims=True))
    return weights, jnp.sum(weights, axis=0, keepdims=True)


def _forward_kernel(query, key, value, output, *, scale):
    weights, total = _weights(query[...], key[...], scale)
    value = value[...]
    sums = _product(value, weights.astype(value.dtype), 1, 0)
    output[...] = (sums / total).astype(output.dtype)


def _backward_kernel(*arrays, scale):
    inputs, (of_query, of_key, of_value), (key_sum, value_sum) = _sorted(arrays)
    run = pl.program_id(2)

    @pl.when(run == 0)
    def _():
        key_sum[...] = jnp.zeros_like(key_sum)
        value_sum[...] = jnp.zeros_like(value_sum)

    query, key, value, upstream = (x[...] for x in inputs)
    weights, total = _weights(query, key, scale)
    weights = weights / total
    of_weights = _product(value, upstream, 0, 0)
    shift = jnp.sum(weights * of_weights, axis=0, keepdims=True)
    of_scores = (weights * (of_weights - shift) * scale).astype(key.dtype)
    of_query[...] = _product(key, of_scores, 1, 0).astype(of_query.dtype)
    key_sum[...] += _product(query, of_scores, 1, 1)
    value_sum[...] += _product(upstream, weights.astype(upstream.dtype), 1, 1)

    @pl.when(run == pl.num_programs(2) - 1)
    def _():
        of_key[...] = key_sum[...].astype(of_key.dtype)
        of_value[...] = value_sum[...].astype(of_value.dtype)


def pixels_per_program(frames: int, width: int, pixels: int) -> int | None:
    """Find how many pixels of a frame a program takes; `None` if none fit."""
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
    query: Array, key: Array, value: Array, heads: int, interpret: bool = False
) -> Array:
    """Let each pixel's frames attend to one another, pixels last: `(B, F, C, N)`.

    So few scores a pixel fill no matrix unit: they are sums of products of vectors.
    """
    return _over_frames(
        _frames_forward_kernel, 2, 1, (query, key, value), heads, interpret
    )[0]


def _frames_backward(heads, interpret, kept, upstream):
    arrays = (*kept, upstream)
    return _over_frames(_frames_backward_kernel, 5, 3, arrays, heads, interpret)


attention_over_frames.defvjp(_with_arguments(attention_over_frames), _frames_backward)


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
    return pl.pallas_call(
        functools.partial(kernel, scale=width**-0.5),
        grid=(batch, heads, pixels // size),
        in_specs=[block] * len(arrays),
        out_specs=[block] * outputs,
        out_shape=[like] * outputs,
        scratch_shapes=sums,
        compiler_params=parallel(3),
        cost_estimate=_cost(products, scores, width, *arrays, *[like] * outputs),
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


def _frames_backward_kernel(*arrays, scale):
    inputs, (of_query, of_key, of_value), (key_sum, value_sum) = _sorted(arrays)
    query, key, value, upstream = inputs
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
