"""Time and weigh Stable Diffusion's real size, part by part, beside live peers.

    python benchmarks/full_size.py --backends torch jax --peers

Writes a source with random weights by diffusers' and transformers' own classes, makes
a preset of it, and runs each part in a process of its own. A line of JSON each:
`seconds` is the shortest of `--repeats`, `first_seconds` the first call with what it
compiles, `peak_gb` the most resident memory of the process, `weights_gb` what its
weights take. `step` is one UNet pass without guidance; `cached` is six steps that
pass the whole UNet in one of three, `times_as_fast` as six whole ones. Sizes are
`FRAMESxSIDE`, in pixels of latents. `--motion` takes AnimateDiff's motion modules (v2)
in a UNet of 4 channels in place of pseudo-3D layers in one of 9. `--small` runs it
all with tiny models, to see that it works.

Needs 15 GB of disk in `--folder`, and the packages of the tests.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PARTS = ("load", "text", "first_frame", "step", "cached", "decode")
PEERS = ("unet2d", "motion", "unet2d_compiled", "motion_compiled")
SIZES = ("4x32", "16x64")
# Of the UNet and the VAE: channels of each level, and groups of the norms.
FULL = {"unet": (320, 640, 1280, 1280), "vae": (128, 256, 512, 512), "groups": 32}
SMALL = {"unet": (16, 32, 32, 32), "vae": (8, 8, 16, 16), "groups": 8}


def unet_options(small: bool) -> dict:
    """What diffusers' UNets are made with."""
    sizes = SMALL if small else FULL
    width = 32 if small else 768
    return {
        "block_out_channels": sizes["unet"],
        "norm_num_groups": sizes["groups"],
        "cross_attention_dim": width,
    }


def make_source(folder: Path, small: bool, channels: int) -> None:
    """A folder in diffusers' layout, saved by the classes that load it."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from keras_makeavid.text import openai_clip_vocabulary

    torch.manual_seed(0)
    sizes = SMALL if small else FULL
    width, layers = (32, 1) if small else (768, 12)
    UNet2DConditionModel(in_channels=channels, **unet_options(small)).save_pretrained(
        folder / "unet"
    )
    AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=sizes["vae"],
        norm_num_groups=sizes["groups"],
        layers_per_block=2,
    ).save_pretrained(folder / "vae")
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 16 if small else 12,
        vocab_size=49408,
    )
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    ).save_pretrained(folder / "scheduler")
    vocabulary, merges = openai_clip_vocabulary()
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer" / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *merges])
    )
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "StableDiffusionInpaintPipeline"})
    )


def measured(run, repeats: int) -> dict:
    """Seconds of the first call and of the shortest of those after it."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {
        "first_seconds": round(seconds[0], 2),
        "seconds": round(min(seconds[1:] or seconds), 2),
    }


def peak_gb() -> float:
    """The most resident memory that this process has had."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 2**20 * 1.073741824, 2)


def gemm_rate(backend: str) -> float:
    """GFLOP/s of a product of 2048 x 2048 matrices in this process."""
    import numpy as np

    a = np.ones((2048, 2048), "float32")
    if backend == "torch":
        import torch

        matrix = torch.from_numpy(a)
        matrix @ matrix
        start = time.perf_counter()
        for _ in range(10):
            matrix @ matrix
        seconds = (time.perf_counter() - start) / 10
    else:
        import jax

        matrix = jax.numpy.asarray(a)
        multiply = jax.jit(lambda x: x @ x)
        multiply(matrix).block_until_ready()
        start = time.perf_counter()
        for _ in range(10):
            multiply(matrix).block_until_ready()
        seconds = (time.perf_counter() - start) / 10
    return round(2e-9 * 2048**3 / seconds, 1)


def run_part(
    part: str, preset: Path, size: str, repeats: int, low_memory: bool
) -> dict:
    """One part of a task in this process, on Keras's backend."""
    import keras
    import numpy as np

    from keras_makeavid import TextToVideo
    from keras_makeavid.models import UNetPseudo3D

    frames, side = map(int, size.split("x"))
    start = time.perf_counter()
    if part == "step":
        unet = UNetPseudo3D.from_preset(str(preset))
        weights = unet.weights
    else:
        task = TextToVideo.from_preset(preset, dtype="float32", low_memory=low_memory)
        weights = [*task.weights, *task.vae.weights, *task.text_encoder.weights]
    loading = round(time.perf_counter() - start, 2)
    unique = {id(weight): weight for weight in weights}.values()
    weights_gb = sum(4 * int(np.prod(weight.shape)) for weight in unique) / 1e9
    result = {"load_seconds": loading, "weights_gb": round(weights_gb, 2)}
    random = np.random.default_rng(0)
    if part == "text":
        result |= measured(lambda: task.encode_prompts(["a red star"]), repeats)
    elif part == "first_frame":
        pixels = side * task.vae.downsampling_factor
        options = {"num_frames": 1, "num_steps": 1, "guidance_scale": 1.0, "seed": 0}
        result |= measured(
            lambda: task.generate("a red star", height=pixels, width=pixels, **options),
            0 if repeats < 2 else 1,
        )
    elif part == "decode":
        latents = random.standard_normal((frames, side, side, 4), "float32")
        result |= measured(lambda: task.vae.decode_video(latents), repeats)
    elif part == "step":
        result |= _measured_step(unet, frames, side, repeats, random)
    elif part == "cached":
        result |= _measured_cache(task, frames, side, repeats)
    result["peak_gb"] = peak_gb()
    if part == "step":
        backend = "torch" if keras.config.backend() == "torch" else "jax"
        result["gemm_gflop_per_second"] = gemm_rate(backend)
    return result


def _measured_step(unet, frames, side, repeats, random):
    import keras

    from keras_makeavid.compilation import compile_inference

    forward = compile_inference(unet, [unet])
    inputs = {
        "sample": random.standard_normal(
            (1, frames, side, side, unet.in_channels), "float32"
        ),
        "timesteps": random.integers(0, 999, (1,), "int32"),
        "context": random.standard_normal((1, 77, unet.context_dim), "float32"),
    }
    inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
    return measured(lambda: keras.ops.convert_to_numpy(forward(inputs)), repeats)


def _measured_cache(task, frames, side, repeats):
    import numpy as np

    pixels = side * task.vae.downsampling_factor
    options = {"num_frames": frames, "height": pixels, "width": pixels, "seed": 0}
    options |= {"num_steps": 6, "guidance_scale": 1.0, "output": "latents"}
    if task.backbone.in_channels == 9:
        # Given, so that there is neither a picture to encode nor a first frame to make.
        first = np.zeros((1, side, side, task.vae.latent_channels), "float32")
        options["keyframes"] = {0: first}

    def sample(interval):
        task.generate("a red star", cache_interval=interval, **options)

    whole, cached = (measured(lambda n=n: sample(n), repeats) for n in (1, 3))
    factor = whole["seconds"] / cached["seconds"]
    return {**cached, "times_as_fast": round(factor, 2)}


def run_peer(peer: str, size: str, repeats: int, small: bool) -> dict:
    """A pass of diffusers' UNet in this process, eager or by `torch.compile`."""
    import torch
    from diffusers import UNet2DConditionModel, UNetMotionModel

    frames, side = map(int, size.split("x"))
    name, _, compiled = peer.partition("_")
    torch.manual_seed(0)
    options = unet_options(small)
    with torch.inference_mode():
        if name == "motion":
            heads = {"motion_num_attention_heads": 8, "num_attention_heads": 8}
            unet = UNetMotionModel(
                in_channels=4, use_motion_mid_block=True, **heads, **options
            )
            sample = torch.randn(1, 4, frames, side, side)
            context = torch.randn(frames, 77, options["cross_attention_dim"])
        else:
            unet = UNet2DConditionModel(in_channels=9, **options)
            sample = torch.randn(frames, 9, side, side)
            context = torch.randn(frames, 77, options["cross_attention_dim"])
        unet.eval()
        forward = torch.compile(unet) if compiled else unet
        result = measured(
            lambda: forward(sample, torch.tensor(500), context, return_dict=False),
            repeats,
        )
    weights_gb = sum(4 * weight.numel() for weight in unet.parameters()) / 1e9
    return {**result, "weights_gb": round(weights_gb, 2), "peak_gb": peak_gb()}


def in_child(options, backend: str, **settings) -> dict:
    """Run this file again for one part."""
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    flags = [
        f"--{name.replace('_', '-')}"
        for name in ("small", "low_memory", "motion")
        if getattr(options, name)
    ]
    result = subprocess.run(
        [sys.executable, __file__, *arguments, *flags]
        + [f"--folder={options.folder}", f"--repeats={options.repeats}"],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    facts = {"backend": backend, **settings}
    if result.returncode:
        lines = result.stderr.strip().splitlines()
        return {**facts, "error": lines[-1] if lines else f"exit {result.returncode}"}
    return {**facts, **json.loads(result.stdout.splitlines()[-1])}


def preset_in(options) -> Path:
    """The place of the preset that is measured."""
    kinds = [name for name in ("small", "motion") if getattr(options, name)]
    return options.folder / "_".join([*kinds, "preset"])


def prepare(options) -> Path:
    """Make the preset, if it is not there."""
    import weights_tools

    preset = preset_in(options)
    if not preset.exists():
        source = options.folder / "source"
        make_source(source, options.small, 4 if options.motion else 9)
        weights_tools.inflate(source, preset, motion="v2" if options.motion else None)
        shutil.rmtree(source)
    return preset


def copy_seconds(preset: Path) -> dict:
    """What copying the preset's weights takes, to compare with loading them."""
    with tempfile.TemporaryDirectory(dir=preset.parent) as folder:
        start = time.perf_counter()
        files = list(preset.glob("*.h5"))
        for file in files:
            shutil.copyfile(file, Path(folder) / file.name)
        seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in files) / 1e9
    return {"part": "copy", "seconds": round(seconds, 2), "gb": round(size, 2)}


def main():
    """Print a line of JSON for each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--backends", nargs="*", default=["torch", "jax", "tensorflow"])
    parser.add_argument("--parts", nargs="*", choices=PARTS)
    parser.add_argument("--peers", nargs="*", choices=PEERS)
    parser.add_argument("--sizes", nargs="*", default=["4x32"], help="such as 16x64")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--low-memory", action="store_true")
    parser.add_argument("--motion", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--size", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part in PEERS:
        arguments = (options.part, options.size, options.repeats, options.small)
        print(json.dumps(run_peer(*arguments)))
        return
    if options.part:
        size, repeats, low_memory = options.size, options.repeats, options.low_memory
        preset = preset_in(options)
        print(json.dumps(run_part(options.part, preset, size, repeats, low_memory)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        options.folder.mkdir(exist_ok=True)
        print(json.dumps(copy_seconds(prepare(options))), flush=True)
        # There is no first frame where the UNet takes none.
        parts = [p for p in PARTS if not (options.motion and p == "first_frame")]
        parts = options.parts or parts
        peers = PEERS[:2] if options.peers == [] else options.peers or ()
        for size in options.sizes:
            jobs = [("torch", peer) for peer in peers]
            jobs += [(name, part) for name in options.backends for part in parts]
            for backend, part in jobs:
                result = in_child(options, backend, part=part, size=size)
                print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
