"""A pass of the small preset's UNet in int8 against float32: time, memory, error.

KERAS_BACKEND=torch python benchmarks/int8.py
"""

import time

import keras
import numpy as np
from keras import ops

from keras_makeavid import TextToVideo
from keras_makeavid.compilation import compile_inference

PASSES = 5


def main():
    """Print one line for each; passes take turns, for the machine may be busy."""
    random = np.random.default_rng(0)
    task = TextToVideo.from_preset("makeavid_motions_small")
    context = task.encode_prompts(["a red star moving left"])
    shape = (1, 16, 8, 8, task.backbone.in_channels)
    sample = ops.convert_to_tensor(random.standard_normal(shape, "float32"))
    inputs = {"sample": sample, "timesteps": ops.array([500]), "context": context}

    unets = {"float32": task.backbone}
    small = TextToVideo.from_preset("makeavid_motions_small", dtype="int8_from_float32")
    unets["int8"] = small.backbone
    programs = {name: compile_inference(unet, [unet]) for name, unet in unets.items()}
    outputs = {n: ops.convert_to_numpy(run(inputs)) for n, run in programs.items()}
    seconds = {name: [] for name in programs}
    for _ in range(PASSES):
        for name, run in programs.items():
            start = time.perf_counter()
            ops.convert_to_numpy(run(inputs))
            seconds[name].append(time.perf_counter() - start)
    whole = outputs["float32"]
    for name, unet in unets.items():
        size = sum(
            np.prod(v.shape) * (1 if "int8" in str(v.dtype) else 4)
            for v in unet.variables
        )
        error = np.linalg.norm(outputs[name] - whole) / np.linalg.norm(whole)
        print(
            f"{keras.config.backend():10} {name:8} {min(seconds[name]) * 1e3:6.0f} ms "
            f"{size / 1e6:6.1f} MB  error {100 * error:.2f} %"
        )


if __name__ == "__main__":
    main()
