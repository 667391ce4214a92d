import pytest

from keras_makeavid.schedulers import (
    DDIM,
    LCM,
    TCD,
    DPMSolverPlusPlus,
    Euler,
    EulerAncestral,
    NoiseSchedule,
    UniPC,
    get_scheduler,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dpm++2m", DPMSolverPlusPlus()),
        ("dpm++2m-karras", DPMSolverPlusPlus(karras_sigmas=True)),
        ("unipc", UniPC()),
        ("ddim", DDIM()),
        ("euler", Euler()),
        ("euler-trailing", Euler(timestep_spacing="trailing")),
        ("euler-ancestral", EulerAncestral()),
        ("lcm", LCM()),
        ("tcd", TCD()),
    ],
)
def test_name_gives_its_scheduler_with_the_schedule_asked_for(name, expected):
    schedule = NoiseSchedule(prediction_type="v_prediction")
    assert get_scheduler(name) == expected
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
    with pytest.raises(ValueError, match=r"'dpm\+\+2m', .*'ddim', .*'tcd'"):
        get_scheduler(name)
