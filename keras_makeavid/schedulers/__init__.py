"""Noise schedules and samplers: plain arithmetic, no framework state."""

from keras_makeavid.schedulers.consistency import LCM, TCD
from keras_makeavid.schedulers.ddim import DDIM
from keras_makeavid.schedulers.diffusers_config import (
    scheduler_from_diffusers_config,
    scheduler_to_diffusers_config,
)
from keras_makeavid.schedulers.dpm_solver import DPMSolverPlusPlus
from keras_makeavid.schedulers.euler import Euler, EulerAncestral
from keras_makeavid.schedulers.noise_schedule import NoiseSchedule
from keras_makeavid.schedulers.registry import get_scheduler
from keras_makeavid.schedulers.scheduler import Scheduler
from keras_makeavid.schedulers.step_noise import step_noise
from keras_makeavid.schedulers.step_table import (
    SamplerState,
    StepRow,
    StepTable,
    step,
)
from keras_makeavid.schedulers.unipc import UniPC

__all__ = [
    "DDIM",
    "LCM",
    "TCD",
    "DPMSolverPlusPlus",
    "Euler",
    "EulerAncestral",
    "NoiseSchedule",
    "SamplerState",
    "Scheduler",
    "StepRow",
    "StepTable",
    "UniPC",
    "get_scheduler",
    "scheduler_from_diffusers_config",
    "scheduler_to_diffusers_config",
    "step",
    "step_noise",
]
