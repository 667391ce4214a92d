"""Attention against torch's own, with and without text."""

import numpy as np
import pytest
import torch
from running import built, runner

from keras_makeavid.layers import Attention, TemporalAttention


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def torch_attention(layer, tokens, context):
    """torch.nn.MultiheadAttention with the weights of `layer`."""
    peer = torch.nn.MultiheadAttention(
        layer.width,
        layer.num_heads,
        kdim=context.shape[-1],
        vdim=context.shape[-1],
        batch_first=True,
    )
    q, k, v, out, out_bias = (torch.from_numpy(w.T.copy()) for w in layer.get_weights())
    # Torch keeps one matrix for the three where their widths agree.
    ours = {"out_proj.weight": out, "out_proj.bias": out_bias}
    ours["in_proj_bias"] = torch.zeros(3 * layer.width)
    if "in_proj_weight" in peer.state_dict():
        ours["in_proj_weight"] = torch.cat([q, k, v])
    else:
        ours |= {"q_proj_weight": q, "k_proj_weight": k, "v_proj_weight": v}
    peer.load_state_dict(ours)
    tokens, context = torch.from_numpy(tokens), torch.from_numpy(context)
    with torch.no_grad():
        return peer(tokens, context, context, need_weights=False)[0].numpy()


@pytest.mark.parametrize("num_heads", [1, 4])
def test_self_attention_agrees_with_torch(num_heads):
    tokens = normal((2, 7, 16))
    layer = built(Attention(16, num_heads), tokens)
    outputs = runner(layer)(tokens)
    np.testing.assert_allclose(
        outputs, torch_attention(layer, tokens, tokens), atol=5e-6, rtol=0
    )


def test_cross_attention_agrees_with_torch():
    tokens, text = normal((2, 7, 16)), normal((2, 5, 6), 1)
    layer = built(Attention(16, 4), tokens, text)
    outputs = runner(layer)(tokens, text)
    np.testing.assert_allclose(
        outputs, torch_attention(layer, tokens, text), atol=5e-6, rtol=0
    )


def test_a_projection_made_ahead_gives_the_same():
    tokens, text = normal((2, 7, 16)), normal((2, 5, 6), 1)
    layer = built(Attention(16, 4), tokens, text)
    key, value = layer.project(text)
    assert key.shape == value.shape == (2, 5, 4, 4)
    run = runner(layer)
    np.testing.assert_allclose(
        run(tokens, (key, value)), run(tokens, text), atol=1e-6, rtol=0
    )


def test_an_output_initialised_to_zeros_starts_as_nothing():
    tokens = normal((2, 7, 16))
    layer = built(Attention(16, 4, output_initializer="zeros"), tokens)
    assert not runner(layer)(tokens).any()


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="Received: width=16, num_heads=3"):
        Attention(16, 3)


def test_frames_attend_to_one_another_at_each_pixel():
    video = normal((2, 3, 5, 16))
    layer = built(
        TemporalAttention(width=16, num_heads=2, output_initializer="glorot_uniform"),
        video,
    )
    outputs = runner(layer)(video)
    of_one_pixel = built(Attention(width=16, num_heads=2), video[:, :, 0])
    of_one_pixel.set_weights(layer.get_weights())
    for pixel in range(video.shape[2]):
        expected = runner(of_one_pixel)(video[:, :, pixel])
        np.testing.assert_allclose(outputs[:, :, pixel], expected, atol=2e-6, rtol=0)


def test_attention_between_frames_starts_as_nothing():
    video = normal((2, 3, 5, 16))
    layer = built(TemporalAttention(width=16, num_heads=2), video)
    assert not runner(layer)(video).any()
