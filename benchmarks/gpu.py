"""Time and weigh the full-size UNet on one GPU, beside diffusers' on the same card.

    python benchmarks/gpu.py              # a GPU; at most 8 minutes
    python benchmarks/gpu.py --small      # any machine: tiny models

A line of JSON for each measurement, each in a process of its own, with random weights.
`step` is a sampling step with guidance, of 16 and 24 frames of 512 x 512 in half
precision; `train` is a training step as in `one_gpu.toml`, of 16 frames of 256 x 256 in
mixed bfloat16, with blocks computed again. `peak_gb` is the most that the framework
had allocated. A measurement for which no time is left of `--minutes` is named.
"""

import argparse
import json
import os
import subprocess
import sys
import time

STEPS = 3
FULL = {"block_channels": (320, 640, 1280, 1280), "side": 64, "train_side": 32}
SMALL = {"block_channels": (32, 32, 64, 64), "side": 16, "train_side": 8}


def jobs(small: bool) -> list[dict]:
    """What is measured, the most telling first."""
    frames = (4, 6) if small else (16, 24)
    both = ("torch", "jax")
    steps = [
        {"job": "step", "backend": backend, "frames": count, "low_memory": low}
        for count in frames
        for low in (False, True)
        for backend in both
    ]
    peers = [{"job": "peer", "backend": "torch", "frames": count} for count in frames]
    compiled = [{"job": "compiled", "backend": "torch", "frames": frames[0]}]
    trainings = [
        {"job": "train", "backend": backend, "frames": frames[0], "trainable": what}
        for backend in both
        for what in ("lora", "temporal")
    ]
    return [*peers[:1], *steps[:4], *trainings, *compiled, *peers[1:], *steps[4:]]


def accelerator_dtype() -> str:
    """Half precision of the device: bfloat16 where the chip has it."""
    from keras_makeavid.devices import half_precision

    return half_precision() or "float32"


def peak_gb() -> float | None:
    """The most that the framework had allocated on the device, or `None` on a CPU."""
    import keras

    if keras.config.backend() == "torch":
        import torch

        on_gpu = torch.cuda.is_available()
        peak = torch.cuda.max_memory_allocated() if on_gpu else None
    else:
        import jax

        peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return None if peak is None else round(peak / 1e9, 2)


def seconds_of(run, repeats: int = 2) -> dict:
    """Seconds of the first call, with what it compiles, and of the shortest other."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {
        "first_seconds": round(seconds[0], 3),
        "seconds": round(min(seconds[1:]), 3),
    }


def our_unet(sizes, dtype):
    """The inflated inpainting UNet; random weights."""
    from keras_makeavid.models import UNetPseudo3D

    options = {} if sizes is FULL else {"num_heads": 4, "context_dim": 64}
    return UNetPseudo3D(block_channels=sizes["block_channels"], dtype=dtype, **options)


def run_step(options, sizes) -> dict:
    """A step of the sampling loop, with guidance."""
    import keras
    import numpy as np

    from keras_makeavid.sampling import Conditions, DenoisingLoop
    from keras_makeavid.schedulers import get_scheduler

    unet = our_unet(sizes, accelerator_dtype())
    loop, random = DenoisingLoop(unet), np.random.default_rng(0)
    shape = (1, options.frames, sizes["side"], sizes["side"], 4)
    text = random.standard_normal((2, 1, 77, unet.context_dim), "float32")
    mask = np.zeros((*shape[:-1], 1), "float32")
    hint = random.standard_normal(shape, "float32")
    conditions = Conditions(*text, 7.5, mask, hint)
    table = get_scheduler("dpm++2m").table(STEPS)

    def run():
        latents = loop(hint, conditions, table, low_memory=options.low_memory)
        keras.ops.convert_to_numpy(latents)

    found = seconds_of(run)
    return {name: round(value / STEPS, 3) for name, value in found.items()}


def run_compiled(options, sizes) -> dict:
    """A pass of both halves of guidance, by `torch.compile`."""
    import torch

    unet = our_unet(sizes, accelerator_dtype())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = (2, options.frames, sizes["side"], sizes["side"], 9)
    inputs = {
        "sample": torch.randn(shape, device=device),
        "timesteps": torch.full((2,), 500, device=device),
        "context": torch.randn((2, 77, unet.context_dim), device=device),
    }
    forward = torch.compile(lambda inputs: unet(inputs))
    with torch.inference_mode():
        return seconds_of(lambda: forward(inputs).float().cpu())


def run_peer(options, sizes) -> dict:
    """The same pass of diffusers' AnimateDiff UNet."""
    import torch
    from diffusers import UNetMotionModel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    width = 768 if sizes is FULL else 64
    unet = UNetMotionModel(
        block_out_channels=sizes["block_channels"],
        cross_attention_dim=width,
        use_motion_mid_block=True,
        motion_num_attention_heads=8,
        num_attention_heads=8,
    )
    unet = unet.to(device, getattr(torch, accelerator_dtype())).eval()
    shape = (2, 4, options.frames, sizes["side"], sizes["side"])
    sample = torch.randn(shape, device=device, dtype=unet.dtype)
    text = torch.randn((2 * options.frames, 77, width), device=device, dtype=unet.dtype)
    timestep = torch.tensor(500, device=device)
    with torch.inference_mode():
        return seconds_of(lambda: unet(sample, timestep, text)[0].float().cpu())


def run_train(options, sizes) -> dict:
    """A training step of one sample, as `one_gpu.toml` has it."""
    import numpy as np

    from keras_makeavid.schedulers import NoiseSchedule
    from keras_makeavid.training import AdamW, VideoDiffusion
    from keras_makeavid.training.phases import rematerialise_blocks
    from keras_makeavid.training.trainable import add_lora

    unet = our_unet(sizes, "mixed_bfloat16")
    if options.trainable == "lora":
        add_lora(unet, 16, 16.0, "attn", seed=0)
    rematerialise_blocks(unet, True)
    model = VideoDiffusion(
        unet,
        schedule=NoiseSchedule(),
        latent_scale=0.18215,
        trainable=options.trainable,
        seed=0,
    )
    model.compile(AdamW(1e-4))
    side, random = sizes["train_side"], np.random.default_rng(0)
    batch = {
        "latents": random.standard_normal((1, options.frames, side, side, 4), "f4"),
        "context": random.standard_normal((1, 77, unet.context_dim), "f4"),
    }
    return seconds_of(lambda: float(model.train_on_batch(batch)))


RUNS = {
    "step": run_step,
    "compiled": run_compiled,
    "peer": run_peer,
    "train": run_train,
}


def main():
    """Print a line of JSON for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--job", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--frames", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--trainable", help=argparse.SUPPRESS)
    parser.add_argument("--low-memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        found = RUNS[options.job](options, SMALL if options.small else FULL)
        print(json.dumps({**found, "peak_gb": peak_gb()}))
        return
    end = time.monotonic() + 60 * options.minutes
    for job in jobs(options.small):
        left = end - time.monotonic()
        if left < 20:
            print(json.dumps({**job, "error": "left out: no time left"}), flush=True)
            continue
        words = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
            for name, value in job.items()
            if name != "backend" and value is not False
        ]
        words += ["--small"] if options.small else []
        environment = {**os.environ, "KERAS_BACKEND": job["backend"]}
        # So that its peak is what it needs, and others have room.
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        command = [sys.executable, __file__, *words]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=left
            )
        except subprocess.TimeoutExpired:
            result = {"error": "stopped: no time left"}
        else:
            lines = (done.stdout if not done.returncode else done.stderr).splitlines()
            last = lines[-1] if lines else f"exit {done.returncode}"
            result = json.loads(last) if not done.returncode else {"error": last}
        print(json.dumps({**job, **result}), flush=True)


if __name__ == "__main__":
    main()
