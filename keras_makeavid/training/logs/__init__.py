"""What a training run tells while it runs, and where."""

from keras_makeavid.training.logs.console_log import ConsoleLog
from keras_makeavid.training.logs.metrics_file import MetricsFile, read_metrics
from keras_makeavid.training.logs.pace import Pace, peak_memory_gb
from keras_makeavid.training.logs.run_log import RunLog
from keras_makeavid.training.logs.silent_log import SilentLog
from keras_makeavid.training.logs.step_log import StepLog
from keras_makeavid.training.logs.tensorboard_log import TensorBoardLog
from keras_makeavid.training.logs.wandb_log import WandbLog

__all__ = [
    "ConsoleLog",
    "MetricsFile",
    "Pace",
    "RunLog",
    "SilentLog",
    "StepLog",
    "TensorBoardLog",
    "WandbLog",
    "peak_memory_gb",
    "read_metrics",
]
