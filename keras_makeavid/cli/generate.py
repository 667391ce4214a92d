"""Generate a video from a prompt, and from a hint image if there is one."""

from __future__ import annotations

import contextlib
import os
import sys

from keras_makeavid.cli.checks import check_at_least_one
from keras_makeavid.presets import DEFAULT_PRESET

EXAMPLE = 'makeavid generate "a red star moving left" --seed 7 --out star.mp4'

_FORMATS = ("mp4", "gif", "webp", "png")


def add_arguments(option) -> None:
    """Declare the options."""
    option("prompt", help="what to show")
    option(
        "--preset",
        default=DEFAULT_PRESET,
        help="folder or handle of a TextToVideo preset",
    )
    option(
        "--out",
        help="file to write: .mp4, .gif, .webp, or a folder of PNG frames; video.mp4, "
        "or of --format, if not given",
    )
    option(
        "--format",
        choices=_FORMATS,
        help="file format if --out is not given (mp4 by default); png writes a folder",
    )
    option(
        "--sheet",
        help="picture of all frames to write too (.png); beside the video if not given",
    )
    option("--negative", default="", help="what to avoid")
    option("--hint", help="picture to set in motion")
    option("--mask", help="picture: white is to be filled, black is kept")
    option(
        "--background",
        default="white",
        help="colour behind transparent parts of --hint and --mask, such as black or "
        "#808080",
    )
    option("--frames", type=int, help="number of frames; the preset's if not given")
    option(
        "--height", type=int, help="pixels, a multiple of 32; the preset's if not given"
    )
    option(
        "--width", type=int, help="pixels, a multiple of 32; the preset's if not given"
    )
    option("--fps", type=float, help="frames a second; the preset's if not given")
    option("--steps", type=int, default=20, help="sampling steps")
    option(
        "--guidance", type=float, help="weight of the prompt; the preset's if not given"
    )
    option(
        "--image-guidance",
        type=float,
        help="the same for a generated first frame; --guidance if not given",
    )
    option("--scheduler", default="dpm++2m", help="dpm++2m, ddim or euler")
    option(
        "--tile",
        type=int,
        help="pixels a side of the tiles in which large frames are coded, for less "
        "memory; whole frames if not given",
    )
    option(
        "--lora",
        metavar="FILE[:SCALE]",
        action="append",
        default=[],
        type=_lora,
        help="adapters (LoRA) to load, in the form of kohya or diffusers, and their "
        "weight, 1 if not given; may be given again",
    )
    option(
        "--embedding",
        metavar="FILE",
        action="append",
        default=[],
        help="learnt token (textual inversion) to load; may be given again",
    )
    option(
        "--prompt-weighting",
        action="store_true",
        help="let (word), (word:1.3) and [word] weigh words",
    )
    option(
        "--long-prompts",
        action="store_true",
        help="read a prompt of more than 75 tokens in windows, and do not cut it",
    )
    option("--seed", type=int, help="a random one if not given")
    option("--dtype", default="float32", help="dtype policy")


def _lora(text: str) -> tuple[str, float]:
    """The file and the scale, without which a colon is the name's own."""
    path, colon, scale = text.rpartition(":")
    if colon and not os.path.exists(text):
        with contextlib.suppress(ValueError):
            return path, float(scale)
    return text, 1.0


def prepare(options) -> None:
    """Refuse wrong files and numbers, read the pictures, fill in the paths to write."""
    from keras_makeavid import video

    if options.out is None:
        suffix = f".{options.format or 'mp4'}"
        options.out = "video" if suffix == ".png" else f"video{suffix}"
    elif options.format is not None:
        suffix = os.path.splitext(options.out)[1].lower()
        if suffix != ("" if options.format == "png" else f".{options.format}"):
            raise ValueError(
                f"--format {options.format} does not go with --out {options.out}"
            )
    if options.sheet is None:
        options.sheet = f"{os.path.splitext(options.out.rstrip(os.sep))[0]}_sheet.png"
    check_at_least_one(options, "frames", "steps")
    video.check_video_path(options.out, 8 if options.fps is None else options.fps)
    video.check_image_path(options.sheet)
    if options.hint is not None:
        options.hint = video.read_image(options.hint, background=options.background)
    if options.mask is not None:
        options.mask = video.read_mask(options.mask, background=options.background)
    files = [("--lora", path) for path, _ in options.lora]
    files += [("--embedding", path) for path in options.embedding]
    for name, path in files:
        if not os.path.exists(path):
            raise FileNotFoundError(f"{name}: there is no file {path}")
    if options.preset == DEFAULT_PRESET:
        from keras_makeavid.moving_shapes import note_on

        note = note_on(options.prompt)
        if note is not None:
            print(f"note: {note}", file=sys.stderr)


def run(options) -> None:
    """Generate and write."""
    from keras_makeavid import TextToVideo, video

    task = TextToVideo.from_preset(options.preset, dtype=options.dtype)
    for path in options.embedding:
        task.load_embedding(path)
    for path, scale in options.lora:
        task.load_lora(path, scale)
    fps = task.fps if options.fps is None else options.fps
    video.check_video_path(options.out, fps)
    frames = task.generate(
        options.prompt,
        negative_prompts=options.negative,
        hint_image=options.hint,
        mask_image=options.mask,
        num_frames=options.frames,
        height=options.height,
        width=options.width,
        num_steps=options.steps,
        guidance_scale=options.guidance,
        image_guidance_scale=options.image_guidance,
        scheduler=options.scheduler,
        seed=options.seed,
        tile_size=options.tile,
        prompt_weighting=options.prompt_weighting,
        long_prompts=options.long_prompts,
        progress=True,
    )[0]
    video.write_video(options.out, frames, fps=fps)
    video.write_image(options.sheet, video.contact_sheet(frames))
    print(options.out)
    print(options.sheet)
