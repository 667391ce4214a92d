"""Time one training step as a share of the machine's GEMM rate.

    KERAS_BACKEND=jax python benchmarks/train_step.py

The step is that of `fit`: `VideoDiffusion` with `AdamW`, temporal parameters,
`block_channels (64, 128, 256, 256)`, context 768, 8 frames of 32 x 32 latents, batch 1,
float32. The original took 3.25 s and 4.5 GB on a machine whose XLA multiplied
2048 x 2048 float32 at 458 GFLOP/s: `seconds_at_458` is the time scaled to that rate,
which is measured in the same process. Memory is the highest resident memory above the
level before the first step, before a later one, and in all. `--small` times a step of
examples/train_small/video.toml without averages and dropped captions instead: the
model in the box, all parameters, mixed_bfloat16, 16 clips of 16 frames.
"""

import argparse
import json
import os
import resource

# As `makeavid train` does.
from keras_makeavid.cli import XLA_FLAGS

os.environ.setdefault("XLA_FLAGS", XLA_FLAGS)

import forward
import keras
import numpy as np

import keras_makeavid
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.training import AdamW, VideoDiffusion

ORIGINAL_RATE = 458.0


def main():
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trainable", help="temporal by default, all with --small")
    parser.add_argument("--small", action="store_true", help="the model in the box")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    if arguments.small:
        unet = keras_makeavid.TextToVideo.from_preset(
            "makeavid_motions_small", dtype="mixed_bfloat16"
        ).backbone
        trainable, latents, context = "all", (16, 16, 8, 8, 8), (16, 24, 128)
    else:
        unet = UNetPseudo3D(block_channels=(64, 128, 256, 256))
        trainable, latents, context = "temporal", (1, 8, 32, 32, 4), (1, 77, 768)
    model = VideoDiffusion(
        unet,
        schedule=NoiseSchedule(),
        latent_scale=1.0,
        trainable=arguments.trainable or trainable,
        seed=0,
    )
    model.compile(optimizer=AdamW())
    rng = np.random.default_rng(0)
    batch = {
        "latents": rng.standard_normal(latents, "float32"),
        "context": rng.standard_normal(context, "float32"),
    }

    def steps(count):
        model.fit(
            ((batch,) for _ in range(count)),
            steps_per_epoch=count,
            shuffle=False,
            verbose=0,
        )

    rate_before = forward.gemm_rate()
    with forward.PeakMemory() as first_memory:
        steps(1)
    seconds = forward.best_seconds(lambda: steps(1), arguments.repeats)
    with forward.PeakMemory() as memory:
        steps(1)
    rate = max(rate_before, forward.gemm_rate())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-6
    result = {
        "backend": keras.config.backend(),
        "seconds": round(seconds, 3),
        "gemm_gflop_per_second": round(rate, 1),
        "seconds_at_458": round(seconds * rate / ORIGINAL_RATE, 3),
        # The first step includes compilation, except under torch.
        "first_step_memory_rise_gb": round(first_memory.rise, 2),
        "memory_rise_gb": round(memory.rise, 2),
        "peak_resident_gb": round(peak, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
