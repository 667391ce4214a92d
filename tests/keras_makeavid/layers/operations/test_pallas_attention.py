"""The TPU kernels, run by Pallas's interpreter, against the portable attention."""

import keras
import numpy as np
import pytest

if keras.config.backend() != "jax":
    pytest.skip("the kernels are JAX's", allow_module_level=True)

import jax
import jax.numpy as jnp

from keras_makeavid.layers.operations import pallas_attention
from keras_makeavid.layers.operations.attention import _attention_portable

HEADS = 2


def normal(*shape, seed=0, dtype="float32"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def of_tokens(query, key, value):
    """`_attention_portable` on `(N, C, T)`."""

    def by_head(x):
        return jnp.moveaxis(x.reshape(x.shape[0], HEADS, -1, x.shape[2]), 3, 1)

    outputs = _attention_portable(*map(by_head, (query, key, value)))
    return jnp.moveaxis(outputs, 1, 3).reshape(query.shape)


def of_frames(query, key, value):
    """The same on `(B, F, C, N)`, between the frames of each pixel."""

    def by_pixel(x):
        return jnp.moveaxis(x, 3, 1).swapaxes(2, 3).reshape(-1, *x.shape[2:0:-1])

    batch, frames, channels, pixels = query.shape
    outputs = of_tokens(*map(by_pixel, (query, key, value)))
    outputs = outputs.reshape(batch, pixels, channels, frames)
    return outputs.transpose(0, 3, 2, 1)


def assert_agree(kernel, reference, arrays, atol):
    outputs, gradient = jax.vjp(lambda *x: kernel(*x, HEADS, interpret=True), *arrays)
    expected, expected_gradient = jax.vjp(reference, *arrays)
    upstream = normal(*expected.shape, seed=9, dtype=expected.dtype)
    found = [outputs, *gradient(upstream)]
    for one, other in zip(found, [expected, *expected_gradient(upstream)], strict=True):
        assert one.dtype == other.dtype
        one, other = (np.asarray(x, "float32") for x in (one, other))
        np.testing.assert_allclose(one, other, atol=atol, rtol=0)


@pytest.mark.parametrize(("tokens", "keys"), [(256, 256), (256, 77), (24, 24)])
def test_attention_agrees_with_the_portable_one(monkeypatch, tokens, keys):
    # Two runs of tokens: the keys' gradients are sums over both.
    monkeypatch.setattr(pallas_attention, "_MOST_BLOCK", 128)
    arrays = [normal(2, 16, n, seed=n + i) for i, n in enumerate((tokens, keys, keys))]
    assert_agree(pallas_attention.attention, of_tokens, arrays, atol=5e-6)


def test_attention_between_frames_agrees_with_the_portable_one(monkeypatch):
    monkeypatch.setattr(pallas_attention, "_FRAME_BYTES", 2**14)
    arrays = [normal(2, 6, 16, 256, seed=seed) for seed in range(3)]
    assert_agree(pallas_attention.attention_over_frames, of_frames, arrays, atol=5e-6)


def test_half_precision_agrees_to_its_digits():
    arrays = [normal(1, 16, 128, seed=seed, dtype="bfloat16") for seed in range(3)]
    assert_agree(pallas_attention.attention, of_tokens, arrays, atol=4e-2)


@pytest.mark.parametrize(
    ("tokens", "keys", "expected"),
    [(4096, 4096, 128), (98304, 77, 2048), (64, 64, 64), (4096 + 64, 77, None)],
)
def test_programs_take_as_many_tokens_as_their_scores_allow(tokens, keys, expected):
    assert pallas_attention.tokens_per_program(tokens, keys) == expected


@pytest.mark.parametrize(
    ("frames", "pixels", "expected"), [(24, 4096, 256), (24, 64, 64), (200, 4096, None)]
)
def test_programs_take_as_many_pixels_as_their_frames_allow(frames, pixels, expected):
    assert pallas_attention.pixels_per_program(frames, 40, pixels) == expected
