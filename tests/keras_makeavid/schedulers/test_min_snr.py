import numpy as np
import pytest
from keras import ops

from keras_makeavid.schedulers import NoiseSchedule

TIMESTEPS = np.array([0, 100, 400, 700, 999])


def weights(schedule, gamma=5.0):
    return ops.convert_to_numpy(schedule.min_snr_weights(TIMESTEPS, gamma))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_type_weighs_the_same_error_of_the_latents_alike(
    prediction_type,
):
    """The loss in terms of the latents is min(SNR, gamma), however it is predicted."""
    schedule = NoiseSchedule(prediction_type=prediction_type)
    rng = np.random.default_rng(0)
    latents, noise = rng.standard_normal((2, 5, 8))
    signal = np.sqrt(schedule.alphas_cumprod[TIMESTEPS])[:, None]
    spread = np.sqrt(1 - schedule.alphas_cumprod[TIMESTEPS])[:, None]
    noisy = signal * latents + spread * noise
    # A guess at the latents, and what it means as a prediction.
    guess = latents + 0.1 * rng.standard_normal(latents.shape)
    guessed_noise = (noisy - signal * guess) / spread
    predictions = {
        "epsilon": (guessed_noise, noise),
        "v_prediction": (
            signal * guessed_noise - spread * guess,
            signal * noise - spread * latents,
        ),
        "sample": (guess, latents),
    }
    prediction, target = predictions[prediction_type]
    weighted = weights(schedule) * np.mean((prediction - target) ** 2, axis=1)
    ratio = (signal / spread)[:, 0] ** 2
    expected = np.minimum(ratio, 5.0) * np.mean((guess - latents) ** 2, axis=1)
    np.testing.assert_allclose(weighted, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("prediction_type", "last"), [("epsilon", 1), ("v_prediction", 0), ("sample", 0)]
)
def test_a_timestep_without_signal_has_a_finite_weight(prediction_type, last):
    schedule = NoiseSchedule(prediction_type=prediction_type, zero_terminal_snr=True)
    found = weights(schedule)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[-1], last, atol=1e-6)
