"""Check a latent dataset, convert its layout, or draw one."""

import sys

from keras_makeavid.cli.options import check_at_least_one
from keras_makeavid.progress import progress_bar
from keras_makeavid.validation import refusal

_DATASET = "dataset folder, in either layout"


class Check:
    """Read every number of a dataset and name the clips that are damaged."""

    EXAMPLE = "makeavid dataset check dataset --leave-out"
    USES_MODELS = False

    def add_arguments(self, option) -> None:
        option("dataset", help=_DATASET)
        option("--leave-out", default=False, help="have training leave out the damaged")

    def run(self, options) -> int:
        """Check, and say what is damaged; 1 if such clips were not left out."""
        from keras_makeavid.data import check_dataset, open_dataset

        unopened: dict[str, str] = {}
        opened = len(open_dataset(options.dataset, damaged=unopened))
        with progress_bar(opened, "check", unit="clip") as bar:
            damaged = check_dataset(
                options.dataset, options.leave_out, lambda clip_id: bar.update(1)
            )
        for problem in damaged.values():
            print(problem, file=sys.stderr)
        outcome = "left out from now on" if options.leave_out else "damaged"
        whole = opened + len(unopened) - len(damaged)
        print(f"{options.dataset}: {whole} clips are whole, {len(damaged)} {outcome}")
        return 1 if damaged and not options.leave_out else 0


class Convert:
    """Copy a dataset into another layout: few large files, or three files a clip."""

    EXAMPLE = "makeavid dataset convert tempofunk-sdance dataset --half"
    USES_MODELS = False

    def add_arguments(self, option) -> None:
        option("dataset", help=_DATASET)
        option("out", help="folder to make")
        option(
            "--layout",
            choices=("sharded", "published"),
            default="sharded",
            help="few large files, or TempoFunk's three files a clip",
        )
        option("--half", default=False, help="store float16 (sharded layout only)")

    def run(self, options) -> None:
        from keras_makeavid.data import convert_dataset, open_dataset

        dataset = open_dataset(options.dataset)
        with progress_bar(len(dataset), "convert", unit="clip") as bar:
            out, layout, half = options.out, options.layout, options.half
            convert_dataset(dataset, out, layout, half, lambda clip_id: bar.update(1))
        print(f"{options.out}: {len(dataset)} clips")


class Motions:
    """Draw captioned clips of moving shapes, and encode them as a latent dataset."""

    EXAMPLE = "makeavid dataset motions dataset --preset PRESET --clips 20000 --half"

    def add_arguments(self, option) -> None:
        option("out", help="dataset folder, continued if it is there")
        option("--preset", required=True, help="whose VAE and text encoder to use")
        option("--clips", default=1000, help="number of clips")
        option("--seed", default=0, help="of the clips")
        splits = ("train", "held_out")
        option("--split", choices=splits, default="train", help="what goes together")
        option(
            "--often",
            nargs=2,
            metavar=("MOTION", "SHARE"),
            help="a motion, and the share of clips that surely show it",
        )
        option("--frames", default=16, help="frames of each clip")
        option("--half", default=False, help="store float16")

    def prepare(self, options) -> None:
        from keras_makeavid.moving_shapes import MotionClips

        check_at_least_one(options, "clips", "frames")
        if options.often is not None:
            motion, share = options.often
            try:
                options.often = motion, float(share)
            except ValueError:
                raise refusal("The share must be a number", share) from None
        MotionClips(often=options.often)

    def run(self, options) -> None:
        from keras_makeavid import TextToVideo, moving_shapes

        task = TextToVideo.from_preset(options.preset, dtype="float32")
        size, often = moving_shapes.square_size(task), options.often
        clips = moving_shapes.MotionClips(
            options.seed, options.split, options.frames, size, often
        )
        with progress_bar(options.clips, "encode", unit="clip") as bar:
            encoded = moving_shapes.encode_motions(
                clips,
                options.clips,
                options.out,
                task.vae,
                task.text_encoder,
                task.preprocessor.tokenize,
                half=options.half,
                on_clip=lambda clip_id: bar.update(1),
            )
        found = options.clips - encoded
        print(f"{options.out}: {encoded} clips encoded, {found} found")


COMMANDS = {
    "check": Check(),
    "convert": Convert(),
    "motions": Motions(),
}
