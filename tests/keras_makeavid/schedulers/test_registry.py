import pytest

from keras_makeavid.schedulers import (
    DDIM,
    DPMSolverPlusPlus2M,
    Euler,
    NoiseSchedule,
    get_scheduler,
)


@pytest.mark.parametrize(
    ("name", "sampler"),
    [("dpm++2m", DPMSolverPlusPlus2M), ("ddim", DDIM), ("euler", Euler)],
)
def test_name_gives_its_scheduler_with_the_schedule_asked_for(name, sampler):
    schedule = NoiseSchedule(prediction_type="v_prediction")
    assert type(get_scheduler(name)) is sampler
    assert get_scheduler(name).schedule == NoiseSchedule()
    assert get_scheduler(name, schedule).schedule == schedule


def test_scheduler_is_given_back_as_it_is():
    scheduler = DDIM(eta=0.5)
    assert get_scheduler(scheduler) is scheduler
    assert get_scheduler(scheduler, NoiseSchedule()) is scheduler


def test_scheduler_of_another_noise_schedule_is_refused():
    schedule = NoiseSchedule(prediction_type="v_prediction")
    with pytest.raises(ValueError, match=r"epsilon.*v_prediction.*DDIM\(schedule="):
        get_scheduler(DDIM(), schedule)


@pytest.mark.parametrize("name", ["plms", "", None, ["ddim"]])
def test_unknown_name_is_refused_with_the_names_that_are_known(name):
    with pytest.raises(ValueError, match=r"'dpm\+\+2m', 'ddim', 'euler'"):
        get_scheduler(name)
