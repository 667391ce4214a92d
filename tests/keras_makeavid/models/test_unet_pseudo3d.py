"""The UNet against the original and diffusers, inflation, shapes and precision."""

import functools
import json
import math
import os
import subprocess
import sys

import diffusers
import goldens
import keras
import numpy as np
import pytest
import torch
from running import runner

import weights_tools
from keras_makeavid.models import UNetPseudo3D
from weights_tools.architectures import shapes_of


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@functools.cache
def golden(name, gelu, policy):
    """The golden model and itself as a function of arrays."""
    unet = goldens.unet_case(name).unet(gelu=gelu, dtype=policy)
    return unet, runner(unet)


@pytest.fixture
def small():
    """The two-level golden model and its function; tests may change the weights."""
    unet, run = golden("unet_image", "exact", "float32")
    weights = unet.get_weights()
    yield unet, run
    unet.set_weights(weights)


def video_inputs(frames=3):
    inputs = goldens.unet_case("unet_image").inputs
    return {**inputs, "sample": normal((2, frames, 8, 8, 9))}


def image_inputs(inputs, frame):
    return {**inputs, "sample": inputs["sample"][:, frame]}


def frames_as_images(inputs):
    frames = inputs["sample"].shape[1]
    images = {name: np.repeat(value, frames, axis=0) for name, value in inputs.items()}
    sample = inputs["sample"]
    return {**images, "sample": sample.reshape(-1, *sample.shape[2:])}


def temporal(unet):
    return [v for v in unet.variables if "temporal" in v.path]


def forget_time(unet):
    """Give every temporal weight the value of a new model."""
    fresh = UNetPseudo3D.from_config(unet.get_config())
    for variable, value in zip(temporal(unet), temporal(fresh), strict=True):
        variable.assign(value)


@pytest.mark.parametrize(
    ("name", "gelu"),
    [
        ("unet_video", "exact"),
        ("unet_video", "tanh"),
        ("unet_video_nonsquare", "exact"),
        ("unet_video_nonsquare", "tanh"),
        ("unet_image", "exact"),
    ],
)
def test_it_agrees_with_the_original(name, gelu):
    case = goldens.unet_case(name)
    _, run = golden(name, gelu, "float32")
    np.testing.assert_allclose(run(case.inputs), case.output(gelu), atol=2e-5, rtol=0)


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import keras
import numpy as np
import goldens
from keras_makeavid.compilation import compile_inference

case = goldens.unet_case("unet_video_nonsquare")
unet = case.unet(gelu="tanh")
inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, case.inputs)
output = keras.ops.convert_to_numpy(compile_inference(unet, [unet])(inputs))
print(np.abs(output - case.output("tanh")).max())
"""


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="torch runs without compilation"
)
def test_it_agrees_with_the_original_when_xla_optimises_it():
    # Other tests of this process ask XLA for little, and TensorFlow runs eagerly.
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(goldens.DATA.parent)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert float(run.stdout.splitlines()[-1]) <= 2e-5


def diffusers_unet(**config):
    """A peer whose weights, norms and biases all matter."""
    torch.manual_seed(0)
    peer = diffusers.UNet2DConditionModel(in_channels=9, layers_per_block=1, **config)
    peer.eval().requires_grad_(False)
    for name, parameter in peer.named_parameters():
        if name.endswith("bias"):
            parameter.copy_(0.1 * torch.randn_like(parameter))
        elif parameter.ndim == 1:
            parameter.copy_(1 + 0.1 * torch.randn_like(parameter))
    return peer


def twin(peer):
    """Our model of the peer's config file, with its weights and new temporal ones."""
    unet = weights_tools.unet_from_diffusers_config(json.loads(peer.to_json_string()))
    weights_tools.load_weights(unet, peer.state_dict())
    return unet


TWO_LEVELS = {
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
}
FOUR_LEVELS = {
    "block_out_channels": (32, 32, 64, 64),
    "cross_attention_dim": 24,
    "attention_head_dim": (2, 4, 8, 16),
}


@pytest.mark.parametrize(
    ("config", "size"),
    [
        pytest.param(TWO_LEVELS, (8, 12), id="two levels, one number of heads"),
        pytest.param(FOUR_LEVELS, (16, 16), id="four levels, heads of each level"),
    ],
)
def test_its_image_path_agrees_with_diffusers(config, size):
    peer = diffusers_unet(**config)
    inputs = {
        "sample": normal((2, *size, 9)),
        "timesteps": np.array([3, 981], "int32"),
        "context": normal((2, 7, 24), 1),
    }
    expected = peer(
        torch.from_numpy(inputs["sample"]).permute(0, 3, 1, 2),
        torch.from_numpy(inputs["timesteps"]),
        torch.from_numpy(inputs["context"]),
    ).sample
    unet = twin(peer)
    assert (unet.gelu, unet.transformer_epsilon) == ("exact", 1e-6)
    np.testing.assert_allclose(
        runner(unet)(inputs), expected.permute(0, 2, 3, 1).numpy(), atol=2e-5, rtol=0
    )


def test_a_new_model_gives_the_images_output_in_each_frame_of_a_still_video(small):
    unet, run = small
    inputs = video_inputs()
    inputs["sample"] = inputs["sample"][:, :1].repeat(3, axis=1)
    image = run(image_inputs(inputs, 0))[:, None]
    trained = run(inputs)
    assert np.abs(trained - image).max() > 0.1

    forget_time(unet)
    np.testing.assert_allclose(run(inputs), image.repeat(3, axis=1), atol=2e-5, rtol=0)


def test_spatial_only_gives_the_image_models_output_of_each_frame(small):
    unet, run = small
    inputs = video_inputs()
    outputs = runner(unet, spatial_only=True)(inputs)
    for frame in range(3):
        image = run(image_inputs(inputs, frame))
        np.testing.assert_allclose(outputs[:, frame], image, atol=2e-5, rtol=0)
    assert np.abs(run(inputs) - outputs).max() > 0.1


@pytest.mark.parametrize("shape", [(1, 1, 4, 10, 9), (3, 10, 4, 9)])
def test_one_instance_takes_every_number_of_frames_and_size(small, shape):
    _, run = small
    inputs = {
        "sample": normal(shape),
        "timesteps": np.array([1, 500, 999][: shape[0]], "int32"),
        "context": normal((shape[0], 77, 24), 1),
    }
    outputs = run(inputs)
    assert outputs.shape == (*shape[:-1], 4)
    assert np.isfinite(outputs).all()


def test_text_projected_ahead_gives_the_same_and_once_for_all_frames(small):
    unet, run = small
    inputs = video_inputs()
    ahead = unet.project_context(inputs["context"])
    leaves = keras.tree.flatten(ahead)
    # Three transformers: down, middle and up (two); a key and a value each.
    assert [tuple(x.shape) for x in leaves] == (
        2 * [(2, 5, 4, 8)] + 2 * [(2, 5, 4, 16)] + 4 * [(2, 5, 4, 8)]
    )
    np.testing.assert_allclose(
        run({**inputs, "context": ahead}), run(inputs), atol=2e-5, rtol=0
    )


def test_a_call_on_symbols_tells_the_output_shape(small):
    unet, _ = small
    inputs = {
        "sample": keras.KerasTensor((2, 3, 8, 8, 9)),
        "timesteps": keras.KerasTensor((2,), "int32"),
        "context": keras.KerasTensor((2, 5, 24)),
    }
    assert unet(inputs).shape == (2, 3, 8, 8, 4)
    shapes = {name: x.shape for name, x in inputs.items()}
    assert unet.compute_output_shape(shapes) == (2, 3, 8, 8, 4)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 8, 9), r"\(B, F, H, W, 9\) or images \(B, H, W, 9\).*\(2, 8, 9\)"),
        ((2, 3, 8, 8, 4), r"\(B, F, H, W, 9\).*Received: \(2, 3, 8, 8, 4\)"),
        ((2, 3, 7, 8, 9), r"height of sample .*multiple of 2, such as 6 or 8"),
        ((2, 3, 8, 1, 9), r"width of sample .*multiple of 2, such as 2 or 4"),
        ((2, 0, 8, 8, 9), r"must not be empty. Received: \(2, 0, 8, 8, 9\)"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_with_what_would(small, shape, message):
    unet, _ = small
    with pytest.raises(ValueError, match=message):
        unet({**video_inputs(), "sample": np.zeros(shape, "float32")})


def test_a_context_that_does_not_fit_is_refused_with_what_would(small):
    unet, _ = small
    context = np.zeros((2, 5, 23), "float32")
    message = r"\(B, L, 24\). Received: \(2, 5, 23\)"
    with pytest.raises(ValueError, match=message):
        unet({**video_inputs(), "context": context})
    with pytest.raises(ValueError, match=message):
        unet.project_context(context)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block_channels": ()}, r"block_channels=\(\)"),
        (
            {"block_channels": (32, 64)},
            r"attention_levels=\(True, True, True, False\), block_channels=\(32, 64\)",
        ),
        ({"num_heads": (8, 8)}, r"num_heads=\(8, 8\), block_channels=\(320, "),
        ({"gelu": "erf"}, r"\['exact', 'tanh'\]. Received: 'erf'"),
        ({"groups": 30}, r"multiple of groups .*groups=30"),
        ({"num_heads": 7}, r"num_heads. Received: .*num_heads=7"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNetPseudo3D(**arguments)


HALF_POLICIES = ["bfloat16", "mixed_bfloat16", "mixed_float16"]


def in_policy(policy):
    """The small golden model, and a video with timesteps that a policy could cast."""
    unet, run = golden("unet_image", "exact", policy)
    inputs = video_inputs()
    if policy in HALF_POLICIES:
        inputs["timesteps"] = inputs["timesteps"].astype("float32")
    return unet, run, inputs


@pytest.mark.parametrize("policy", HALF_POLICIES)
@pytest.mark.parametrize("name", ["unet_video", "unet_video_nonsquare", "unet_image"])
def test_half_precision_is_within_3_percent_of_the_original(name, policy):
    case = goldens.unet_case(name)
    _, run = golden(name, "exact", policy)
    expected = case.output("exact")
    error = np.linalg.norm(run(case.inputs).astype("float32") - expected)
    assert error < 0.03 * np.linalg.norm(expected)


@pytest.mark.parametrize("policy", ["float32", *HALF_POLICIES])
def test_inputs_ten_times_as_large_stay_finite(policy):
    _, run, inputs = in_policy(policy)
    inputs["sample"] = 10 * inputs["sample"]
    inputs["context"] = 10 * inputs["context"]
    assert np.isfinite(run(inputs).astype("float32")).all()


@pytest.mark.parametrize("policy", HALF_POLICIES)
def test_timesteps_are_not_rounded_to_half_precision(policy):
    # bfloat16 rounds the first two to 1000, float16 the others to 2048.
    low, high = (999, 1000) if "bfloat16" in policy else (2048, 2049)
    _, run, inputs = in_policy(policy)
    outputs = [
        run({**inputs, "timesteps": np.full(2, timestep, "float32")})
        for timestep in (low, high)
    ]
    assert (outputs[0] != outputs[1]).mean() > 0.1


@pytest.mark.parametrize(
    ("policy", "variable_dtype", "compute_dtype"),
    [
        ("float32", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("mixed_bfloat16", "float32", "bfloat16"),
        ("mixed_float16", "float32", "float16"),
    ],
)
def test_weights_and_outputs_have_the_dtypes_of_the_policy(
    policy, variable_dtype, compute_dtype
):
    unet, run, inputs = in_policy(policy)
    layers = unet.network._flatten_layers()
    assert {v.dtype for v in unet.variables} == {variable_dtype}
    assert {layer.compute_dtype for layer in layers} == {compute_dtype}
    assert str(run(inputs).dtype) == compute_dtype


def test_without_temporal_parts_it_is_the_image_model(small):
    unet, run = small
    config = {**unet.get_config(), "temporal": False, "name": "image"}
    image = UNetPseudo3D.from_config(config)
    assert not temporal(image)
    spatial = [v for v in unet.variables if "temporal" not in v.path]
    for ours, theirs in zip(image.variables, spatial, strict=True):
        ours.assign(theirs)
    inputs, run_image = video_inputs(), runner(image)
    ours = run_image(inputs)
    # Every frame at once, as in the video: another number of them is summed in another
    # order by some processors' kernels.
    expected = run(frames_as_images(inputs))
    np.testing.assert_allclose(
        ours, np.reshape(expected, ours.shape), atol=2e-6, rtol=0
    )
    np.testing.assert_array_equal(
        run_image(image_inputs(inputs, 0)), run(image_inputs(inputs, 0))
    )


def test_the_full_size_model_has_so_many_parameters_without_temporal_parts():
    shapes = shapes_of("unet", {"temporal": False}).values()
    assert sum(map(math.prod, shapes)) == 1_100_578_616 - 241_043_252
