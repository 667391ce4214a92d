"""Make the small model that comes with the package, from nothing.

    python examples/train_small/run.py runs/small

The published way in small, by the package's own commands: a VAE, an image inpainting
UNet with its text encoder, inflation, the temporal parameters, then all of them. It
can be stopped at any moment; the same command goes on. Takes less than 6 hours on two
cores; `evaluation/` then tells how good the model is.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAKEAVID = [sys.executable, "-m", "keras_makeavid"]
CLIPS = 24000
# Each makes what it is named after, whole or not at all, or goes on where it was.
STEPS = {
    "new": [[sys.executable, HERE / "new_model.py", "new"]],
    "vae/preset": [[*MAKEAVID, "train", HERE / "vae.toml", "--resume", "auto"]],
    "image/preset": [[*MAKEAVID, "train", HERE / "image.toml", "--resume", "auto"]],
    "pipeline": [
        [
            *(*MAKEAVID, "weights", "convert", "image/preset", "pipeline"),
            *("--layout", "diffusers"),
        ]
    ],
    "inflated": [[*MAKEAVID, "weights", "inflate", "pipeline", "inflated"]],
    "video/preset": [
        [
            *(*MAKEAVID, "dataset", "motions", "dataset", "--preset", "inflated"),
            *("--clips", str(CLIPS), "--half"),
        ],
        [*MAKEAVID, "train", HERE / "video.toml", "--resume", "auto"],
    ],
    "makeavid_motions_small": [
        [
            *(*MAKEAVID, "weights", "convert", "video/preset"),
            *("makeavid_motions_small", "--dtype", "float16"),
        ]
    ],
    "evaluation/evaluation.json": [
        [
            *(*MAKEAVID, "evaluate", "--preset", "makeavid_motions_small"),
            *("--count", "40", "--out", "evaluation"),
        ]
    ],
}


def main() -> int:
    """Take the steps whose results are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where everything goes")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    environment = {"KERAS_BACKEND": "jax", **os.environ}
    for result, commands in STEPS.items():
        if (options.folder / result).exists():
            print(f"{result}: is there", flush=True)
            continue
        start = time.time()
        for command in commands:
            done = subprocess.run(command, cwd=options.folder, env=environment)
            if done.returncode:
                return done.returncode
        print(f"{result}: {time.time() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
