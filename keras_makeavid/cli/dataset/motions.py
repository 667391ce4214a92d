"""Draw clips of moving shapes with captions, and encode them as a latent dataset."""

from __future__ import annotations

import os

from keras_makeavid.cli.options import check_at_least_one

EXAMPLE = "makeavid dataset motions dataset --preset PRESET --clips 20000 --half"


def add_arguments(option) -> None:
    """Declare the options."""
    option("out", help="dataset folder, continued if it is there")
    option("--preset", required=True, help="preset whose VAE and text encoder to use")
    option("--clips", type=int, default=1000, help="number of clips")
    option("--seed", type=int, default=0, help="of the clips")
    option(
        "--split",
        choices=("train", "held_out"),
        default="train",
        help="which colours, shapes and motions go together",
    )
    option(
        "--often",
        nargs=2,
        metavar=("MOTION", "SHARE"),
        help="a motion, and the share of clips that are sure to show it, such as "
        "spinning 0.4",
    )
    option("--frames", type=int, default=16, help="frames of each clip")
    option("--half", action="store_true", help="store float16")
    option(
        "--workers",
        type=int,
        default=os.cpu_count(),
        help="processes that draw clips while this one encodes them; 0 for none",
    )


def prepare(options) -> None:
    """Refuse wrong numbers and motions."""
    from keras_makeavid.moving_shapes import MotionClips

    check_at_least_one(options, "clips", "frames")
    if options.workers < 0:
        raise ValueError(f"--workers must be 0 or more. Received: {options.workers}")
    if options.often is not None:
        motion, share = options.often
        try:
            options.often = motion, float(share)
        except ValueError:
            raise ValueError(
                f"The share must be a number. Received: {share!r}"
            ) from None
    MotionClips(often=options.often)


def run(options) -> None:
    """Draw and encode."""
    from keras_makeavid import TextToVideo
    from keras_makeavid.moving_shapes import MotionClips, encode_motions, square_size
    from keras_makeavid.progress import progress_bar

    task = TextToVideo.from_preset(options.preset, dtype="float32")
    size = square_size(task)
    clips = MotionClips(
        options.seed, options.split, options.frames, size, options.often
    )
    with progress_bar(options.clips, "encode", unit="clip") as bar:
        encoded = encode_motions(
            clips,
            options.clips,
            options.out,
            task.vae,
            task.text_encoder,
            task.preprocessor.tokenize,
            half=options.half,
            num_workers=options.workers,
            on_clip=lambda clip_id: bar.update(1),
        )
    print(f"{options.out}: {encoded} clips encoded, {options.clips - encoded} found")
