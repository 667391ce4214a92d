"""Continue a clip."""

from __future__ import annotations

from keras_makeavid.cli.generate import (
    add_video_options,
    load_task,
    settings,
    write,
)
from keras_makeavid.cli.interpolate import add_clip_arguments, prepare_clip
from keras_makeavid.cli.options import check_at_least_one

EXAMPLE = "makeavid extend clip.mp4 --frames 64 --out longer.mp4"


def add_arguments(option) -> None:
    """Declare the options."""
    add_clip_arguments(option)
    option(
        "--frames",
        type=int,
        required=True,
        help="frames of the result, those of the clip too",
    )
    option(
        "--context-frames",
        type=int,
        default=4,
        help="last frames that each continuation is made from",
    )
    add_video_options(option)


def prepare(options) -> None:
    """Refuse wrong files and numbers; read the clip and its rate."""
    check_at_least_one(options, "frames", "context_frames", "steps")
    prepare_clip(options)


def run(options) -> None:
    """Load, extend and write."""
    arguments = settings(options)
    if options.guidance is not None:
        arguments["guidance_scale"] = options.guidance
    frames = load_task(options).extend(
        options.clip,
        options.frames,
        options.prompt,
        context_frames=options.context_frames,
        **arguments,
    )
    write(options, frames[0], options.fps)
