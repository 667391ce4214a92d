"""Train a small text-to-video model of moving shapes, from nothing.

    python examples/train_small/run.py runs/small

The published way in small, by the package's own commands: a VAE, an image inpainting
UNet with its text encoder, inflation, the temporal parameters, then all of them, twice,
and once more with frames that are given by the mask. The image model learns on to make
first frames, beside the temporal parameters, each on half of the cores. An adapter
makes videos in four steps. Evaluations come last. It can be stopped at any moment: the
same command goes on.
Exits with 1 when the evaluation has found the model below the bar.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAKEAVID = [sys.executable, "-m", "keras_makeavid"]
SHORT_RECIPES = (
    *("data.batch_size=2", "stage.*.length=2 steps"),
    *("stage.*.learning_rate.warmup=1 steps", "logs.tensorboard=false"),
)


def steps(short: bool) -> list[list[dict[str, list[list]]]]:
    """What follows one another, of lanes beside one another, of commands by result.

    A command makes its result whole or not at all, or goes on with it.
    """

    def train(recipe):
        keys = SHORT_RECIPES if short else ()
        settings = [word for key in keys for word in ("--set", key)]
        return [*MAKEAVID, "train", HERE / recipe, "--resume", "auto", *settings]

    clips, slow_clips, count, seeds = (2, 2, 1, 1) if short else (12000, 2000, 24, 4)
    small = "makeavid_motions_small"
    weights = [*MAKEAVID, "weights"]
    finish = [sys.executable, HERE / "finish.py"]
    draw = [*MAKEAVID, "dataset", "motions", "--preset", "inflated", "--half"]
    # Turning outlines are the hardest.
    dataset = [*draw, "dataset", "--clips", str(clips), "--often", "spinning", "0.25"]
    turning = [*draw, "turning", "--clips", str(clips), "--often", "spinning", "0.5"]
    turning += ["--seed", "2"]
    # Clips of four times the length are four times as slow.
    slow = [*draw, "slow", "--clips", str(slow_clips), "--frames", "64", "--seed", "1"]
    # The name alone is that of the model that comes with the package.
    evaluate = [*MAKEAVID, "evaluate", "--preset", f"./{small}"]
    evaluate += ["--count", str(count), "--seeds", str(seeds)]
    evaluate += ["--steps", "2"] if short else []
    images = {
        "new": [[sys.executable, HERE / "new_model.py", "new"]],
        "vae/preset": [train("vae.toml")],
        "image/preset": [train("image.toml")],
    }
    temporal = {
        "pipeline": [
            [*weights, "convert", "image/preset", "pipeline", "--layout", "diffusers"]
        ],
        "inflated": [[*weights, "inflate", "pipeline", "inflated"]],
        "temporal/preset": [dataset, train("temporal.toml")],
    }
    first_frames = {"first_frames/preset": [train("first_frames.toml")]}
    videos = {
        "video/preset": [train("video.toml")],
        "refined/preset": [train("refine.toml")],
        "given/preset": [slow, train("given.toml")],
        "turned/preset": [turning, train("turning.toml")],
        "finished": [[*finish, "turned/preset", "first_frames/preset", "finished"]],
        small: [[*weights, "convert", "finished", small, "--dtype", "float16"]],
        "few_steps/lora.safetensors": [train("few_steps.toml")],
        f"{small}/few_steps.safetensors": [
            [sys.executable, HERE / "adapter.py", "few_steps/lora.safetensors", small]
        ],
        "few_steps/evaluation/evaluation.html": [
            [*evaluate, "--few-steps", "--no-bar", "--out", "few_steps/evaluation"]
        ],
        # It ends with 1 below the bar.
        "evaluation/evaluation.html": [[*evaluate, "--out", "evaluation"]],
    }
    return [[images], [temporal, first_frames], [videos]]


def tell(line: str) -> None:
    """Print a line in one piece: lanes print at the same time."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def take(
    lane: dict[str, list[list]], folder: Path, environment: dict, ended: list[int]
) -> None:
    """Take the steps of a lane whose results are not there yet.

    It stops when there is something in `ended`: exit codes, of a step of this lane or
    of another that failed, or of a signal.
    """
    for result, commands in lane.items():
        if (folder / result).exists():
            tell(f"{result}: is there")
            continue
        start = time.time()
        for command in commands:
            # In a group of its own: told by Ctrl-C and by us, a training would take
            # the second signal as an order to leave without its checkpoint.
            process = subprocess.Popen(
                command, cwd=folder, env=environment, process_group=0
            )
            while process.poll() is None and not ended:
                time.sleep(0.5)
            if ended:
                process.terminate()
            code = process.wait()
            if code and not ended:
                ended.append(code if code > 0 else 128 - code)
                print(f"{result}: exit code {ended[0]}", file=sys.stderr)
            if ended:
                return
        tell(f"{result}: {time.time() - start:.0f} s")


def main() -> int:
    """Take the steps whose results are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where everything goes")
    parser.add_argument("--short", action="store_true", help="two updates a stage")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    ended = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: ended.append(128 + number))
    for lanes in steps(options.short):
        environment = {"KERAS_BACKEND": "torch", **os.environ}
        if len(lanes) > 1:
            threads = max(1, (os.cpu_count() or 1) // len(lanes))
            environment["OMP_NUM_THREADS"] = str(threads)
        with ThreadPoolExecutor() as pool:
            taken = [
                pool.submit(take, lane, options.folder, environment, ended)
                for lane in lanes
            ]
        for lane in taken:
            lane.result()
        if ended:
            return ended[0]
    evaluation = json.loads((options.folder / "evaluation/evaluation.json").read_text())
    return 1 if evaluation["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
