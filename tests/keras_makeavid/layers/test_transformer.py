"""Attention against torch's own, and the transformer against the original."""

import goldens
import numpy as np
import pytest
import torch
from running import built, runner

from keras_makeavid.layers import (
    Attention,
    SpatioTemporalTransformer,
    TemporalAttention,
    TransformerBlock,
)


def golden_transformer(tag, gelu="exact"):
    layer = SpatioTemporalTransformer(32, num_heads=4, gelu=gelu)
    inputs = goldens.layer_inputs(tag)
    layer.build(*(x.shape for x in inputs))
    goldens.load_layer(layer, tag)
    return layer, inputs


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("tag", ["transformer_video", "transformer_image"])
def test_it_agrees_with_the_original_whose_layers_have_the_exact_gelu(tag):
    layer, inputs = golden_transformer(tag)
    outputs = runner(layer)(*inputs)
    np.testing.assert_allclose(outputs, goldens.layer_output(tag), atol=1e-5, rtol=0)


def test_the_tanh_gelu_differs_by_what_the_original_differs():
    tag = "transformer_video"
    layer, inputs = golden_transformer(tag, gelu="tanh")
    error = np.abs(runner(layer)(*inputs) - goldens.layer_output(tag))
    assert 2e-4 < error.max() < 1e-3


def test_text_projected_ahead_gives_the_same():
    layer, (video, text) = golden_transformer("transformer_video")
    ahead = runner(layer)(video, layer.project_context(text))
    np.testing.assert_allclose(ahead, runner(layer)(video, text), atol=2e-6, rtol=0)


def test_text_is_projected_once_for_all_frames():
    layer, (video, text) = golden_transformer("transformer_video")
    assert video.shape[:2] == (2, 4)
    shapes = []
    to_k = layer.transformer_block.attn2.to_k
    call = to_k.call
    to_k.call = lambda x: shapes.append(tuple(x.shape)) or call(x)
    runner(layer)(video, text)
    assert shapes == [text.shape]


def test_a_new_one_treats_every_frame_as_an_image():
    video, text = goldens.layer_inputs("transformer_video")
    run = runner(built(SpatioTemporalTransformer(32, num_heads=4), video, text))
    outputs = run(video, text)
    for frame in range(video.shape[1]):
        image = run(video[:, frame], text)
        np.testing.assert_allclose(outputs[:, frame], image, atol=1e-5, rtol=0)


def block_and_inputs():
    tokens, text = normal((2, 4, 60, 32)), normal((2, 5, 24), 1)
    return built(TransformerBlock(32, num_heads=4), tokens, text), tokens, text


def test_temporal_attention_sees_other_frames_at_the_same_pixel_only():
    block, tokens, text = block_and_inputs()
    for layer in (block.attn1, block.attn2):
        layer.to_out.kernel.assign(np.zeros((32, 32)))
    block.attn_temporal.to_out.kernel.assign(normal((32, 32), 2))
    run = runner(block)
    before = run(tokens, text)
    tokens[0, 2, 1] += normal((32,), 3)
    changed = np.abs(run(tokens, text) - before).max(axis=-1)
    assert changed[0, :, 1].min() > 1e-3
    assert np.delete(changed[0], 1, axis=1).max() < 1e-6
    assert changed[1].max() < 1e-6


def test_without_time_the_block_skips_the_temporal_attention():
    block, tokens, text = block_and_inputs()
    run = runner(block)
    identity = run(tokens, text)
    block.attn_temporal.to_out.kernel.assign(normal((32, 32), 2))
    without = runner(block, temporal=False)(tokens, text)
    np.testing.assert_allclose(without, identity, atol=1e-6, rtol=0)
    assert np.abs(run(tokens, text) - identity).max() > 1e-2


def test_an_unknown_gelu_is_refused():
    with pytest.raises(ValueError, match=r"\['exact', 'tanh'\]. Received: 'erf'"):
        SpatioTemporalTransformer(32, num_heads=4, gelu="erf")


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
