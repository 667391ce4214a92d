"""Weights in and out, at full size: errors, seconds and peak memory.

    KERAS_BACKEND=torch python benchmarks/weights.py > docs/weights_table.md

Makes a Stable Diffusion 1.5 inpainting pipeline with random weights by diffusers and
transformers (4.3 GB), brings it into a preset from every format of theirs, and the
preset out to every layout. Each step is a process of its own. Needs 60 GB of disk and
14 GB of memory, and takes 25 minutes on two cores; `--small` makes models of the
same form in seconds.

`s`: the best of two runs, from a source that is not in the system's cache to an output
that is on the disk. `x copy`: these seconds divided by those, measured likewise, of
copying the source or the output, whichever is larger. `memory`: the highest anonymous
memory above that before the step; the pages of mapped files, which the system may drop
at any time, do not count. `weights`, `forward`: the largest difference of a weight, and
of the output for a fixed input, to the source in its own library where there is one,
else in ours.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SMALL = {"block_out_channels": (32, 32, 64, 64), "cross_attention_dim": 64}
FULL = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768}
RUNS = 2


def make_pipeline(folder: Path, small: bool) -> None:
    """Save a pipeline with random weights, in every format that diffusers writes."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from keras_makeavid.text import openai_clip_vocabulary
    from keras_makeavid.text.vocabulary import Vocabulary

    torch.manual_seed(0)
    width = (SMALL if small else FULL)["cross_attention_dim"]
    unet = _random(
        lambda: UNet2DConditionModel(in_channels=9, **(SMALL if small else FULL))
    )
    vae = _random(
        lambda: AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[32] * 4 if small else [128, 256, 512, 512],
            layers_per_block=2,
        )
    )
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=2 if small else 12,
        num_attention_heads=width // 64,
    )
    text_encoder = _random(lambda: CLIPTextModel(config))
    for name, options in {
        "diffusers safetensors": {"max_shard_size": "10GB"},
        "diffusers .bin": {"safe_serialization": False, "max_shard_size": "10GB"},
        "diffusers in shards": {"max_shard_size": "4MB" if small else "1GB"},
        "diffusers fp16": {"max_shard_size": "10GB", "variant": "fp16"},
    }.items():
        if "fp16" in name:
            unet, vae, text_encoder = unet.half(), vae.half(), text_encoder.half()
        for part, model in (
            ("unet", unet),
            ("vae", vae),
            ("text_encoder", text_encoder),
        ):
            model.save_pretrained(folder / name / part, **options)
        (folder / name / "tokenizer").mkdir()
        Vocabulary(*openai_clip_vocabulary()).save(folder / name / "tokenizer")
        PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ).save_pretrained(folder / name / "scheduler")


def _random(make):
    """Make a model with random weights, without the time that initialisers take."""
    import torch

    with torch.device("meta"):
        model = make()
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0, fan_in**-0.5)
            else:
                parameter.normal_(0, 0.1)
        for name, module in model.named_modules():
            if "norm" in name.lower() and hasattr(module, "weight"):
                module.weight.add_(1.0)
            if hasattr(module, "position_ids"):
                module.position_ids.copy_(torch.arange(77)[None])
    return model.eval()


def as_ckpt(folder: Path) -> None:
    """Save the LDM file as CompVis did: a pickle."""
    import torch
    from safetensors.torch import load_file

    state = load_file(folder / "LDM.safetensors")
    torch.save({"state_dict": state, "global_step": 1}, folder / "LDM.ckpt")


def make_kerascv(published: Path, folder: Path) -> None:
    """Save KerasCV's models, which have one size, with random weights.

    As the published files are, and as its classes save them by now.
    """
    import h5py
    import numpy as np
    from keras.src.legacy.saving import legacy_h5_format
    from keras_cv.models import stable_diffusion

    from weights_tools.kerascv import KERASCV_CLASSES

    published.mkdir()
    folder.mkdir()
    sizes = {"DiffusionModel": (512, 512, 77), "Decoder": (512, 512)}
    sizes |= {"ImageEncoder": (), "TextEncoder": (77,)}
    random = np.random.default_rng(0)
    for made in KERASCV_CLASSES:
        model = getattr(stable_diffusion, made.name)(
            *sizes[made.name], download_weights=False
        )
        for weight in model.weights:
            if weight.ndim == 1:
                noise = 0.1 * random.standard_normal(weight.shape)
                weight.assign_add(noise.astype("float32"))
        model.save_weights(folder / made.file)
        with h5py.File(published / made.published, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)


def own_library_error(folder: Path, preset: Path) -> float:
    """Largest difference of a preset's models to the pipeline in its own libraries."""
    import numpy as np
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from keras import ops
    from transformers import CLIPTextModel

    import weights_tools

    def load(kind, part):
        return kind.from_pretrained(folder / part, low_cpu_mem_usage=False).eval()

    random = np.random.default_rng(0)
    errors = []
    with torch.no_grad():
        peer = load(UNet2DConditionModel, "unet")
        images = random.standard_normal((1, 16, 16, 9), "float32")
        context = random.standard_normal(
            (1, 77, peer.config.cross_attention_dim), "float32"
        )
        theirs = peer(
            torch.from_numpy(np.moveaxis(images, -1, 1).copy()),
            torch.tensor([500]),
            torch.from_numpy(context),
        ).sample
        theirs = np.moveaxis(theirs.numpy(), 1, -1)
        del peer
        ours = weights_tools.load_model(preset, "unet")
        inputs = {"sample": images, "timesteps": np.array([500]), "context": context}
        inputs = {k: ops.convert_to_tensor(v) for k, v in inputs.items()}
        errors.append(np.abs(ops.convert_to_numpy(ours(inputs)) - theirs).max())
        del ours

        peer = load(AutoencoderKL, "vae")
        images = random.uniform(-1, 1, (1, 64, 64, 3)).astype("float32")
        channels_first = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
        theirs = peer.decode(peer.encode(channels_first).latent_dist.mean).sample
        theirs = np.moveaxis(theirs.numpy(), 1, -1)
        ours = weights_tools.load_model(preset, "vae")(ops.convert_to_tensor(images))
        errors.append(np.abs(ops.convert_to_numpy(ours) - theirs).max())

        peer = load(CLIPTextModel, "text_encoder")
        ids = random.integers(0, 49408, (1, 77))
        theirs = peer(torch.from_numpy(ids)).last_hidden_state.numpy()
        ours = weights_tools.load_model(preset, "text_encoder")
        ours = ours({"token_ids": ops.convert_to_tensor(ids)})
        errors.append(np.abs(ops.convert_to_numpy(ours) - theirs).max())
    return float(max(errors))


def timed(
    operation: str,
    source: str,
    out: str,
    layout: str,
    base: str = "",
    dtype: str | None = None,
) -> dict:
    """Convert, watching seconds and anonymous memory."""
    import weights_tools

    before, peak, finished = _anonymous(), 0, threading.Event()

    def watch():
        nonlocal peak
        while not finished.wait(0.01):
            peak = max(peak, _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    convert = getattr(weights_tools, operation)
    try:
        report = convert(source, out, layout, base=base or None, dtype=dtype)
        seconds = time.perf_counter() - start
    finally:
        finished.set()
        watcher.join()
    return {"seconds": seconds, "memory": peak - before, "nbytes": report.nbytes}


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status tells no RssAnon")


def weight_difference(first: str, second: str) -> float:
    """Largest difference of the weights that both have."""
    import numpy as np

    import weights_tools

    largest = 0.0
    with (
        weights_tools.open_source(first) as a,
        weights_tools.open_source(second) as b,
    ):
        for part in a.components.keys() & b.components.keys():
            x, y = (s.component(part).weights for s in (a, b))
            for path in x.specs.keys() & y.specs.keys():
                v, w = x.read(path), y.read(path)
                if v.shape != w.shape:
                    # Channels of mask and hint, which one has and are zero weights.
                    channels = min(v.shape[2], w.shape[2])
                    v, w = v[:, :, :channels], w[:, :, :channels]
                largest = max(largest, np.abs(v - w).max(initial=0.0))
    return float(largest)


def forward_difference(first: str, second: str) -> float:
    """Largest difference of the outputs of all parts, in our implementation."""
    import weights_tools

    parts = weights_tools.verify(first, second).values()
    return max(part.forward for part in parts)


def in_a_process(function: str, *arguments) -> object:
    """Call a function of this file in a process of its own."""
    paths = [os.getcwd(), str(Path(__file__).parent)]
    code = (
        f"import sys, json; sys.path[:0] = {paths}\n"
        "import weights as w; from pathlib import Path\n"
        f"print(json.dumps(w.{function}(*{arguments!r})))"
    )
    code = code.replace("PosixPath(", "Path(")
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def files_of(path: Path) -> list[Path]:
    """A file, or all files of a folder."""
    return [p for p in (path, *path.rglob("*")) if p.is_file()]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in files_of(path))


def to_disk(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    for file in files_of(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def out_of_cache(path: Path) -> None:
    """Make the next read of a file or folder come from the disk."""
    to_disk(path)
    for file in files_of(path):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy_seconds(path: Path) -> float:
    """Seconds that copying a file or folder takes, from the disk to the disk."""
    copy = path.with_name("copy")
    out_of_cache(path)
    start = time.perf_counter()
    if path.is_dir():
        shutil.copytree(path, copy)
    else:
        shutil.copyfile(path, copy)
    to_disk(copy)
    seconds = time.perf_counter() - start
    remove(copy)
    return seconds


def remove(path: Path) -> None:
    """Remove a file or folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def row(only, title, operation, source: Path, out: Path, layout, peer, base="") -> None:
    """Convert, compare and print a line of the table, if it is asked for."""
    arguments = (operation, str(source), str(out), layout, str(base))
    if not any(text in title for text in only):
        # Rows that follow need it.
        in_a_process("timed", *arguments)
        return
    costs = []
    for _ in range(RUNS):
        if out.exists():
            remove(out)
        out_of_cache(source)
        costs.append(in_a_process("timed", *arguments))
    cost = min(costs, key=lambda cost: cost["seconds"])
    larger = max((source, out), key=size_of)
    ratio = cost["seconds"] / min(copy_seconds(larger) for _ in range(RUNS))
    weights = in_a_process("weight_difference", str(source), str(out))
    if peer is not None:
        forward = in_a_process("own_library_error", peer, out)
    else:
        forward = in_a_process("forward_difference", str(source), str(out))
    print(
        f"| {title} | {weights:.1e} | {forward:.1e} | {cost['seconds']:.1f} "
        f"| {ratio:.1f} | {cost['nbytes'] / 1e9:.2f} | {cost['memory'] / 1e9:.2f} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small models")
    parser.add_argument("--folder", help="where to work; a temporary one if not given")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        help="rows to print: those with any of these texts in their first cells",
    )
    options = parser.parse_args()
    print_row = functools.partial(row, options.only)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        in_a_process("make_pipeline", folder, options.small)
        pipeline = folder / "diffusers safetensors"
        ldm = folder / "LDM.safetensors"
        in_a_process("timed", "convert", str(pipeline), str(ldm), "ldm")
        in_a_process("as_ckpt", folder)
        print("| from | to | weights | forward | s | x copy | GB | memory, GB |")
        print("|---|---|---|---|---|---|---|---|")
        preset = folder / "preset"
        for name in (
            "diffusers safetensors",
            "diffusers .bin",
            "diffusers in shards",
            "diffusers fp16",
            "LDM.safetensors",
            "LDM.ckpt",
        ):
            # Half precision is another function than that of full precision.
            peer = None if "fp16" in name else pipeline
            title = f"{name} | inflated preset"
            print_row(title, "inflate", folder / name, preset, "keras", peer)
            if name != "diffusers safetensors":
                remove(folder / name)
            if name != "LDM.ckpt":
                remove(preset)
        for part in ("unet", "vae", "text_encoder"):
            remove(pipeline / part)
        again = folder / "again"
        for layout in ("makeavid_torch", "makeavid_flax"):
            out = folder / layout
            print_row(f"preset | {layout}", "convert", preset, out, layout, None)
            print_row(f"{layout} | preset", "convert", out, again, "keras", None)
            remove(out)
            remove(again)
        half = folder / "half"
        written = ("convert", str(preset), str(half), "makeavid_flax", "", "bfloat16")
        in_a_process("timed", *written)
        title = "makeavid_flax bfloat16 | preset"
        print_row(title, "convert", half, again, "keras", None)
        remove(half)
        remove(again)
        for layout, name in (("diffusers", "image"), ("ldm", "ldm.safetensors")):
            print_row(
                f"preset | {layout}", "convert", preset, folder / name, layout, None
            )
            remove(folder / name)
        if not options.small:
            published, kerascv = folder / "KerasCV .h5", folder / "KerasCV .weights.h5"
            in_a_process("make_kerascv", published, kerascv)
            for source in (published, kerascv):
                remove(preset)
                title = f"{source.name} | inflated preset"
                print_row(title, "inflate", source, preset, "keras", None, pipeline)
                remove(source)
            out = folder / "kerascv"
            print_row("preset | kerascv", "convert", preset, out, "kerascv", None)


if __name__ == "__main__":
    main()
