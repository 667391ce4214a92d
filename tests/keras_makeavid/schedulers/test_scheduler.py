import numpy as np
import pytest

from keras_makeavid.schedulers import (
    DDIM,
    DPMSolverPlusPlus2M,
    Euler,
    NoiseSchedule,
    StepTable,
    step,
)
from keras_makeavid.schedulers.scheduler import (
    karras_spacing,
    spaced_timesteps,
    timesteps_of_sigmas,
)

SAMPLERS = [DDIM, DPMSolverPlusPlus2M, Euler]
SPACINGS = ["leading", "linspace", "trailing"]


def sample_with_a_perfect_model(scheduler, num_steps, latents):
    """Samples with a model that gives `latents` whatever it is asked."""
    table = scheduler.table(num_steps)
    noise = np.random.default_rng(0).normal(size=latents.shape).astype("float32")
    sample, denoised = noise * np.float32(table.initial_sigma), np.zeros_like(latents)
    for values in table.as_array():
        row = StepTable.row(values)
        sample, denoised = step(row, sample, latents, denoised)
    return sample


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("num_steps", [0, -1, 1001, 20.0, "20", None])
def test_number_of_steps_out_of_range_is_refused(sampler, num_steps):
    with pytest.raises(ValueError, match=f"from 1 to 1000. Received: {num_steps!r}"):
        sampler().table(num_steps)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_unknown_timestep_spacing_is_refused(sampler):
    with pytest.raises(ValueError, match="'leading', 'linspace', 'trailing'.*'even'"):
        sampler(timestep_spacing="even")


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [1, 2, 7, 499, 999, 1000])
def test_every_number_of_steps_gives_finite_coefficients(sampler, spacing, num_steps):
    table = sampler(timestep_spacing=spacing).table(num_steps)
    array = table.as_array()
    assert array.shape == (num_steps, 8)
    assert np.isfinite(array).all()
    assert 0 <= table.timesteps.min() <= table.timesteps.max() <= 999
    assert table.next_from_previous_denoised[0] == 0


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_as_many_steps_as_in_training_visit_each_timestep_once(sampler, spacing):
    table = sampler(timestep_spacing=spacing).table(1000)
    np.testing.assert_array_equal(table.timesteps, np.arange(1000)[::-1])


@pytest.mark.parametrize("sampler", [DPMSolverPlusPlus2M, Euler])
@pytest.mark.parametrize("karras_sigmas", [False, True])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("num_steps", [1, 2, 20, 1000])
def test_a_perfect_model_leads_to_its_latents(
    sampler, karras_sigmas, zero_terminal_snr, num_steps
):
    schedule = NoiseSchedule(
        prediction_type="sample", zero_terminal_snr=zero_terminal_snr
    )
    latents = np.linspace(-2, 2, 24, dtype="float32").reshape(1, 2, 3, 4)
    scheduler = sampler(schedule, karras_sigmas)
    final = sample_with_a_perfect_model(scheduler, num_steps, latents)
    np.testing.assert_allclose(final, latents, rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_steps", [2, 20, 1000])
def test_ddim_with_a_perfect_model_ends_at_the_noise_level_of_timestep_0(num_steps):
    schedule = NoiseSchedule(prediction_type="sample", zero_terminal_snr=True)
    latents = np.linspace(-2, 2, 24, dtype="float32").reshape(1, 2, 3, 4)
    noise = np.random.default_rng(0).normal(size=latents.shape)
    scheduler = DDIM(schedule, timestep_spacing="trailing")
    final = sample_with_a_perfect_model(scheduler, num_steps, latents)
    alpha = schedule.alphas_cumprod[0]
    expected = np.sqrt(alpha) * latents + np.sqrt(1 - alpha) * noise
    np.testing.assert_allclose(final, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_ddim_refuses_an_eta_out_of_range(eta):
    with pytest.raises(ValueError, match=f"from 0 to 1. Received: {eta}"):
        DDIM(eta=eta)


def test_noise_prediction_from_pure_noise_is_refused():
    schedule = NoiseSchedule(zero_terminal_snr=True)
    with pytest.raises(ValueError, match="pure noise.*'v_prediction'"):
        DDIM(schedule, timestep_spacing="trailing").table(20)
    assert np.isfinite(DDIM(schedule).table(20).as_array()).all()


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ("leading", [751, 501, 251, 1]),
        ("linspace", [999, 666, 333, 0]),
        ("trailing", [999, 749, 499, 249]),
    ],
)
def test_four_of_a_thousand_timesteps_lie_where_the_paper_has_them(spacing, expected):
    np.testing.assert_array_equal(spaced_timesteps(spacing, 4, 1000), expected)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("num_points", [1, 3, 499, 999, 1000])
def test_timesteps_are_distinct_and_within_training(spacing, num_points):
    timesteps = spaced_timesteps(spacing, num_points, 1000)
    assert timesteps.shape == (num_points,)
    assert (np.diff(timesteps) < 0).all()
    assert 0 <= timesteps.min() <= timesteps.max() <= 999


def test_karras_spacing_reaches_both_ends_and_is_even_in_the_seventh_root():
    sigmas = karras_spacing(14.6, 0.03, 9)
    np.testing.assert_allclose(sigmas[[0, -1]], [14.6, 0.03], rtol=1e-12)
    strides = np.diff(sigmas ** (1 / 7))
    np.testing.assert_allclose(strides, strides[0], rtol=1e-12)


def test_timesteps_of_sigmas_undo_the_training_schedule():
    train_sigmas = np.geomspace(0.03, 15.0, 1000)
    timesteps = np.array([999.0, 500.5, 0.0])
    sigmas = np.exp(np.interp(timesteps, np.arange(1000), np.log(train_sigmas)))
    found = timesteps_of_sigmas(sigmas, train_sigmas)
    np.testing.assert_allclose(found, timesteps, atol=1e-9)
