"""Train the UNet of a preset on a latent dataset."""

from __future__ import annotations

import sys

EXAMPLE = "makeavid train dataset trained --preset PRESET --epochs 10"


def add_arguments(parser) -> None:
    """Declare the options."""
    parser.add_argument("dataset", help="dataset folder, as `makeavid encode` writes")
    parser.add_argument("out", help="preset folder to write")
    parser.add_argument(
        "--preset", required=True, help="folder or handle of a TextToVideo preset"
    )
    parser.add_argument(
        "--trainable",
        default="temporal",
        help="temporal, all, or a regular expression on the paths of layers",
    )
    parser.add_argument("--epochs", type=int, default=1, help="epochs to train")
    parser.add_argument(
        "--samples", type=int, help="samples an epoch; one of each clip if not given"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="samples a step")
    parser.add_argument("--frames", type=int, default=24, help="frames of a sample")
    parser.add_argument(
        "--learning-rate", type=float, default=5e-5, help="of AdamW, constant"
    )
    parser.add_argument(
        "--hint-spacing", type=int, help="frames between hints; first only if not given"
    )
    parser.add_argument("--seed", type=int, default=0, help="of data, noise and steps")
    parser.add_argument("--dtype", default="float32", help="dtype policy")


def run(options) -> None:
    """Train and write the new preset."""
    from keras_makeavid import TextToVideo
    from keras_makeavid.data import LatentDataset
    from keras_makeavid.files import check_replaceable_folder
    from keras_makeavid.training import AdamW, VideoDiffusion

    check_replaceable_folder(options.out, "task.json")
    task = TextToVideo.from_preset(options.preset, dtype=options.dtype)
    dataset = LatentDataset(
        options.dataset,
        batch_size=options.batch_size,
        num_frames=options.frames,
        samples_per_epoch=options.samples,
        seed=options.seed,
        scale=task.vae.scaling_factor,
    )
    model = VideoDiffusion(
        task.backbone,
        task.schedule,
        trainable=options.trainable,
        hint_spacing=options.hint_spacing,
        seed=options.seed,
    )
    model.compile(optimizer=AdamW(options.learning_rate))
    # Keras draws its bar on standard output.
    verbose = 1 if sys.stdout.isatty() else 2
    # The dataset shuffles itself, from the seed.
    model.fit(dataset, epochs=options.epochs, verbose=verbose, shuffle=False)
    task.save_to_preset(options.out)
    print(options.out)
