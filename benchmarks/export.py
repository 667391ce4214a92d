"""A video of the small preset by exported parts, and by Keras under torch, in turns.

KERAS_BACKEND=torch python benchmarks/export.py
"""

import importlib.util
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keras_makeavid import TextToVideo
from keras_makeavid.exporting import FORMATS, export

PRESET = "makeavid_motions_small"
STEPS, ROUNDS = 4, 3


def runner_of(folder):
    """The `run.py` of an export, as a module."""
    spec = importlib.util.spec_from_file_location("run", folder / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    """Print a line for each: seconds of a video, size of the parts, difference."""
    task = TextToVideo.from_preset(PRESET)
    scale, sizes = task.guidance_scale, (task.num_frames, task.height, task.width)
    prompt = "a red star moving left"

    def by_keras():
        latents = task.generate(prompt, seed=7, num_steps=STEPS, output="latents")
        return keras.ops.convert_to_numpy(task.vae.decode(latents))[0]

    makers, megabytes = {"keras, torch": by_keras}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in FORMATS.items():
            if kind.backend != keras.config.backend():
                continue
            for precision in kind.precisions:
                label = f"{name}, {precision}"
                out = Path(folder, label)
                export(PRESET, out, name, precision=precision)
                run = runner_of(out).generate
                makers[label] = lambda run=run: run(prompt, "", 7, STEPS, scale, *sizes)
                parts = [path for path in out.rglob("*") if path.is_file()]
                megabytes[label] = sum(path.stat().st_size for path in parts) / 1e6
        seconds, videos = {label: [] for label in makers}, {}
        for _ in range(ROUNDS):
            for label, make in makers.items():
                start = time.perf_counter()
                videos[label] = make()
                seconds[label].append(time.perf_counter() - start)
    whole = videos["keras, torch"]
    for label, video in videos.items():
        error = np.abs(video - whole).max() / np.ptp(whole)
        size = f"{megabytes[label]:6.1f} MB" if label in megabytes else " " * 9
        print(f"{label:20} {min(seconds[label]):6.2f} s {size}  difference {error:.1e}")


if __name__ == "__main__":
    main()
