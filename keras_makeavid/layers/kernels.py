"""The operations that carry the model's arithmetic, as functions of tensors.

Each has a portable form in `keras.ops` and, where `benchmarks/` showed the
backend's own kernel (or another loop order) to be much faster, one branch.
Everything outside this file is written against these functions only.
"""

from __future__ import annotations

import functools

import keras
from keras import ops

# From so many attention scores of a head on, XLA on a CPU spends its time in
# materialised softmax; one head at a time stays inside the cache. TensorFlow's loops
# cost more, and memory to compile.
_SLICED_FROM_SCORES = {"jax": 1 << 12, "tensorflow": 1 << 18}
_SCORES_PER_SLICE = 1 << 20
# PyTorch's attention on a CPU is slower for heads of fewer channels than these.
_TORCH_LEAST_WIDTH = 16
# In training in half precision its gradient takes two threads as long as one, where
# narrow heads attend to so few keys.
_TORCH_FEW_KEYS, _TORCH_NARROW = 64, 32
# Gated numbers whose float32 copies stay in a core's cache: 2 MB.
_TORCH_GATED_AT_ONCE = 1 << 19
# Group means of more standard deviations than these cost PyTorch's norm more than the
# last digit of the variance.
_TORCH_MOST_DEVIATIONS = 4.0


def conv2d(inputs, kernel, bias, strides: int = 1, padding: str = "half"):
    """2-D convolution, by default with symmetric zero padding of half the kernel.

    Keras pads `"same"` by (0, 1) where the stride is 2; Stable Diffusion pads
    1 on both sides (spec section 1), so the padding is explicit here.

    Args:
        inputs: `(N, H, W, C_in)`.
        kernel: `(KH, KW, C_in, C_out)`, odd KH and KW.
        bias: `(C_out,)`.
        strides: stride over height and width.
        padding: `"half"` the kernel on every side, or `"valid"` for none.

    Returns:
        `(N, ceil(H / strides), ceil(W / strides), C_out)`, less without padding.
    """
    height, width = kernel.shape[:2]
    if (height, width, strides) == (1, 1, 1):
        return dense(inputs, ops.reshape(kernel, kernel.shape[2:]), bias)
    if keras.config.backend() == "torch":
        return _conv2d_torch(inputs, kernel, bias, strides, padding)
    return _conv2d_portable(inputs, kernel, bias, strides, padding)


def conv_over_frames(inputs, kernel, bias):
    """1-D convolution over frames at each pixel, zero-padded by half the kernel.

    Args:
        inputs: `(B, F, H, W, C_in)`.
        kernel: `(K, C_in, C_out)`, odd K.
        bias: `(C_out,)`.

    Returns:
        `(B, F, H, W, C_out)`.
    """
    if keras.config.backend() == "jax" and _platform() == "tpu":
        # Height and width stay apart: TPUs would copy them together, and apart again.
        kernel = ops.reshape(kernel, (kernel.shape[0], 1, 1, *kernel.shape[1:]))
        outputs = ops.conv(inputs, kernel, padding="same", data_format="channels_last")
        return ops.add(outputs, bias)
    shape = ops.shape(inputs)
    tokens = ops.reshape(inputs, (shape[0], shape[1], -1, shape[4]))
    outputs = conv2d(tokens, ops.expand_dims(kernel, 1), bias)
    return ops.reshape(outputs, (*shape[:4], kernel.shape[-1]))


def kernel_initializer(initializer):
    """`initializer` for a kernel `(..., C_in, C_out)`, in the backend's memory order.

    PyTorch convolves with `(C_out, ..., C_in)` and would copy every kernel into that
    order in every pass. Shape and values stay as they are; the order outlives
    assignments.

    Args:
        initializer: name or instance of a Keras initializer.
    """
    initializer = keras.initializers.get(initializer)
    if keras.config.backend() != "torch":
        return initializer

    def in_memory_order(shape, dtype=None):
        last = len(shape) - 1
        value = initializer(shape, dtype=dtype).permute(last, *range(last))
        return value.contiguous().permute(*range(1, last + 1), 0)

    return in_memory_order


def _conv2d_portable(inputs, kernel, bias, strides, padding):
    if padding == "half" and strides == 1:
        padding = "same"
    elif padding == "half":
        rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
        inputs = ops.pad(inputs, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
        padding = "valid"
    outputs = ops.conv(
        inputs, kernel, strides, padding=padding, data_format="channels_last"
    )
    return ops.add(outputs, bias)


def _conv2d_torch(inputs, kernel, bias, strides, padding):
    # A permuted channels-last tensor *is* torch's channels_last memory format:
    # nothing is copied, and the bias is added inside the convolution.
    import torch

    inputs, kernel, bias = map(ops.convert_to_tensor, (inputs, kernel, bias))
    half = (kernel.shape[0] // 2, kernel.shape[1] // 2)
    outputs = torch.nn.functional.conv2d(
        inputs.permute(0, 3, 1, 2),
        kernel.permute(3, 2, 0, 1),
        bias,
        stride=strides,
        padding=half if padding == "half" else 0,
    )
    return outputs.permute(0, 2, 3, 1)


def dense(inputs, kernel, bias):
    """Matrix product over the last axis, plus bias: `(..., C_in)` to `(..., C_out)`."""
    if keras.config.backend() == "torch":
        import torch

        inputs, kernel, bias = map(ops.convert_to_tensor, (inputs, kernel, bias))
        return torch.nn.functional.linear(inputs, kernel.t(), bias)
    return ops.add(ops.matmul(inputs, kernel), bias)


def silu(x):
    """SiLU, calculated in float32 whatever the dtype: half precision rounds once."""
    if keras.config.backend() == "torch":
        # Its own does so, without a float32 copy.
        return ops.silu(x)
    return _silu_portable(x)


def _silu_portable(x):
    return ops.cast(ops.silu(ops.cast(x, "float32")), x.dtype)


def gated_gelu(inputs, approximate: bool):
    """`value * gelu(gate)`, calculated in float32 whatever the dtype.

    Under JAX, and under PyTorch on a CPU, nothing but `inputs` is kept for the
    gradient: the rest is many times as large, and soon calculated again.

    Args:
        inputs: `(..., 2 C)`: the values, then their gates.
        approximate: whether by the tanh form.

    Returns:
        `(..., C)`.
    """
    gated = functools.partial(_gated_gelu_portable, approximate=approximate)
    if keras.config.backend() == "jax":
        return keras.remat(gated)(inputs)
    if keras.config.backend() == "torch":
        inputs = ops.convert_to_tensor(inputs)
        if inputs.device.type == "cpu":
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
                out.copy_(value * gelu(gate, approximate=context.approximate))
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


def group_normalization(
    inputs, scale, offset, groups: int, epsilon: float, activated: bool = False
):
    """Normalise `(B, ..., C)` in groups of channels over every axis between.

    Statistics are taken in float32 whatever the dtype of `inputs`. Under JAX nothing
    but `inputs` and the statistics is kept for the gradient.

    Args:
        inputs: `(B, ..., C)`.
        scale: `(C,)`.
        offset: `(C,)`.
        groups: number of channel groups; divides C.
        epsilon: added to the variance.
        activated: whether SiLU follows.

    Returns:
        The shape and dtype of `inputs`.
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
    if _platform() != "tpu":
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
        return ops.reshape(
            ops.broadcast_to(mean, ops.shape(per_group)), (-1, 1, channels)
        )

    centred = x - group_mean(x)
    variance = group_mean(ops.square(centred))
    outputs = centred * (ops.rsqrt(variance + epsilon) * scale) + offset
    return ops.cast(ops.reshape(outputs, shape), inputs.dtype)


def _group_normalization_torch(inputs, scale, offset, groups, epsilon):
    import torch

    inputs, scale, offset = map(ops.convert_to_tensor, (inputs, scale, offset))
    if torch.is_grad_enabled() and scale.requires_grad and not inputs.requires_grad:
        # Where nothing before it trains, torch 2.13 crashes in some memory orders.
        return _group_normalization_portable(inputs, scale, offset, groups, epsilon)
    batch, channels = inputs.shape[0], inputs.shape[-1]
    # Rank 4 with channels second: the layout torch's channels_last kernel takes.
    x = inputs.float().reshape(batch, -1, inputs.shape[-2], channels)
    x = x.permute(0, 3, 1, 2)

    def normalise(x):
        return torch.native_group_norm(
            x,
            scale.float(),
            offset.float(),
            *x.shape[:2],
            x[0, 0].numel(),
            groups,
            epsilon,
        )

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


def layer_normalization(inputs, scale, offset, epsilon: float):
    """Normalise over the last axis, in float32 whatever the dtype of `inputs`.

    Args:
        inputs: `(..., C)`.
        scale: `(C,)`.
        offset: `(C,)`.
        epsilon: added to the variance.

    Returns:
        The shape and dtype of `inputs`.
    """
    if keras.config.backend() == "torch":
        return ops.layer_normalization(inputs, scale, offset, epsilon=epsilon)
    return _layer_normalization_portable(inputs, scale, offset, epsilon)


def _layer_normalization_portable(inputs, scale, offset, epsilon):
    # Keras's own takes the mean from the products: more kernels to compile for XLA,
    # and less exact far from zero.
    x = ops.cast(inputs, "float32")
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    scale, offset = ops.cast(scale, "float32"), ops.cast(offset, "float32")
    outputs = centred * ops.rsqrt(variance + epsilon) * scale + offset
    return ops.cast(outputs, inputs.dtype)


def attention(query, key, value):
    """Scaled dot-product attention, softmax in float32.

    Args:
        query: `(B, T, heads, D)`.
        key: `(B, S, heads, D)`.
        value: `(B, S, heads, D)`.

    Returns:
        `(B, T, heads, D)`.
    """
    backend = keras.config.backend()
    if backend == "torch":
        return _attention_torch(query, key, value)
    if _platform() == "tpu":
        return _attention_tpu(query, key, value)
    sliced_from = _SLICED_FROM_SCORES[backend]
    if _platform() == "cpu" and _scores_of_a_head(query, key) >= sliced_from:
        return _attention_sliced(query, key, value)
    return _attention_portable(query, key, value)


def has_attention_over_frames(shape, heads: int) -> bool:
    """Whether the platform has `attention_over_frames` for tokens of a shape.

    Args:
        shape: `(B, F, N, C)`.
        heads: number of heads; divides C.
    """
    if keras.config.backend() != "jax" or _platform() != "tpu":
        return False
    from keras_makeavid.layers import pallas_attention

    batch, frames, pixels, channels = shape
    if not _is_shared_equally(batch, frames, pixels):
        return False
    size = pallas_attention.pixels_per_program(frames, channels // heads, pixels)
    return size is not None


def attention_over_frames(query, key, value):
    """Attention of each pixel's frames to one another, which stay where they are.

    Args:
        query: `(B, F, N, heads, D)`.
        key: `(B, F, N, heads, D)`.
        value: `(B, F, N, heads, D)`.

    Returns:
        `(B, F, N, heads, D)`.
    """
    from keras_makeavid.layers import pallas_attention

    heads, width = query.shape[-2:]

    def pixels_last(x):
        x = ops.reshape(x, (*x.shape[:3], heads * width))
        return ops.transpose(x, (0, 1, 3, 2))

    def attend(*arrays):
        return pallas_attention.attention_over_frames(*arrays, heads)

    outputs = _on_each_device(attend, *map(pixels_last, (query, key, value)))
    return ops.reshape(ops.transpose(outputs, (0, 1, 3, 2)), query.shape)


def _attention_portable(query, key, value):
    dtype, backend = query.dtype, keras.config.backend()
    if backend == "tensorflow" or _platform() == "cpu":
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


def _platform() -> str:
    """Where the program will run: `"cpu"`, `"gpu"` or `"tpu"`."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return "gpu" if tf.config.list_logical_devices("GPU") else "cpu"
    import jax

    distribution = keras.distribution.distribution()
    if distribution is None:
        return jax.default_backend()
    # The program may be compiled here for devices that are elsewhere.
    return distribution.device_mesh.backend_mesh.devices.flat[0].platform


def _attention_tpu(query, key, value):
    from keras_makeavid.layers import pallas_attention

    batch, tokens, heads, width = query.shape
    keys = key.shape[1]
    if (
        not _is_shared_equally(batch, tokens, keys)
        or pallas_attention.tokens_per_program(tokens, keys) is None
    ):
        return _attention_portable(query, key, value)

    def tokens_last(x):
        x = ops.reshape(x, (batch, -1, heads * width))
        return ops.transpose(x, (0, 2, 1))

    def attend(*arrays):
        return pallas_attention.attention(*arrays, heads)

    outputs = _on_each_device(attend, *map(tokens_last, (query, key, value)))
    return ops.reshape(ops.transpose(outputs, (0, 2, 1)), query.shape)


def _is_shared_equally(batch, *sizes) -> bool:
    """Whether sizes are known, and every device gets as much of the batch."""
    # While a graph is traced symbolically, a size is `None` or an expression.
    if not all(isinstance(size, int) for size in (batch, *sizes)):
        return False
    distribution = keras.distribution.distribution()
    return distribution is None or batch % distribution.device_mesh.devices.size == 0


def _on_each_device(function, *arrays):
    """Call a function that XLA cannot divide on each device's share of the batch."""
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
    outputs = torch.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (query, key, value)), scale=width**-0.5
    )
    return outputs.transpose(1, 2)[..., :width].to(dtype)


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


def _attention_sliced(query, key, value):
    """Attention one head (and, if long, one run of queries) at a time."""
    batch, length, heads, width = query.shape
    run = _run_length(length, key.shape[1])

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

    The gradient is that of Dao et al. (2022), FlashAttention: the weights come again
    from the logarithms of their sums.
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
            outputs, log_totals = ops.map(
                one_run, ops.reshape(q, (-1, run, q.shape[-1]))
            )
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

    With transposed sums every product takes the scores as they lie: XLA would
    transpose them for the others, in ten times the product's own time.
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


def _run_length(length: int, keys: int) -> int:
    """The largest divisor of `length` whose scores against `keys` fit a slice."""
    limit = max(1, _SCORES_PER_SLICE // keys)
    return next(n for n in range(min(length, limit), 0, -1) if length % n == 0)
