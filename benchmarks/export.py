"""A video of the small preset by exported parts, and by Keras, in turns.

    KERAS_BACKEND=torch python benchmarks/export.py --out docs/export.png
    KERAS_BACKEND=tensorflow python benchmarks/export.py

measures the formats that are written under the backend. `--out` draws frames of each
video, a row for each format.
"""

import argparse
import importlib.util
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageDraw

from keras_makeavid import TextToVideo
from keras_makeavid.exporting import FORMATS, export

PRESET = "makeavid_motions_small"
PROMPT = "a red star moving left"
STEPS, ROUNDS = 20, 3


def runner_of(folder):
    """The `run.py` of an export, as a module."""
    spec = importlib.util.spec_from_file_location("run", folder / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(videos, path):
    """Write every fourth frame of videos `(F, H, W, 3)` in [-1, 1], under labels."""
    rows = []
    for label, video in videos.items():
        pixels = np.rint((video[::4].clip(-1, 1) + 1) * 127.5).astype("uint8")
        row = Image.fromarray(np.concatenate([*pixels], 1))
        title = Image.new("RGB", (row.width, 14), "white")
        ImageDraw.Draw(title).text((2, 1), label, "black")
        rows += [np.asarray(title), np.asarray(row)]
    Image.fromarray(np.concatenate(rows)).save(path)


def main():
    """Print a line for each: seconds of a video, size of the parts, difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="picture to write")
    options = parser.parse_args()
    task = TextToVideo.from_preset(PRESET)
    scale, sizes = task.guidance_scale, (task.num_frames, task.height, task.width)
    backend = keras.config.backend()

    def by_keras():
        latents = task.generate(PROMPT, seed=7, num_steps=STEPS, output="latents")
        return keras.ops.convert_to_numpy(task.vae.decode(latents))[0]

    makers, megabytes = {f"keras, {backend}": by_keras}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in FORMATS.items():
            if kind.backend != backend:
                continue
            for precision in kind.precisions:
                label = f"{name}, {precision}"
                out = Path(folder, label)
                export(PRESET, out, name, precision=precision)
                run = runner_of(out).generate
                makers[label] = lambda run=run: run(PROMPT, "", 7, STEPS, scale, *sizes)
                parts = [path for path in out.rglob("*") if path.is_file()]
                megabytes[label] = sum(path.stat().st_size for path in parts) / 1e6
        seconds, videos = {label: [] for label in makers}, {}
        for _ in range(ROUNDS):
            for label, make in makers.items():
                start = time.perf_counter()
                videos[label] = make()
                seconds[label].append(time.perf_counter() - start)
    whole = next(iter(videos.values()))
    for label, video in videos.items():
        error = np.abs(video - whole).max() / np.ptp(whole)
        size = f"{megabytes[label]:6.1f} MB" if label in megabytes else " " * 9
        print(f"{label:20} {min(seconds[label]):6.2f} s {size}  difference {error:.1e}")
    if options.out is not None:
        draw(videos, options.out)


if __name__ == "__main__":
    main()
