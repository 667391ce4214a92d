"""Generated videos of moving shapes, measured against their captions.

With classical vision only: what is counted is what can be seen.
"""

from keras_makeavid.evaluation.evaluation import (
    ATTRIBUTES,
    Evaluation,
    GeneratedVideo,
    Result,
    evaluate,
)
from keras_makeavid.evaluation.gallery import Gallery
from keras_makeavid.evaluation.generation import generate_videos
from keras_makeavid.evaluation.measure import Measured, measure_video, psnr
from keras_makeavid.evaluation.prompts import default_prompts, read_prompts
from keras_makeavid.evaluation.reconstruction import vae_psnr
from keras_makeavid.evaluation.report import markdown_table, write_report
from keras_makeavid.evaluation.thresholds import Thresholds

__all__ = [
    "ATTRIBUTES",
    "Evaluation",
    "Gallery",
    "GeneratedVideo",
    "Measured",
    "Result",
    "Thresholds",
    "default_prompts",
    "evaluate",
    "generate_videos",
    "markdown_table",
    "measure_video",
    "psnr",
    "read_prompts",
    "vae_psnr",
    "write_report",
]
