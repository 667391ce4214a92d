import numpy as np
import pytest

from keras_makeavid.schedulers import (
    DDIM,
    LCM,
    TCD,
    DPMSolverPlusPlus,
    Euler,
    EulerAncestral,
    NoiseSchedule,
    SamplerState,
    StepTable,
    UniPC,
    step,
)
from keras_makeavid.schedulers.scheduler import (
    karras_spacing,
    timesteps_of_sigmas,
)

SAMPLERS = [DDIM, DPMSolverPlusPlus, UniPC, Euler, EulerAncestral]
SPACINGS = ["leading", "linspace", "trailing"]


def sample_with_a_perfect_model(scheduler, num_steps, latents):
    """Samples with a model that gives `latents` whatever it is asked."""
    table = scheduler.table(num_steps)
    noise = np.random.default_rng(0).normal(size=latents.shape).astype("float32")
    state = SamplerState.start(noise * np.float32(table.initial_sigma))
    for values in table.as_array():
        state = step(StepTable.row(values), state, latents, noise)
    return state.sample


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
    assert array.shape == (num_steps, 10)
    assert np.isfinite(array).all()
    assert 0 <= table.timesteps.min() <= table.timesteps.max() <= 999
    assert table.next_from_previous_denoised[0] == 0
    assert table.corrected_from_previous_denoised[0] == 0


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_as_many_steps_as_in_training_visit_each_timestep_once(sampler, spacing):
    table = sampler(timestep_spacing=spacing).table(1000)
    np.testing.assert_array_equal(table.timesteps, np.arange(1000)[::-1])


@pytest.mark.parametrize(
    ("sampler", "settings"),
    [
        *[(s, {}) for s in (DPMSolverPlusPlus, UniPC, Euler, EulerAncestral)],
        *[(s, {"karras_sigmas": True}) for s in (DPMSolverPlusPlus, UniPC)],
    ],
)
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("num_steps", [1, 2, 20, 1000])
def test_a_perfect_model_leads_to_its_latents(
    sampler, settings, zero_terminal_snr, num_steps
):
    schedule = NoiseSchedule(
        prediction_type="sample", zero_terminal_snr=zero_terminal_snr
    )
    latents = np.linspace(-2, 2, 24, dtype="float32").reshape(1, 2, 3, 4)
    scheduler = sampler(schedule, **settings)
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


@pytest.mark.parametrize("num_steps", [1, 4, 8])
def test_lcm_with_a_perfect_model_leads_to_its_latents(num_steps):
    schedule = NoiseSchedule(prediction_type="sample")
    latents = np.linspace(-2, 2, 24, dtype="float32").reshape(1, 2, 3, 4)
    final = sample_with_a_perfect_model(LCM(schedule), num_steps, latents)
    np.testing.assert_allclose(final, latents, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampler", [LCM, TCD])
def test_distilled_models_take_no_more_steps_than_their_distillation_had(sampler):
    assert len(sampler().table(50).timesteps) == 50
    with pytest.raises(ValueError, match="from 1 to 50. Received: 51"):
        sampler().table(51)
    assert len(sampler(original_inference_steps=100).table(51).timesteps) == 51


def test_lcm_begins_at_the_last_timestep_and_takes_every_nth_of_the_distillation():
    np.testing.assert_array_equal(LCM().table(4).timesteps, [999, 759, 499, 259])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DDIM(eta=-0.1), "eta must be from 0 to 1. Received: -0.1"),
        (lambda: DDIM(eta=float("nan")), "eta must be from 0 to 1. Received: nan"),
        (lambda: TCD(gamma=1.1), "gamma must be from 0 to 1. Received: 1.1"),
        (lambda: UniPC(karras_sigmas=1), "karras_sigmas must be a bool.*: 1"),
        (lambda: LCM(None), "schedule must be a NoiseSchedule. Received: None"),
        (lambda: Euler(steps_offset=1000), "steps_offset.*0 to 999. Received: 1000"),
        (lambda: Euler(steps_offset=1.0), "steps_offset.*0 to 999. Received: 1.0"),
        (lambda: LCM(original_inference_steps=0), "original_inf.*1 to 1000.*: 0"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_schedulers_of_the_same_settings_are_equal():
    assert DDIM(eta=0.5) == DDIM(eta=0.5) != DDIM()
    assert EulerAncestral() != Euler()


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
    timesteps = DDIM(timestep_spacing=spacing)._spaced_timesteps(4)
    np.testing.assert_array_equal(timesteps, expected)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("num_points", [1, 3, 499, 999, 1000])
def test_timesteps_are_distinct_and_within_training(spacing, num_points):
    timesteps = DDIM(timestep_spacing=spacing)._spaced_timesteps(num_points)
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
