"""Make frames between those of a clip."""

from __future__ import annotations

from keras_makeavid.cli.generate import (
    add_video_options,
    load_task,
    prepare_sampling,
    settings,
    write,
)
from keras_makeavid.cli.options import check_at_least_one

EXAMPLE = "makeavid interpolate clip.mp4 --factor 4 --out smooth.mp4"


def add_arguments(option) -> None:
    """Declare the options."""
    add_clip_arguments(option)
    option("--factor", type=int, default=4, help="frames that there are then for one")
    add_video_options(option)


def add_clip_arguments(option) -> None:
    """Declare the clip that a command goes on from, and its prompt."""
    option("clip", help="video file")
    option("--prompt", default="", help="what it shows; none is without guidance")


def prepare(options) -> None:
    """Refuse wrong files and numbers; read the clip and its rate."""
    check_at_least_one(options, "factor", "steps")
    prepare_clip(options)


def prepare_clip(options) -> None:
    """Read the clip, and settle the rate: its own if none is asked for."""
    from keras_makeavid import video

    prepare_sampling(options)
    path, fps = options.clip, options.fps
    options.clip = video.read_video(path, fps=fps, background=options.background)
    if fps is None:
        options.fps = video.probe(path).fps


def run(options) -> None:
    """Load, interpolate and write."""
    from keras_makeavid import video

    fps = options.fps * options.factor
    video.check_video_path(options.out, fps)
    arguments = settings(options)
    if options.guidance is not None:
        arguments["guidance_scale"] = options.guidance
    task = load_task(options)
    frames = task.interpolate(options.clip, options.factor, options.prompt, **arguments)
    write(options, frames[0], fps)
