"""Moving shapes and dancing figures: drawn clips with captions, and what videos show.

Clip number `i` of a seed is the same on every machine. Generated videos are measured
against their captions with classical vision only.
"""

from keras_makeavid.moving_shapes.captions import note_on
from keras_makeavid.moving_shapes.clips import (
    MotionClips,
    encode_motions,
    square_size,
    vae_psnr,
)
from keras_makeavid.moving_shapes.evaluation import (
    Evaluation,
    GeneratedVideo,
    Result,
    evaluate,
    failures,
)
from keras_makeavid.moving_shapes.generation import (
    default_prompts,
    generate_videos,
    read_prompts,
)
from keras_makeavid.moving_shapes.measure import Measured
from keras_makeavid.moving_shapes.rendering import render_at
from keras_makeavid.moving_shapes.report import Gallery, markdown_table, write_report
from keras_makeavid.moving_shapes.world import (
    Description,
    Scene,
    draw_scene_of,
    held_out,
)

__all__ = [
    "Description",
    "Evaluation",
    "Gallery",
    "GeneratedVideo",
    "Measured",
    "MotionClips",
    "Result",
    "Scene",
    "default_prompts",
    "draw_scene_of",
    "encode_motions",
    "evaluate",
    "failures",
    "generate_videos",
    "held_out",
    "markdown_table",
    "note_on",
    "read_prompts",
    "render_at",
    "square_size",
    "vae_psnr",
    "write_report",
]
