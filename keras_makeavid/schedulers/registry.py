"""Schedulers by name."""

from __future__ import annotations

from collections.abc import Callable

from keras_makeavid.schedulers.ddim import DDIM
from keras_makeavid.schedulers.dpm_solver import DPMSolverPlusPlus2M
from keras_makeavid.schedulers.euler import Euler
from keras_makeavid.schedulers.noise_schedule import NoiseSchedule
from keras_makeavid.schedulers.scheduler import Scheduler

SCHEDULERS: dict[str, Callable[..., Scheduler]] = {
    "dpm++2m": DPMSolverPlusPlus2M,
    "ddim": DDIM,
    "euler": Euler,
}


def get_scheduler(
    scheduler: str | Scheduler, schedule: NoiseSchedule | None = None
) -> Scheduler:
    """Give a scheduler by its name, or the one given.

    Args:
        scheduler: `"dpm++2m"` (the project's default), `"ddim"`, `"euler"`, or a
            `Scheduler`.
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
    if not isinstance(scheduler, str) or scheduler not in SCHEDULERS:
        raise ValueError(
            f"Unknown scheduler {scheduler!r}, expected one of {list(SCHEDULERS)} or a "
            "Scheduler."
        )
    return SCHEDULERS[scheduler](schedule)
