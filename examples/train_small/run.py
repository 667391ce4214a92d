"""Train a small text-to-video model of moving shapes, from nothing.

    python examples/train_small/run.py runs/small

The published way in small, by the package's own commands: a VAE, an image inpainting
UNet with its text encoder, inflation, the temporal parameters, then all of them; the
image model learns on to make first frames; an evaluation in the end. It can be stopped
at any moment: the same command goes on.
Exits with 1 when the evaluation has found the model below the bar.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAKEAVID = [sys.executable, "-m", "keras_makeavid"]
SHORT_RECIPES = (
    *("data.batch_size=8", "stage.*.length=2 steps"),
    *("stage.*.learning_rate.warmup=1 steps", "logs.tensorboard=false"),
)


def steps(short: bool) -> dict[str, list[list]]:
    """Commands by what they make, whole or not at all, or go on with."""

    def train(recipe):
        keys = SHORT_RECIPES if short else ()
        settings = [word for key in keys for word in ("--set", key)]
        return [*MAKEAVID, "train", HERE / recipe, "--resume", "auto", *settings]

    clips, count, seeds = (8, 1, 1) if short else (12000, 40, 4)
    small = "makeavid_motions_small"
    weights = [*MAKEAVID, "weights"]
    finish = [sys.executable, HERE / "finish.py"]
    drawn = ["--preset", "inflated", "--clips", str(clips), "--half"]
    dataset = [*MAKEAVID, "dataset", "motions", "dataset", *drawn]
    spins = [*MAKEAVID, "dataset", "motions", "spins", *drawn, "--seed", "1"]
    spins += ["--often", "spinning", "0.4"]
    # The name alone is that of the model that comes with the package.
    evaluate = [*MAKEAVID, "evaluate", "--preset", f"./{small}", "--out", "evaluation"]
    evaluate += ["--count", str(count), "--seeds", str(seeds)]
    return {
        "new": [[sys.executable, HERE / "new_model.py", "new"]],
        "vae/preset": [train("vae.toml")],
        "image/preset": [train("image.toml")],
        "pipeline": [
            [*weights, "convert", "image/preset", "pipeline", "--layout", "diffusers"]
        ],
        "inflated": [[*weights, "inflate", "pipeline", "inflated"]],
        "video/preset": [
            dataset,
            spins,
            train("video.toml"),
        ],
        "first_frames/preset": [train("first_frames.toml")],
        "finished": [[*finish, "video/preset", "first_frames/preset", "finished"]],
        small: [[*weights, "convert", "finished", small, "--dtype", "float16"]],
        "evaluation/gallery.png": [evaluate],
    }


def main() -> int:
    """Take the steps whose results are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where everything goes")
    parser.add_argument("--short", action="store_true", help="two updates a stage")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for result, commands in steps(options.short).items():
        if (options.folder / result).exists():
            print(f"{result}: is there", flush=True)
            continue
        start = time.time()
        for command in commands:
            environment = {"KERAS_BACKEND": "torch", **os.environ}
            done = subprocess.run(command, cwd=options.folder, env=environment)
            if done.returncode:
                return done.returncode
        print(f"{result}: {time.time() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
