import keras
import numpy as np
import pytest

from keras_makeavid.training import WarmupSchedule


def rates(schedule, steps):
    return np.array([float(schedule(step)) for step in steps])


def test_the_warm_up_is_linear_and_ends_at_the_peak():
    schedule = WarmupSchedule(5e-5, warmup_steps=4)
    expected = [1.25e-5, 2.5e-5, 3.75e-5, 5e-5, 5e-5, 5e-5]
    np.testing.assert_allclose(rates(schedule, range(6)), expected, rtol=1e-6)


def test_a_cosine_ends_at_its_final_rate_and_is_half_way_in_its_middle():
    schedule = WarmupSchedule(1e-3, 10, "cosine", total_steps=110, final=1e-5)
    found = rates(schedule, [9, 59, 109, 200])
    np.testing.assert_allclose(found, [1e-3, 5.05e-4, 1e-5, 1e-5], rtol=1e-5)
    assert (np.diff(rates(schedule, range(10, 110, 9))) < 0).all()


def test_without_warm_up_it_begins_at_the_peak():
    np.testing.assert_allclose(rates(WarmupSchedule(1e-3), [0, 7]), 1e-3, rtol=1e-6)


@pytest.mark.parametrize(
    "arguments", [{"decay": "linear"}, {"decay": "cosine"}, {"warmup_steps": 5}]
)
def test_what_has_no_meaning_is_refused(arguments):
    arguments = {"decay": "cosine", "total_steps": 5, **arguments}
    if arguments["decay"] == "cosine" and "warmup_steps" not in arguments:
        del arguments["total_steps"]
    with pytest.raises(ValueError, match="Received"):
        WarmupSchedule(1e-3, **arguments)


def test_config_round_trip():
    schedule = WarmupSchedule(1e-3, 10, "cosine", total_steps=110, final=1e-5)
    schedules = keras.optimizers.schedules
    again = schedules.deserialize(schedules.serialize(schedule))
    assert again.get_config() == schedule.get_config()
