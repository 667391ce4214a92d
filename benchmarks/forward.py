"""Time one UNet forward pass as a share of the machine's GEMM rate.

    KERAS_BACKEND=torch python benchmarks/forward.py

The pass (`block_channels (64, 128, 256, 256)`, context 768, 8 frames of 32 x 32
latents, batch 1, float32) is 86.2 GFLOP as first written. The GEMM rate is XLA's
on 2048 x 2048 float32, measured in the same process just before and after.
"""

import argparse
import json
import os
import threading
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_makeavid.compilation import compile_inference
from keras_makeavid.models import UNetPseudo3D

GFLOP = 86.2


def gemm_rate(size: int = 2048, repeats: int = 10) -> float:
    """Best float32 GEMM rate of XLA in GFLOP/s."""
    import jax

    a = jax.numpy.ones((size, size))
    multiply = jax.jit(lambda x: x @ x)
    return (
        2e-9 * size**3 / best_seconds(lambda: multiply(a).block_until_ready(), repeats)
    )


def best_seconds(run, repeats: int) -> float:
    """Shortest of `repeats` runs after one warm-up."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


class PeakMemory:
    """Highest resident memory in a `with` block above the level at its start."""

    def __enter__(self):
        self._stop = threading.Event()
        self._start = self._peak = self._resident()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        self.rise = (self._peak - self._start) / 1e9

    def _watch(self):
        while not self._stop.wait(0.002):
            self._peak = max(self._peak, self._resident())

    @staticmethod
    def _resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def main():
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    unet = UNetPseudo3D(block_channels=(64, 128, 256, 256))
    forward = compile_inference(unet, [unet])
    rng = np.random.default_rng(0)
    inputs = {
        "sample": rng.standard_normal((1, 8, 32, 32, 9), "float32"),
        "timesteps": np.array([500], "int32"),
        "context": rng.standard_normal((1, 77, 768), "float32"),
    }
    inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)

    def run():
        return keras.ops.convert_to_numpy(forward(inputs))

    rate_before = gemm_rate()
    start = time.perf_counter()
    with PeakMemory() as first_memory:
        run()
    first = time.perf_counter() - start
    seconds = best_seconds(run, arguments.repeats)
    with PeakMemory() as memory:
        run()
    rate = max(rate_before, gemm_rate())
    result = {
        "backend": keras.config.backend(),
        "seconds": round(seconds, 3),
        "first_call_seconds": round(first, 1),
        "gemm_gflop_per_second": round(rate, 1),
        "share_of_gemm_rate": round(GFLOP / seconds / rate, 3),
        # The first call includes compilation, except under torch.
        "first_call_memory_rise_gb": round(first_memory.rise, 2),
        "memory_rise_gb": round(memory.rise, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
