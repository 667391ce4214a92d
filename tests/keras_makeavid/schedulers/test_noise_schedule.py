import dataclasses
import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from keras import ops

from keras_makeavid.schedulers import NoiseSchedule

SD15 = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
SCHEDULES = {
    "stable diffusion": SD15,
    "linear": SD15 | {"beta_schedule": "linear", "num_train_timesteps": 400},
    "zero terminal snr": SD15
    | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
}


@pytest.fixture(params=SCHEDULES.values(), ids=SCHEDULES.keys())
def config(request):
    return request.param


def batch(shape, num_train_steps):
    generator = np.random.default_rng(0)
    latents, noise = generator.normal(size=(2, *shape)).astype("float32")
    last = num_train_steps - 1
    return latents, noise, np.linspace(0, last, shape[0]).astype("int32")


def test_alphas_cumprod_equals_diffusers(config):
    ours = NoiseSchedule.from_diffusers_config(config).alphas_cumprod
    theirs = DDIMScheduler.from_config(config).alphas_cumprod.numpy()
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-7)


def test_noise_of_low_timesteps_equals_diffusers_to_float32_rounding():
    ours = NoiseSchedule.from_diffusers_config(SD15).alphas_cumprod
    theirs = DDIMScheduler.from_config(SD15).alphas_cumprod.numpy()
    np.testing.assert_allclose(1 - ours[:100], 1 - theirs[:100], rtol=3e-7)


def test_alphas_cumprod_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        NoiseSchedule().alphas_cumprod[0] = 1.0


def test_zero_terminal_snr_leaves_no_signal_at_the_last_timestep_only():
    plain = NoiseSchedule().alphas_cumprod
    rescaled = NoiseSchedule(zero_terminal_snr=True).alphas_cumprod
    assert rescaled[-1] == 0 < rescaled[-2]
    assert rescaled[0] == pytest.approx(plain[0], rel=1e-12)
    assert (np.diff(rescaled) < 0).all()


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 4, 4, 4)])
def test_add_noise_equals_diffusers_at_any_rank(config, shape):
    schedule = NoiseSchedule.from_diffusers_config(config)
    latents, noise, timesteps = batch(shape, schedule.num_train_steps)
    ours = schedule.add_noise(latents, noise, timesteps)
    theirs = DDIMScheduler.from_config(config).add_noise(
        torch.tensor(latents), torch.tensor(noise), torch.tensor(timesteps)
    )
    assert ours.dtype == ops.convert_to_tensor(latents).dtype
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours), theirs.numpy(), rtol=0, atol=2e-6
    )


def test_target_of_v_prediction_equals_diffusers_velocity(config):
    schedule = NoiseSchedule.from_diffusers_config(
        config | {"prediction_type": "v_prediction"}
    )
    latents, noise, timesteps = batch((5, 2, 4, 4, 4), schedule.num_train_steps)
    theirs = DDIMScheduler.from_config(config).get_velocity(
        torch.tensor(latents), torch.tensor(noise), torch.tensor(timesteps)
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(schedule.target(latents, noise, timesteps)),
        theirs.numpy(),
        rtol=0,
        atol=2e-6,
    )


def test_target_is_the_noise_for_epsilon_and_the_latents_for_sample():
    latents, noise, timesteps = batch((5, 2, 4, 4, 4), 1000)
    for prediction_type, expected in (("epsilon", noise), ("sample", latents)):
        schedule = NoiseSchedule(prediction_type=prediction_type)
        target = schedule.target(latents, noise, timesteps)
        np.testing.assert_array_equal(ops.convert_to_numpy(target), expected)


def test_half_precision_latents_are_noised_in_float32():
    schedule = NoiseSchedule()
    latents, noise, timesteps = batch((5, 2, 4, 4, 4), 1000)
    half = ops.cast(latents, "bfloat16")
    ours = schedule.add_noise(half, noise, timesteps)
    expected = schedule.add_noise(ops.cast(half, "float32"), noise, timesteps)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(ours), ops.convert_to_numpy(expected)
    )


def test_signal_to_noise_is_the_ratio_of_the_variances():
    schedule = NoiseSchedule(zero_terminal_snr=True)
    timesteps = np.array([0, 500, 999])
    ratio = ops.convert_to_numpy(schedule.signal_to_noise(timesteps))
    alphas = schedule.alphas_cumprod[timesteps]
    np.testing.assert_allclose(ratio, alphas / (1 - alphas), rtol=1e-6)
    assert ratio[-1] == 0


def test_config_makes_the_same_schedule_again_through_json():
    schedule = NoiseSchedule(500, 0.001, 0.02, "linear", "v_prediction", True)
    config = json.loads(json.dumps(schedule.get_config()))
    assert NoiseSchedule.from_config(config) == schedule
    assert set(config) == {field.name for field in dataclasses.fields(schedule)}


def test_config_with_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="beta_middle.*num_train_steps"):
        NoiseSchedule.from_config({"beta_middle": 0.1})


def test_diffusers_config_of_stable_diffusion_gives_the_default_schedule():
    assert NoiseSchedule.from_diffusers_config(SD15) == NoiseSchedule()


def test_diffusers_config_gives_every_argument():
    config = SD15 | {
        "num_train_timesteps": 500,
        "beta_start": 0.001,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
    }
    expected = NoiseSchedule(500, 0.001, 0.02, "linear", "v_prediction", True)
    assert NoiseSchedule.from_diffusers_config(config) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta_schedule": "squaredcos_cap_v2"}, "squaredcos_cap_v2"),
        ({"prediction_type": "flow_prediction"}, "flow_prediction"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas"),
        ({"num_train_timesteps": 10**12}, "1000000000000"),
        ({"num_train_timesteps": "1000"}, "'1000'"),
        ({"beta_start": None}, "beta_start=None"),
        ({"beta_end": float("nan")}, "beta_end=nan"),
        ({"rescale_betas_zero_snr": "yes"}, "'yes'"),
    ],
)
def test_diffusers_config_with_an_unknown_value_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        NoiseSchedule.from_diffusers_config(SD15 | change)


def test_diffusers_config_without_betas_is_refused():
    with pytest.raises(ValueError, match="lacks .*'beta_schedule'.*'shift'"):
        NoiseSchedule.from_diffusers_config({"num_train_timesteps": 1000, "shift": 3.0})


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_train_steps": 1},
        {"num_train_steps": 1000.0},
        {"beta_start": 0.0},
        {"beta_start": 0.02, "beta_end": 0.01},
        {"beta_end": 1.0},
        {"beta_schedule": "cosine"},
        {"prediction_type": "noise"},
        {"zero_terminal_snr": 1},
    ],
)
def test_argument_out_of_range_is_refused_by_name(arguments):
    with pytest.raises(ValueError, match=list(arguments)[-1]):
        NoiseSchedule(**arguments)


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("beta", [1e-9, 0.5])
def test_betas_that_float32_cannot_follow_are_refused(beta, zero_terminal_snr):
    schedule = NoiseSchedule(
        beta_start=beta, beta_end=beta, zero_terminal_snr=zero_terminal_snr
    )
    with pytest.raises(ValueError, match=f"falls at every timestep.*{beta}"):
        schedule.add_noise(np.ones((1, 2)), np.ones((1, 2)), np.array([5]))
