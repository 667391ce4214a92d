"""Dtype policies: weights stored in half precision, and what must not overflow."""

import keras
import numpy as np
import pytest

from keras_makeavid import TextToVideo, devices, dtype_policies
from keras_makeavid.dtype_policies import StoredPolicy, policy_of
from keras_makeavid.models import AutoencoderKL


def frames_of(task):
    options = {"num_frames": 2, "num_steps": 1, "guidance_scale": 1.0, "seed": 0}
    hint = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype="uint8")
    return task.generate("a cat", hint_image=hint, **options)


@pytest.mark.parametrize("name", ["stored_bfloat16", "stored_float16"])
def test_weights_are_stored_in_half_precision_and_calculate_in_float32(preset, name):
    task = TextToVideo.from_preset(str(preset), dtype=name)
    half = name.removeprefix("stored_")
    for part in (task.backbone, task.text_encoder, task.vae):
        assert part.dtype_policy == StoredPolicy(name)
        assert {weight.dtype for weight in part.weights} == {half}
    # A model in float32 whose weights were rounded makes the same video.
    rounded = TextToVideo.from_preset(str(preset), dtype="float32")
    for weight in [*rounded.backbone.weights, *rounded.weights, *rounded.vae.weights]:
        weight.assign(keras.ops.cast(keras.ops.cast(weight.value, half), "float32"))
    difference = frames_of(task).astype(int) - frames_of(rounded)
    assert np.abs(difference).max() <= 1


def test_a_model_with_it_comes_back_from_its_config():
    policy = StoredPolicy("stored_float16")
    vae = AutoencoderKL(block_channels=(8,), layers_per_block=1, groups=4, dtype=policy)
    again = AutoencoderKL.from_config(vae.get_config())
    assert again.dtype_policy == policy
    assert again.dtype_policy != StoredPolicy("stored_bfloat16")
    kernel = again.network.decoder.conv_in.kernel
    assert (kernel.dtype, again.compute_dtype) == ("float16", "float32")


@pytest.mark.once
@pytest.mark.parametrize("name", ["stored_float32", "stored_", "half"])
def test_another_name_is_refused(name):
    with pytest.raises(ValueError, match=name):
        policy_of(name)


@pytest.mark.once
@pytest.mark.parametrize(
    ("half", "own", "expected"),
    [
        (None, "float32", "float32"),
        ("bfloat16", "float32", "bfloat16"),
        ("float16", "float32", "float16"),
        ("bfloat16", "mixed_bfloat16", "mixed_bfloat16"),
    ],
)
def test_what_is_not_told_follows_from_the_device_and_keras_s_own_policy(
    monkeypatch, half, own, expected
):
    monkeypatch.setattr(dtype_policies, "half_precision", lambda: half)
    keras.config.set_dtype_policy(own)
    try:
        assert policy_of(None).name == expected
    finally:
        keras.config.set_dtype_policy("float32")
    assert policy_of("float32").name == "float32"


def test_there_is_no_half_precision_by_itself_on_a_cpu():
    assert devices.half_precision() is None


@pytest.mark.parametrize(
    ("dtype", "policy"),
    [
        ("float16", "stored_float16"),
        ("mixed_float16", "float32"),
        ("bfloat16", "bfloat16"),
    ],
)
def test_values_that_float16_has_not_are_decoded_all_the_same(preset, dtype, policy):
    task = TextToVideo.from_preset(str(preset), dtype=dtype)
    assert task.text_encoder.dtype_policy.name == policy
    assert task.vae.dtype_policy.name == policy
    plain = TextToVideo.from_preset(str(preset), dtype="float32").vae
    overflowing = AutoencoderKL.from_config({**plain.get_config(), "dtype": "float16"})
    for vae in (task.vae, plain, overflowing):
        for weight in vae.network.decoder.conv_in.weights:
            weight.assign(weight.value * 30000)
    latents = np.random.default_rng(0).standard_normal((1, 2, 2, 4), "float32")
    expected = plain.decode_video(latents).astype(int)
    assert expected.std() > 10
    assert np.abs(task.vae.decode_video(latents) - expected).mean() < 3
    images = keras.ops.convert_to_numpy(overflowing.decode(10 * latents))
    assert not np.isfinite(images).all()
