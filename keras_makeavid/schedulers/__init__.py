"""Noise schedules and samplers: plain arithmetic, no framework state."""

from keras_makeavid.schedulers.multistep import DPMSolverPlusPlus, UniPC
from keras_makeavid.schedulers.noise_schedule import NoiseSchedule
from keras_makeavid.schedulers.registry import get_scheduler
from keras_makeavid.schedulers.scheduler import Scheduler
from keras_makeavid.schedulers.single_step import DDIM, LCM, TCD, Euler, EulerAncestral
from keras_makeavid.schedulers.step_table import (
    SamplerState,
    StepRow,
    StepTable,
    step,
    step_noise,
)

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
    "step",
    "step_noise",
]
