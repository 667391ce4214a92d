"""Schedulers by name."""

import functools
from collections.abc import Callable

from keras_makeavid.schedulers.multistep import DPMSolverPlusPlus, UniPC
from keras_makeavid.schedulers.noise_schedule import NoiseSchedule
from keras_makeavid.schedulers.scheduler import Scheduler
from keras_makeavid.schedulers.single_step import DDIM, LCM, TCD, Euler, EulerAncestral
from keras_makeavid.validation import refusal

SCHEDULERS: dict[str, Callable[..., Scheduler]] = {
    "dpm++2m": DPMSolverPlusPlus,
    "dpm++2m-karras": functools.partial(DPMSolverPlusPlus, karras_sigmas=True),
    "unipc": UniPC,
    "ddim": DDIM,
    "euler": Euler,
    "euler-trailing": functools.partial(Euler, timestep_spacing="trailing"),
    "euler-ancestral": EulerAncestral,
    "lcm": LCM,
    "tcd": TCD,
}


def get_scheduler(
    scheduler: str | Scheduler, schedule: NoiseSchedule | None = None
) -> Scheduler:
    """Give a scheduler by its name, or the one given.

    Args:
        scheduler: A name of `SCHEDULERS`, such as `"dpm++2m"` (the project's default),
            or a `Scheduler`.
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
    if not isinstance(scheduler, str) or scheduler not in SCHEDULERS:
        expected = f"scheduler must be one of {list(SCHEDULERS)}, or a Scheduler"
        raise refusal(expected, scheduler)
    return SCHEDULERS[scheduler](NoiseSchedule() if schedule is None else schedule)
