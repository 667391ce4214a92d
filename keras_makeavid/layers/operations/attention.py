"""Scaled dot-product attention of tokens, and between the frames of each pixel."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_makeavid.devices import is_shared_equally, platform, shard_mapped
from keras_makeavid.tensor import Tensor

# The numbers below are of two cores of an x86-64 server (AMD EPYC), jax 0.10,
# TensorFlow 2.21 and PyTorch 2.13: benchmarks/forward.py and benchmarks/train_step.py.

# From so many attention scores of a head on, XLA on a CPU spends its time in
# materialised softmax. One head at a time stays inside the cache. TensorFlow's loops
# cost more, and memory to compile.
_SLICED_FROM_SCORES = {"jax": 1 << 12, "tensorflow": 1 << 18}
# Scores whose float32 numbers stay in the cache: 4 MB.
_SCORES_PER_SLICE = 1 << 20
# Nowhere are more scores than these in memory at once, a gigabyte in float32, but where
# a fused kernel needs none: Apple's MPS refuses buffers over 4 GB.
_MOST_SCORES = 1 << 28
# PyTorch's attention on a CPU is slower for heads of fewer channels than these. (On an
# Intel Xeon with AVX-512 it is not: a pass takes 2 % longer padded.)
_TORCH_LEAST_WIDTH = 16
# In training in half precision its gradient takes two threads as long as one, where
# narrow heads attend to so few keys.
_TORCH_FEW_KEYS, _TORCH_NARROW = 64, 32


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend by scaled dot products of `(B, T, heads, D)`, with the softmax in float32.

    Key and value are `(B, S, heads, D)`.
    """
    backend = keras.config.backend()
    if backend == "torch":
        return _attention_torch(query, key, value)
    if platform() == "tpu":
        return _attention_tpu(query, key, value)
    sliced_from = _SLICED_FROM_SCORES[backend]
    if platform() == "cpu" and _scores_of_a_head(query, key) >= sliced_from:
        return _attention_sliced(query, key, value)
    many = query.shape[0] or 1, query.shape[2], _scores_of_a_head(query, key)
    if math.prod(many) > _MOST_SCORES and not _is_fused(query):
        return _attention_sliced(query, key, value, _MOST_SCORES)
    return _attention_portable(query, key, value)


def _is_fused(query) -> bool:
    """Whether Keras takes cuDNN's kernel: JAX, half precision, from Ampere on."""
    if keras.config.backend() != "jax" or platform() == "cpu":
        return False
    half = keras.backend.standardize_dtype(query.dtype) in ("float16", "bfloat16")
    return half and _compute_capability() >= 8 and query.shape[-1] <= 128


def _compute_capability() -> float:
    import jax

    return float(getattr(jax.devices()[0], "compute_capability", 0) or 0)


def _attention_portable(query, key, value):
    dtype, backend = query.dtype, keras.config.backend()
    if backend == "tensorflow" or platform() == "cpu":
        # There Keras keeps scores and sums in the dtype it is given; here XLA has no
        # float16 product that sums in float32.
        query, key, value = (ops.cast(x, "float32") for x in (query, key, value))
    return ops.cast(ops.dot_product_attention(query, key, value), dtype)


def _scores_of_a_head(query, key) -> int:
    sizes = (*query.shape[:3], key.shape[1])
    # While a graph is traced symbolically, a size is `None` or an expression.
    if not all(isinstance(size, int) for size in sizes):
        return 0
    return query.shape[1] * key.shape[1]


def _attention_tpu(query, key, value):
    from keras_makeavid.layers.operations import pallas_attention

    batch, tokens, heads, width = query.shape
    keys = key.shape[1]
    if (
        not is_shared_equally(batch, tokens, keys)
        or pallas_attention.tokens_per_program(tokens, keys) is None
    ):
        return _attention_portable(query, key, value)

    def tokens_last(x):
        x = ops.reshape(x, (batch, -1, heads * width))
        return ops.transpose(x, (0, 2, 1))

    def attend(*arrays):
        return pallas_attention.attention(*arrays, heads)

    outputs = shard_mapped(attend, *map(tokens_last, (query, key, value)))
    return ops.reshape(ops.transpose(outputs, (0, 2, 1)), query.shape)


def _attention_torch(query, key, value):
    import torch

    width = query.shape[-1]
    query, key, value = map(ops.convert_to_tensor, (query, key, value))
    dtype = query.dtype
    if query.device.type == "cpu":
        # In half precision the gradient of this kernel takes seven times as long.
        query, key, value = (x.float() for x in (query, key, value))
        narrow = width <= _TORCH_NARROW and key.shape[1] <= _TORCH_FEW_KEYS
        if narrow and dtype != torch.float32:
            return _attention_to_few_keys_torch(query, key, value).to(dtype)
    if width < _TORCH_LEAST_WIDTH <= key.shape[1]:
        # Zeros add nothing to the products, and narrower ones take longer; between a
        # few frames the copy would cost more than it saves.
        query, key, value = (
            torch.nn.functional.pad(x, (0, _TORCH_LEAST_WIDTH - width))
            for x in (query, key, value)
        )
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    scores = math.prod(query.shape[:3]) * key.shape[2]
    # On CPUs and CUDA there is a kernel that holds no scores, for every dtype.
    if query.device.type in ("cpu", "cuda") or scores <= _MOST_SCORES:
        outputs = _attend_torch(query, key, value, width)
    else:
        outputs = _attend_in_parts_torch(query, key, value, width)
    return outputs.transpose(1, 2)[..., :width].to(dtype)


def _attend_torch(query, key, value, width):
    import torch

    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, scale=width**-0.5
    )


def _attend_in_parts_torch(query, key, value, width):
    """The same for one sample and some queries of all heads after the other."""
    import torch

    rows = max(1, _MOST_SCORES // (query.shape[1] * key.shape[2]))
    samples = [
        torch.cat([_attend_torch(part, k, v, width) for part in q.split(rows, 2)], 2)
        for q, k, v in zip(*(x.split(1) for x in (query, key, value)), strict=True)
    ]
    return torch.cat(samples)


def _attention_to_few_keys_torch(query, key, value):
    """Attention by two products of all heads at once, which hold every score."""
    import torch

    batch, length, heads, width = query.shape
    query, key, value = (
        x.transpose(1, 2).reshape(batch * heads, -1, width) for x in (query, key, value)
    )
    weights = torch.softmax(torch.bmm(query * width**-0.5, key.mT), dim=-1)
    outputs = torch.bmm(weights, value).view(batch, heads, length, width)
    return outputs.transpose(1, 2)


def _attention_sliced(query, key, value, most=None):
    """Attention one head, and at most so many scores, at a time."""
    batch, length, heads, width = query.shape
    run = _run_length(length, key.shape[1], most or _SCORES_PER_SLICE)

    def by_head(x):
        x = ops.transpose(ops.cast(x, "float32"), (0, 2, 1, 3))
        return ops.reshape(x, (batch * heads, -1, width))

    outputs = _attend_by_head(run)(
        by_head(query * width**-0.5), by_head(key), by_head(value)
    )
    outputs = ops.reshape(outputs, (batch, heads, length, width))
    return ops.cast(ops.transpose(outputs, (0, 2, 1, 3)), query.dtype)


def _attend_by_head(run: int):
    """Attention of scaled queries `(N, T, D)` to `(N, S, D)`, `run` queries at once.

    Its gradient (Dao et al., 2022) has the weights again from logarithms of their sums.
    """

    @ops.custom_gradient
    def attend(query, key, value):
        def one_head(head):
            q, k, v = head
            k_transposed = ops.transpose(k)

            def one_run(q):
                scores = ops.matmul(q, k_transposed)
                largest = ops.max(scores, axis=-1, keepdims=True)
                weights = ops.exp(scores - largest)
                total = ops.sum(weights, axis=-1, keepdims=True)
                # Dividing the few outputs rather than the many weights.
                return ops.matmul(weights, v) / total, largest + ops.log(total)

            if run == q.shape[0]:
                return one_run(q)
            queries = ops.reshape(q, (-1, run, q.shape[-1]))
            outputs, log_totals = ops.map(one_run, queries)
            return ops.reshape(outputs, q.shape), ops.reshape(log_totals, (-1, 1))

        outputs, log_totals = ops.map(one_head, (query, key, value))

        def gradient(*arguments, upstream=None):
            # Under PyTorch the arguments come too, elsewhere the upstream alone.
            upstream = arguments[0] if upstream is None else upstream
            shift = ops.sum(upstream * outputs, axis=-1, keepdims=True)
            heads = (query, key, value, log_totals, upstream, shift)
            query_gradient, *transposed = ops.map(_head_gradient(run), heads)
            return query_gradient, *(ops.transpose(x, (0, 2, 1)) for x in transposed)

        return outputs, gradient

    return attend


def _head_gradient(run: int):
    """Gradients of query `(T, D)`, and of key and value transposed, of one head.

    So every product takes the scores as they lie: XLA would transpose them for others,
    in ten times the product's own time.
    """

    def one_head(head):
        query, key, value, *of_queries = head
        key_transposed, value_transposed = ops.transpose(key), ops.transpose(value)

        def one_run(number, gradients):
            start = (number * run, 0)
            q, log_total, upstream, shift = (
                ops.slice(x, start, (run, x.shape[1])) for x in (query, *of_queries)
            )
            weights = ops.exp(ops.matmul(q, key_transposed) - log_total)
            scores = weights * (ops.matmul(upstream, value_transposed) - shift)
            return (
                ops.slice_update(gradients[0], start, ops.matmul(scores, key)),
                gradients[1] + ops.matmul(ops.transpose(q), scores),
                gradients[2] + ops.matmul(ops.transpose(upstream), weights),
            )

        zeros = [ops.zeros_like(x) for x in (query, key_transposed, value_transposed)]
        return ops.fori_loop(0, query.shape[0] // run, one_run, tuple(zeros))

    return one_head


def _run_length(length: int, keys: int, most: int) -> int:
    """The largest divisor of `length` whose scores against `keys` are at most these."""
    limit = max(1, most // keys)
    return next(n for n in range(min(length, limit), 0, -1) if length % n == 0)


def has_attention_over_frames(shape: Sequence[Any], heads: int) -> bool:
    """Tell whether `attention_over_frames` serves tokens of shape `(B, F, N, C)` here.

    Only TPUs have one. Elsewhere a transpose and `attention` are as fast: on a TPU they
    would copy the video into another layout and back.
    """
    if keras.config.backend() != "jax" or platform() != "tpu":
        return False
    from keras_makeavid.layers.operations import pallas_attention

    batch, frames, pixels, channels = shape
    if not is_shared_equally(batch, frames, pixels):
        return False
    size = pallas_attention.pixels_per_program(frames, channels // heads, pixels)
    return size is not None


def attention_over_frames(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Let the frames of each pixel, `(B, F, N, heads, D)`, attend to one another."""
    from keras_makeavid.layers.operations import pallas_attention

    heads, width = query.shape[-2:]

    def pixels_last(x):
        x = ops.reshape(x, (*x.shape[:3], heads * width))
        return ops.transpose(x, (0, 1, 3, 2))

    def attend(*arrays):
        return pallas_attention.attention_over_frames(*arrays, heads)

    outputs = shard_mapped(attend, *map(pixels_last, (query, key, value)))
    return ops.reshape(ops.transpose(outputs, (0, 1, 3, 2)), query.shape)
