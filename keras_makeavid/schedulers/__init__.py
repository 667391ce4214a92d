"""Noise schedules and samplers: plain arithmetic, no framework state."""

from keras_makeavid.schedulers.ddim import DDIM
from keras_makeavid.schedulers.dpm_solver import DPMSolverPlusPlus2M
from keras_makeavid.schedulers.euler import Euler
from keras_makeavid.schedulers.noise_schedule import NoiseSchedule
from keras_makeavid.schedulers.registry import get_scheduler
from keras_makeavid.schedulers.scheduler import Scheduler
from keras_makeavid.schedulers.step_table import StepRow, StepTable, step

__all__ = [
    "DDIM",
    "DPMSolverPlusPlus2M",
    "Euler",
    "NoiseSchedule",
    "Scheduler",
    "StepRow",
    "StepTable",
    "get_scheduler",
    "step",
]
