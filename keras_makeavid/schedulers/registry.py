"""Schedulers by name."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable

from keras_makeavid.schedulers.consistency import LCM, TCD
from keras_makeavid.schedulers.ddim import DDIM
from keras_makeavid.schedulers.diffusers_config import DIFFUSERS_CLASSES
from keras_makeavid.schedulers.dpm_solver import DPMSolverPlusPlus
from keras_makeavid.schedulers.euler import Euler, EulerAncestral
from keras_makeavid.schedulers.noise_schedule import NoiseSchedule
from keras_makeavid.schedulers.scheduler import Scheduler
from keras_makeavid.schedulers.unipc import UniPC

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


def get_scheduler(
    scheduler: str | Scheduler, schedule: NoiseSchedule | None = None
) -> Scheduler:
    """Give a scheduler by its name, or the one given.

    Args:
        scheduler: A name of `SCHEDULERS`, such as `"dpm++2m"` (the project's default),
            diffusers' name of the class, such as `"LCMScheduler"`, or a `Scheduler`.
            A class's name means the defaults of this package, not those of diffusers.
        schedule: `NoiseSchedule` that the model was trained with; `None` means
            Stable Diffusion's for a name, and the scheduler's own for a scheduler.

    Returns:
        A `Scheduler`.

    Raises:
        ValueError: If the name is not known, or the scheduler given has another
            noise schedule than the one asked for.

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
        nearest = difflib.get_close_matches(
            str(scheduler).lower(), known, n=1, cutoff=0.5
        )
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(
            f"Unknown scheduler {scheduler!r}, expected one of {list(SCHEDULERS)}, "
            f"diffusers' {list(DIFFUSERS_CLASSES)}, or a Scheduler.{hint}"
        )
    return known[scheduler](NoiseSchedule() if schedule is None else schedule)
