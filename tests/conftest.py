"""What every test starts from, and one small `TextToVideo` for all of them."""

import os
import shutil
import string
from pathlib import Path

# Tests run a program once or twice: XLA would optimise it for longer than it runs.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1 "
    # A third of JAX's time; TensorFlow takes longer without.
    f"--xla_cpu_use_fusion_emitters={os.environ.get('KERAS_BACKEND') != 'jax'}",
)
# Nor does a run find what an earlier one compiled.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import keras
import numpy as np
import pytest

from keras_makeavid import TextToVideo
from keras_makeavid.models import AutoencoderKL, UNetPseudo3D
from keras_makeavid.text import TextEncoder, TextToVideoPreprocessor

if keras.config.backend() == "torch":
    import torch

    # Threads cost tiny tensors more than they bring, 20 times so on a busy machine.
    torch.set_num_threads(1)

if keras.config.backend() == "tensorflow":
    import tensorflow

    # As above: a graph that runs once or twice is not worth its optimisation.
    tensorflow.config.optimizer.set_experimental_options(
        {"disable_meta_optimizer": True}
    )


# What computes by no backend, or does so only on the way to what is tested: folders and
# files that run once, under torch. `@pytest.mark.once` says so of a single test.
ONCE = [
    "benchmarks",
    "docs",
    "examples",
    "test_docstring_examples.py",
    "keras_makeavid/app",
    "keras_makeavid/cli/test_dataset.py",
    "keras_makeavid/cli/test_plan.py",
    "keras_makeavid/data/test_batch_loader.py",
    "keras_makeavid/data/test_captions.py",
    "keras_makeavid/data/test_clip_reading.py",
    "keras_makeavid/data/test_datasets.py",
    "keras_makeavid/data/test_latent_loader.py",
    "keras_makeavid/test_pages.py",
    "keras_makeavid/test_parallel.py",
    "keras_makeavid/test_publishing.py",
    "keras_makeavid/data/test_picture_loader.py",
    "keras_makeavid/data/test_published.py",
    "keras_makeavid/test_ray_workers.py",
    "keras_makeavid/data/test_reader.py",
    "keras_makeavid/data/test_sharded.py",
    "keras_makeavid/data/test_sharded_writer.py",
    "keras_makeavid/data/test_window_sampler.py",
    "keras_makeavid/moving_shapes",
    "keras_makeavid/planning/test_topology.py",
    "keras_makeavid/recipes",
    "keras_makeavid/schedulers/test_diffusers_parity.py",
    "keras_makeavid/schedulers/test_registry.py",
    "keras_makeavid/schedulers/test_scheduler.py",
    "keras_makeavid/tasks/test_preset_source.py",
    "keras_makeavid/test_files.py",
    "keras_makeavid/test_json_files.py",
    "keras_makeavid/test_progress.py",
    "keras_makeavid/test_validation.py",
    "keras_makeavid/text/test_tokenizer.py",
    "keras_makeavid/text/test_vocabulary.py",
    "keras_makeavid/training/test_checkpoints.py",
    "keras_makeavid/training/test_logs.py",
    "keras_makeavid/training/test_state.py",
    "keras_makeavid/video",
    "weights_tools/formats",
    "weights_tools/test_contiguous.py",
    "weights_tools/test_layouts.py",
    "weights_tools/test_checkpoint.py",
    "weights_tools/test_command.py",
    "weights_tools/test_configs.py",
    "weights_tools/test_conversion.py",
    "weights_tools/test_damaged_configurations.py",
    "weights_tools/test_full_size.py",
    "weights_tools/test_lora.py",
    "weights_tools/test_opening.py",
]


# What takes a minute or more begins first: at the end the other workers would wait for
# it. Files run in this order by xdist's --no-loadscope-reorder.
LONG = [
    "examples",
    "docs",
    "test_docstring_examples.py",
    "keras_makeavid/test_ray_workers.py",
    "keras_makeavid/app",
    "keras_makeavid/presets",
    "keras_makeavid/exporting",
    "keras_makeavid/training/test_kills.py",
    "keras_makeavid/training/test_distribution.py",
    "keras_makeavid/tasks/test_training.py",
    "keras_makeavid/models/test_unet_pseudo3d.py",
    "keras_makeavid/models/test_motion_modules.py",
    "keras_makeavid/tasks/test_animatediff.py",
    "keras_makeavid/tasks/test_text_to_video.py",
    "keras_makeavid/training/test_run.py",
    "keras_makeavid/training/test_objectives.py",
    "keras_makeavid/training/test_distillation.py",
    "weights_tools/test_conversion.py",
    "weights_tools/test_kerascv.py",
    "weights_tools/test_full_size.py",
    "keras_makeavid/cli/test_cli.py",
]


def pytest_collection_modifyitems(config, items):
    """Order the long files first; deselect what runs once, but under torch."""
    long = [Path(__file__).parent / place for place in LONG]
    items.sort(key=lambda item: not any(map(item.path.is_relative_to, long)))
    if keras.config.backend() == "torch":
        return
    places = [Path(__file__).parent / place for place in ONCE]
    once = [
        item
        for item in items
        if item.get_closest_marker("once")
        or any(item.path.is_relative_to(place) for place in places)
    ]
    config.hook.pytest_deselected(items=once)
    left_out = set(once)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", autouse=True)
def nothing_stays(request, tmp_path_factory):
    """What fixtures of a module or a session wrote goes at the end, if all passed."""
    yield
    if not request.session.testsfailed:
        shutil.rmtree(tmp_path_factory.getbasetemp(), ignore_errors=True)


@pytest.fixture(autouse=True)
def seed():
    """The same random state for each test."""
    keras.utils.set_random_seed(0)


def _vocabulary():
    """CLIP's form with as many tokens as a few English words need."""
    merges = ["c a", "ca t</w>", "d o", "do g</w>"]
    letters = string.ascii_lowercase
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


def tiny_unet(in_channels=9):
    return UNetPseudo3D(
        in_channels=in_channels,
        block_channels=(8,),
        layers_per_block=1,
        attention_levels=(False,),
        groups=4,
        context_dim=16,
        num_heads=2,
    )


def _randomise(model, seed):
    """Give every weight a share of noise: new temporal parts do nothing."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        value = keras.ops.convert_to_numpy(weight)
        weight.assign(value + 0.1 * random.standard_normal(value.shape, "float32"))


@pytest.fixture(scope="session")
def make_unet():
    """Makes the smallest UNet, from a seed: `make_unet(seed, in_channels=9)`."""

    def make(seed, in_channels=9):
        keras.utils.set_random_seed(seed)
        unet = tiny_unet(in_channels)
        _randomise(unet, seed)
        return unet

    return make


@pytest.fixture(scope="session")
def task(make_unet):
    """A task whose frames are 128 x 128 pixels, with latents of 2 x 2."""
    unet = make_unet(0)
    tokens, merges = _vocabulary()
    preprocessor = TextToVideoPreprocessor(tokens, merges, sequence_length=12)
    text_encoder = TextEncoder(
        vocabulary_size=len(tokens),
        embedding_dim=16,
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        intermediate_dim=16,
        max_sequence_length=12,
    )
    vae = AutoencoderKL(block_channels=(8,) * 7, layers_per_block=1, groups=4)
    return TextToVideo(unet, preprocessor, text_encoder, vae, height=128, width=128)


@pytest.fixture(scope="session")
def preset(task, tmp_path_factory):
    """The folder of that task's preset."""
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    task.save_to_preset(folder)
    return folder


@pytest.fixture(scope="session")
def hint():
    """A picture of another size than the task's."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (160, 200, 3), dtype="uint8")
