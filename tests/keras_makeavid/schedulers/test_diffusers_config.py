"""Schedulers out of files of diffusers, and back into them."""

import json

import diffusers
import pytest
from trajectories import SCHEDULERS, file_of

from keras_makeavid.schedulers import (
    DDIM,
    TCD,
    DPMSolverPlusPlus,
    Euler,
    EulerAncestral,
    NoiseSchedule,
    UniPC,
    scheduler_from_diffusers_config,
    scheduler_to_diffusers_config,
)


def saved(class_name, folder, **settings):
    """The file as diffusers writes it."""
    getattr(diffusers, class_name)(**settings).save_pretrained(folder)
    return json.loads((folder / "scheduler_config.json").read_text())


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_diffusers_wrote_comes_back_as_it_was(name, tmp_path):
    config, _ = file_of(name, beta_schedule="linear", prediction_type="v_prediction")
    theirs = getattr(diffusers, config["_class_name"]).from_config(config)
    theirs.save_pretrained(tmp_path)
    file = json.loads((tmp_path / "scheduler_config.json").read_text())
    scheduler = scheduler_from_diffusers_config(file)
    written = json.loads(json.dumps(scheduler_to_diffusers_config(scheduler)))
    assert scheduler_from_diffusers_config(written) == scheduler
    assert {key: file[key] for key in written} == written
    again = type(theirs).from_config(written).config
    again = {key: value for key, value in again.items() if key[0] != "_"}
    if name.startswith(("lcm", "tcd")):
        # They have these keys, and do nothing by them.
        del again["set_alpha_to_one"], again["steps_offset"]
    assert {key: theirs.config[key] for key in again} == again


def test_every_setting_is_read():
    config, _ = file_of(
        "dpm++3m karras",
        timestep_spacing="trailing",
        steps_offset=3,
        beta_schedule="linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        final_sigmas_type="sigma_min",
        solver_type="heun",
        lower_order_final=False,
        euler_at_final=True,
    )
    assert scheduler_from_diffusers_config(config) == DPMSolverPlusPlus(
        NoiseSchedule(
            beta_schedule="linear",
            prediction_type="v_prediction",
            zero_terminal_snr=True,
        ),
        timestep_spacing="trailing",
        steps_offset=3,
        karras_sigmas=True,
        solver_order=3,
        final_sigmas_type="sigma_min",
        solver_type="heun",
        lower_order_final=False,
        euler_at_final=True,
    )


def test_what_is_left_out_means_what_it_means_to_diffusers():
    betas = {"beta_start": 0.1, "beta_end": 0.2, "beta_schedule": "linear"}
    schedule = NoiseSchedule(**betas)
    for class_name, expected in [
        ("EulerDiscreteScheduler", Euler(schedule, steps_offset=0)),
        ("UniPCMultistepScheduler", UniPC(schedule, steps_offset=0)),
        ("TCDScheduler", TCD(schedule)),
    ]:
        file = {"_class_name": class_name, **betas}
        assert scheduler_from_diffusers_config(file) == expected
    ddim = {"_class_name": "DDIMScheduler", **betas}
    with pytest.raises(ValueError, match="clip_sample=True is not supported"):
        scheduler_from_diffusers_config(ddim)
    found = scheduler_from_diffusers_config(ddim | {"clip_sample": False})
    assert found == DDIM(schedule, steps_offset=0, set_alpha_to_one=True)


def test_keys_of_other_classes_do_nothing_as_in_diffusers():
    config, _ = file_of("euler ancestral", use_karras_sigmas=True, skip_prk_steps=True)
    assert scheduler_from_diffusers_config(config) == EulerAncestral()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "PNDMScheduler"}, "one of .*'LCMScheduler'.*'PNDMScheduler'"),
        ({"_class_name": None}, "_class_name must be one of .* Received: None"),
        ({"clip_sample": True}, "clip_sample=True is not supported; expected False"),
        ({"thresholding": True}, "thresholding=True is not supported"),
        ({"use_beta_sigmas": True}, "use_beta_sigmas=True is not supported"),
        ({"algorithm_type": "sde-dpmsolver++"}, "algorithm_type='sde-dpmsolver"),
        ({"sigma_max": 80.0}, "sigma_max=80.0 is not supported; expected None"),
        ({"shift": 3.0}, r"Unknown keys \['shift'\] of a DPMSolverMultistepScheduler"),
        ({"timestep_spacing": "even"}, "timestep_spacing must be one of .* 'even'"),
        ({"steps_offset": -1}, "steps_offset must be an integer from 0 .*: -1"),
        ({"use_karras_sigmas": "yes"}, "karras_sigmas must be a bool.*'yes'"),
        ({"solver_order": 10**9}, "solver_order must be .*Received: 1000000000"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "squaredcos_cap_v2"),
        ({"trained_betas": [0.1]}, "trained_betas"),
    ],
)
def test_what_would_change_the_result_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        scheduler_from_diffusers_config(file_of("dpm++2m")[0] | changes)


def test_unipc_ends_in_lower_orders_or_is_refused():
    config, _ = file_of("unipc")
    scheduler_from_diffusers_config(config | {"lower_order_final": True})
    with pytest.raises(ValueError, match="lower_order_final=False is not supported"):
        scheduler_from_diffusers_config(config | {"lower_order_final": False})


def test_a_setting_that_diffusers_does_not_have_is_not_written():
    with pytest.raises(ValueError, match="EulerAncestral.* has no karras_sigmas"):
        scheduler_to_diffusers_config(EulerAncestral(karras_sigmas=True))


def test_animatediff_and_lightning_files_are_read(tmp_path):
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}
    linear = NoiseSchedule(beta_schedule="linear")
    ddim = saved("DDIMScheduler", tmp_path, **betas, steps_offset=1, clip_sample=False)
    assert scheduler_from_diffusers_config(ddim) == DDIM(linear, set_alpha_to_one=True)
    euler = saved(
        "EulerDiscreteScheduler", tmp_path, **betas, timestep_spacing="trailing"
    )
    assert scheduler_from_diffusers_config(euler) == Euler(
        linear, timestep_spacing="trailing", steps_offset=0
    )
