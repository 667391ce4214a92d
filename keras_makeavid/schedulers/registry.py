"""Schedulers by name, and as diffusers writes them: `scheduler_config.json`."""

import dataclasses
import difflib
import functools
import math
from collections.abc import Callable
from typing import Any

from keras_makeavid.schedulers.multistep import DPMSolverPlusPlus, UniPC
from keras_makeavid.schedulers.noise_schedule import DIFFUSERS_KEYS, NoiseSchedule
from keras_makeavid.schedulers.scheduler import Scheduler
from keras_makeavid.schedulers.single_step import DDIM, LCM, TCD, Euler, EulerAncestral
from keras_makeavid.validation import check_choice

SCHEDULERS: dict[str, Callable[..., Scheduler]] = {
    "dpm++2m": DPMSolverPlusPlus,
    "dpm++2m-karras": functools.partial(DPMSolverPlusPlus, karras_sigmas=True),
    "dpm++3m": functools.partial(DPMSolverPlusPlus, solver_order=3),
    "unipc": UniPC,
    "ddim": DDIM,
    "euler": Euler,
    "euler-trailing": functools.partial(Euler, timestep_spacing="trailing"),
    "euler-ancestral": EulerAncestral,
    "lcm": LCM,
    "tcd": TCD,
}
DIFFUSERS_CLASSES: dict[str, type[Scheduler]] = {
    "DDIMScheduler": DDIM,
    "DPMSolverMultistepScheduler": DPMSolverPlusPlus,
    "EulerDiscreteScheduler": Euler,
    "EulerAncestralDiscreteScheduler": EulerAncestral,
    "LCMScheduler": LCM,
    "TCDScheduler": TCD,
    "UniPCMultistepScheduler": UniPC,
}
# Arguments of ours that are none of a file: `step` of diffusers takes them.
_OF_STEP = {"eta", "gamma"}
# Arguments that diffusers' class does not have.
_OURS_ALONE: dict[type[Scheduler], set[str]] = {
    EulerAncestral: {"karras_sigmas", "final_sigmas_type"}
}
_NAMES = {"karras_sigmas": "use_karras_sigmas"}
# What a key means that is left out, where that is not our default.
_LEFT_OUT = {"steps_offset": 0, "set_alpha_to_one": True}
# Keys that would change the result, and the only value of each that is computed here.
_DEMANDED = {
    "clip_sample": False,
    "thresholding": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_flow_sigmas": False,
    "use_lu_lambdas": False,
    "use_dynamic_shifting": False,
    "algorithm_type": "dpmsolver++",
    "predict_x0": True,
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "lambda_min_clipped": -math.inf,
    "variance_type": None,
    "solver_p": None,
    "sigma_min": None,
    "sigma_max": None,
    "shift_terminal": None,
}
# Keys that do nothing where those above have the values demanded.
_WITHOUT_EFFECT = {
    "_class_name",
    "_diffusers_version",
    "trained_betas",
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "flow_shift",
    "time_shift_type",
    "skip_prk_steps",
}


def get_scheduler(
    scheduler: str | Scheduler, schedule: NoiseSchedule | None = None
) -> Scheduler:
    """Give a scheduler by its name, or the one given.

    Args:
        scheduler: A name of `SCHEDULERS`, such as `"dpm++2m"` (the project's default),
            diffusers' name of the class, such as `"LCMScheduler"`, or a `Scheduler`. A
            class's name means the defaults of this package, not those of diffusers.
        schedule: `NoiseSchedule` that the model was trained with; `None` means Stable
            Diffusion's for a name, and the scheduler's own for a scheduler.

    Raises:
        ValueError: If the name is not known, or the scheduler given has another noise
            schedule than the one asked for.

    Example:
    ```python
    table = get_scheduler("ddim").table(20)
    ```
    """
    if isinstance(scheduler, Scheduler):
        if schedule is not None and scheduler.schedule != schedule:
            raise ValueError(
                f"The scheduler was made for {scheduler.schedule}, expected "
                f"{schedule}: make it with {type(scheduler).__name__}(schedule=...)."
            )
        return scheduler
    known = SCHEDULERS | DIFFUSERS_CLASSES
    if not isinstance(scheduler, str) or scheduler not in known:
        asked = str(scheduler).lower()
        nearest = difflib.get_close_matches(asked, known, n=1, cutoff=0.5)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(
            f"Unknown scheduler {scheduler!r}, expected one of {list(SCHEDULERS)}, "
            f"diffusers' {list(DIFFUSERS_CLASSES)}, or a Scheduler.{hint}"
        )
    return known[scheduler](NoiseSchedule() if schedule is None else schedule)


def scheduler_from_diffusers_config(config: dict[str, Any]) -> Scheduler:
    """Read a scheduler out of a hub folder's `scheduler/scheduler_config.json`.

    Keys that are left out, or that the class does not know, are as in diffusers.

    Raises:
        ValueError: If the class is none of those here, a key is not known, or a key
            asks for what is not computed here.

    Example:
    ```python
    schedule = {"beta_start": 1e-3, "beta_end": 0.02, "beta_schedule": "linear"}
    scheduler_from_diffusers_config({"_class_name": "TCDScheduler", **schedule})
    ```
    """
    name: Any = config.get("_class_name")
    check_choice("_class_name", name, DIFFUSERS_CLASSES)
    scheduler = DIFFUSERS_CLASSES[name]
    if name == "DDIMScheduler":
        # Alone among these classes it clips where the file says nothing.
        config = {"clip_sample": True, **config}
    every = {key for other in DIFFUSERS_CLASSES.values() for key in _keys(other)}
    known = every | DIFFUSERS_KEYS.keys() | _DEMANDED.keys() | _WITHOUT_EFFECT
    unknown = sorted(config.keys() - known)
    if unknown:
        problem = f"Unknown keys {unknown} of a {name}"
        raise ValueError(f"{problem}, expected some of {sorted(known)}.")
    demanded = dict(_DEMANDED)
    if scheduler is UniPC:
        demanded["lower_order_final"] = True
    for key, value in demanded.items():
        if config.get(key) is not None and config[key] != value:
            problem = f"{name} with {key}={config[key]!r} is not supported"
            raise ValueError(f"{problem}; expected {value}.")
    settings = {}
    for key, field in _keys(scheduler).items():
        value = config.get(key)
        if value is None:
            value = _LEFT_OUT.get(key, field.default)
        settings[field.name] = tuple(value) if isinstance(value, list) else value
    return scheduler(NoiseSchedule.from_diffusers_config(config), **settings)


def scheduler_to_diffusers_config(scheduler: Scheduler) -> dict[str, Any]:
    """Write a scheduler as diffusers' `scheduler/scheduler_config.json`.

    `DDIM.eta` and `TCD.gamma` are not in it: they are arguments of `step` in diffusers.
    A setting that diffusers' class has not is a `ValueError`.

    Example:
    ```python
    scheduler_to_diffusers_config(Euler())["_class_name"]  # "EulerDiscreteScheduler"
    ```
    """
    names = {ours: name for name, ours in DIFFUSERS_CLASSES.items()}
    kind = type(scheduler)
    if kind not in names:
        raise ValueError(f"diffusers has no {kind.__name__}. Received: {scheduler}")
    for field in dataclasses.fields(kind):
        value = getattr(scheduler, field.name)
        if field.name in _OURS_ALONE.get(kind, set()) and value != field.default:
            raise ValueError(
                f"{names[kind]} of diffusers has no {field.name}; expected "
                f"{field.default!r}. Received: {value!r}"
            )
    config: dict[str, Any] = {"_class_name": names[kind]}
    for key, name in DIFFUSERS_KEYS.items():
        config[key] = getattr(scheduler.schedule, name)
    for key, field in _keys(kind).items():
        value = getattr(scheduler, field.name)
        config[key] = list(value) if isinstance(value, tuple) else value
    return {**config, "clip_sample": False} if kind is DDIM else config


def _keys(kind: type[Scheduler]) -> dict[str, dataclasses.Field]:
    """The arguments of a scheduler by their names in diffusers' files."""
    left_out = {"schedule"} | _OF_STEP | _OURS_ALONE.get(kind, set())
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in left_out}
    return {_NAMES.get(name, name): field for name, field in fields.items()}
