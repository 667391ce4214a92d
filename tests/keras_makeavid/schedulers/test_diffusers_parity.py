"""Every sample of a trajectory against diffusers' schedulers.

Errors are absolute, 1e-5, for DDIM and DPM-Solver++. Euler's samples are of the noise
level's scale, so there they are per unit of it (see `carried_scale`).
"""

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
)

from keras_makeavid.schedulers import (
    DDIM,
    DPMSolverPlusPlus2M,
    Euler,
    NoiseSchedule,
    StepTable,
    step,
)

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
# Our class and its arguments; theirs, what is added to its configuration, and eta.
PAIRS = {
    "ddim": (DDIM, {}, DDIMScheduler, {}, 0.0),
    "ddim eta": (DDIM, {"eta": 0.7}, DDIMScheduler, {}, 0.7),
    "dpm++2m": (DPMSolverPlusPlus2M, {}, DPMSolverMultistepScheduler, {}, None),
    "dpm++2m karras": (
        DPMSolverPlusPlus2M,
        {"karras_sigmas": True},
        DPMSolverMultistepScheduler,
        {"use_karras_sigmas": True},
        None,
    ),
    "euler": (Euler, {}, EulerDiscreteScheduler, {}, None),
    "euler karras": (
        Euler,
        {"karras_sigmas": True},
        EulerDiscreteScheduler,
        {"use_karras_sigmas": True},
        None,
    ),
}
SHAPE = (2, 3, 4, 4, 4)


@pytest.fixture(params=PAIRS)
def name(request):
    return request.param


def make_pair(name, **changes):
    """Our scheduler and theirs, out of one configuration."""
    ours, arguments, theirs, additions, _ = PAIRS[name]
    config = SD15 | changes
    spacing = {k: v for k, v in changes.items() if k == "timestep_spacing"}
    schedule = NoiseSchedule.from_diffusers_config(config)
    return ours(schedule, **arguments, **spacing), theirs.from_config(
        config | additions
    )


def make_model(prediction_type, alphas_cumprod):
    """The ideal model of Gaussian data, bent by a smooth term.

    A fixed arbitrary function would do for the arithmetic, but its clean latents would
    be 15 times as large as any real model's, and float32 rounding with them.
    """

    def model(sample, timestep):
        sample = np.asarray(sample, "float64")
        mean = np.sin(np.arange(sample.size)).reshape(sample.shape)
        alpha = np.interp(timestep, np.arange(len(alphas_cumprod)), alphas_cumprod)
        signal, sigma = np.sqrt(alpha), np.sqrt(1 - alpha)
        variance = 0.25 * alpha + sigma**2
        bend = 0.3 * np.tanh(sample + mean)
        noise = sigma * (sample - signal * mean) / variance + signal * bend
        clean = (0.25 * signal * sample + sigma**2 * mean) / variance - sigma * bend
        velocity = signal * noise - sigma * clean
        outputs = {"epsilon": noise, "sample": clean, "v_prediction": velocity}
        return outputs[prediction_type].astype("float32")

    return model


def draw(num_steps):
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(num_steps + 1, *SHAPE)).astype("float32")
    return noise[0], noise[1:]


def our_trajectory(table, model):
    sample, noise = draw(len(table.timesteps))
    sample = sample * np.float32(table.initial_sigma)
    denoised, samples = np.zeros_like(sample), []
    for values, fresh_noise in zip(table.as_array(), noise, strict=True):
        row = StepTable.row(values)
        prediction = model(sample * row.input_scale, row.timestep)
        sample, denoised = step(row, sample, prediction, denoised, fresh_noise)
        samples.append(sample)
    return np.stack(samples)


def their_trajectory(theirs, model, eta):
    sample, noise = draw(len(theirs.timesteps))
    sample = torch.tensor(sample) * theirs.init_noise_sigma
    samples = []
    for i, timestep in enumerate(theirs.timesteps):
        model_input = theirs.scale_model_input(sample, timestep)
        prediction = torch.tensor(model(model_input.numpy(), float(timestep)))
        options = {}
        if eta is not None:
            options = {"eta": eta}
        if eta:
            options["variance_noise"] = torch.tensor(noise[i])
        sample = theirs.step(prediction, timestep, sample, **options).prev_sample
        samples.append(sample.numpy())
    return np.stack(samples)


def set_timesteps(theirs, num_steps):
    theirs.set_timesteps(num_steps)
    if hasattr(theirs, "set_begin_index"):
        # Left to itself it looks the first timestep up by value, and goes wrong where
        # Karras spacing has it twice.
        theirs.set_begin_index(0)


def carried_scale(table):
    """Noise level of the sample before the one that a step works on.

    A sample of scale sigma carries float32 rounding of that scale into the sample that
    the next step works on. It is 1 for samplers whose samples have variance 1.
    """
    scale = 1 / table.input_scale
    return np.concatenate([scale[:1], scale[:-1]])


def errors(name, num_steps, **changes):
    """Largest difference of each sample, and the scale that rounding carries there."""
    ours, theirs = make_pair(name, **changes)
    model = make_model(theirs.config.prediction_type, ours.schedule.alphas_cumprod)
    table = ours.table(num_steps)
    set_timesteps(theirs, num_steps)
    error = our_trajectory(table, model) - their_trajectory(
        theirs, model, PAIRS[name][-1]
    )
    return np.abs(error).max(axis=(1, 2, 3, 4, 5)), carried_scale(table)


def largest_error(name, num_steps, **changes):
    differences, scale = errors(name, num_steps, **changes)
    return (differences / scale).max()


@pytest.mark.parametrize("num_steps", [1, 2, 5, 20, 50])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_every_sample_equals_diffusers(name, num_steps, prediction_type):
    error = largest_error(name, num_steps, prediction_type=prediction_type)
    assert error <= 1e-5


@pytest.mark.parametrize("num_steps", [1, 2, 5, 20, 50])
def test_the_result_equals_diffusers_without_any_scale(name, num_steps):
    differences, _ = errors(name, num_steps)
    assert differences[-1] <= 1e-5


@pytest.mark.parametrize("num_steps", [1, 2, 5, 20])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_every_sample_equals_diffusers_at_every_spacing(name, num_steps, spacing):
    assert largest_error(name, num_steps, timestep_spacing=spacing) <= 1e-5


@pytest.mark.parametrize("num_steps", [1, 2, 5, 20, 50])
@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
@pytest.mark.parametrize(
    ("name", "spacing"),
    [
        ("ddim", "leading"),
        ("ddim", "trailing"),
        ("ddim eta", "trailing"),
        ("dpm++2m", "linspace"),
        ("dpm++2m karras", "linspace"),
        ("euler", "leading"),
    ],
)
def test_every_sample_equals_diffusers_with_zero_terminal_snr(
    name, spacing, num_steps, prediction_type
):
    error = largest_error(
        name,
        num_steps,
        timestep_spacing=spacing,
        prediction_type=prediction_type,
        rescale_betas_zero_snr=True,
    )
    assert error <= 1e-5


# From sigma 4096 diffusers' own Euler step cancels down in float32 and is off by 1e-3;
# what can be compared is the noise levels.
@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
@pytest.mark.parametrize("name", ["euler", "euler karras"])
def test_euler_noise_levels_equal_diffusers_with_zero_terminal_snr(name, spacing):
    ours, theirs = make_pair(
        name, timestep_spacing=spacing, rescale_betas_zero_snr=True
    )
    for num_steps in (1, 2, 5, 20, 50):
        table = ours.table(num_steps)
        theirs.set_timesteps(num_steps)
        sigmas = theirs.sigmas.numpy().astype("float64")
        np.testing.assert_allclose(
            table.input_scale, (sigmas[:-1] ** 2 + 1) ** -0.5, rtol=1e-5
        )
        np.testing.assert_allclose(
            table.next_from_sample, sigmas[1:] / sigmas[:-1], rtol=1e-5
        )
        assert table.initial_sigma == pytest.approx(
            float(theirs.init_noise_sigma), rel=1e-6
        )


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_timesteps_and_initial_sigma_equal_diffusers_for_any_number_of_steps(
    name, spacing
):
    ours, theirs = make_pair(name, timestep_spacing=spacing)
    # Whole timesteps are equal; fractional ones are the logarithm of float32 noise
    # levels to diffusers.
    tolerance = 2e-4 if name == "euler karras" else 0
    for num_steps in range(1, 61):
        table = ours.table(num_steps)
        theirs.set_timesteps(num_steps)
        np.testing.assert_allclose(
            table.timesteps, theirs.timesteps.numpy(), rtol=0, atol=tolerance
        )
        assert table.initial_sigma == pytest.approx(
            float(theirs.init_noise_sigma), rel=1e-6
        )
