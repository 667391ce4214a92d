"""Adapters that a task loads, against diffusers with PEFT on the same files."""

import functools
import json
import re
import shutil

import keras
import numpy as np
import pytest
import torch
from keras import ops
from running import runner
from safetensors.torch import load_file, save_file

import weights_tools
from keras_makeavid import TextToVideo
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.presets import FEW_STEPS_FILE
from keras_makeavid.training import add_lora
from keras_makeavid.training.phases import with_parts
from weights_tools.architectures import variables_of
from weights_tools.lora import LORA_FORMS

if keras.config.backend() == "torch":
    torch.set_num_threads(1)

# Of PEFT, where a second adapter is loaded.
pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`")

TOLERANCE = 1e-5
INPUTS = {
    "sample": np.random.default_rng(0).standard_normal((2, 8, 8, 9), "float32"),
    "timesteps": np.array([500, 20]),
    "context": np.random.default_rng(1).standard_normal((2, 5, 16), "float32"),
}
TOKENS = np.random.default_rng(2).integers(0, 50, (2, 12)).astype("int32")
LAYERS = {
    "unet": [
        *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"),
        *("proj_in", "proj_out", "conv1", "conv2", "conv_shortcut", "conv", "conv_in"),
        *("time_emb_proj", "linear_1"),
    ],
    "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
}


@pytest.fixture(scope="module")
def lora_task(task):
    """A task whose UNet has every kind of layer that image models have."""
    unet = UNetPseudo3D(
        block_channels=(8, 16),
        attention_levels=(True, False),
        layers_per_block=1,
        groups=4,
        context_dim=16,
        num_heads=2,
        gelu="exact",
        transformer_epsilon=1e-6,
    )
    random = np.random.default_rng(0)
    for weight in unet.weights:
        value = ops.convert_to_numpy(weight)
        weight.assign(value + 0.1 * random.standard_normal(value.shape, "float32"))
    return copy_of(with_parts(task, backbone=unet))


@pytest.fixture(scope="module")
def folder(lora_task, tmp_path_factory):
    """The pipeline of diffusers of the same image model."""
    folder = tmp_path_factory.mktemp("pipelines") / "tiny"
    weights_tools.convert(lora_task, folder, layout="diffusers")
    return folder


@pytest.fixture(scope="module")
def files(folder, tmp_path_factory):
    """Two files of adapters that diffusers wrote, with different ranks and alphas."""
    files = tmp_path_factory.mktemp("loras")
    for seed, name in enumerate(("first", "second")):
        write_peer_lora(folder, files / f"{name}.safetensors", seed)
    return files


def load_pipeline(folder):
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)


def write_peer_lora(folder, path, seed):
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = load_pipeline(folder)
    torch.manual_seed(seed)
    arguments = {}
    for part, layers in LAYERS.items():
        model = getattr(pipeline, part)
        rank = 4 - seed
        config = LoraConfig(
            r=rank,
            lora_alpha=3 + seed,
            target_modules=layers,
            rank_pattern={layers[0]: 2},
            alpha_pattern={layers[0]: 1, layers[2]: 8},
            init_lora_weights=False,
        )
        model.add_adapter(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora" in name:
                    parameter.normal_(std=0.3)
        arguments[f"{part}_lora_layers"] = get_peft_model_state_dict(model)
        arguments[f"{part}_lora_adapter_metadata"] = config.to_dict()
    pipeline.save_lora_weights(path.parent, weight_name=path.name, **arguments)


def peer_outputs(folder, adapters):
    """What diffusers computes with files of adapters and their scales, in float64."""
    pipeline = load_pipeline(folder)
    for name, (path, _) in adapters.items():
        pipeline.load_lora_weights(
            path.parent, weight_name=path.name, adapter_name=name
        )
    if adapters:
        scales = [scale for _, scale in adapters.values()]
        pipeline.set_adapters(list(adapters), scales)
    unet, text_encoder = pipeline.unet.double(), pipeline.text_encoder.double()
    with torch.no_grad():
        image = unet(
            torch.from_numpy(np.moveaxis(INPUTS["sample"], -1, 1).copy()).double(),
            torch.from_numpy(INPUTS["timesteps"]),
            torch.from_numpy(INPUTS["context"]).double(),
        ).sample
        text = text_encoder(torch.from_numpy(TOKENS.astype("int64"))).last_hidden_state
    return np.moveaxis(image.float().numpy(), 1, -1), text.float().numpy()


@functools.cache
def runners(task):
    """Compiled once: adapters change the weights alone."""
    return runner(task.backbone), runner(task.text_encoder)


def our_outputs(task):
    unet, text_encoder = runners(task)
    return unet(INPUTS), text_encoder({"token_ids": TOKENS})


def differences(ours, theirs):
    return [np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)]


def copy_of(task):
    """A task with weights of its own."""
    parts = {}
    for part in ("backbone", "text_encoder"):
        model = getattr(task, part)
        parts[part] = type(model).from_config(model.get_config())
        parts[part].set_weights(model.get_weights())
    return with_parts(task, **parts)


class Batches(keras.utils.PyDataset):
    """One batch, twice."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.batch


def test_two_files_of_diffusers_add_up_as_they_do_there(lora_task, folder, files):
    adapters = {
        name: (files / f"{name}.safetensors", scale)
        for name, scale in (("first", 0.7), ("second", -1.3))
    }
    plain = our_outputs(lora_task)
    for path, scale in adapters.values():
        lora_task.load_lora(path, scale)
    assert lora_task.lora_scales == {"first": 0.7, "second": -1.3}
    ours, theirs = our_outputs(lora_task), peer_outputs(folder, adapters)
    assert max(differences(ours, theirs)) < TOLERANCE
    assert min(differences(ours, plain)) > 1e-2
    lora_task.unload_lora()
    assert max(differences(our_outputs(lora_task), plain)) == 0


def as_kohya(name):
    part, _, rest = name.partition(".")
    layer, end = rest.rsplit(".lora_", 1)
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[part]
    role = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}[end]
    return f"{prefix}{layer.replace('.', '_')}.{role}"


def as_older_diffusers(name):
    for role, new in (("A", "down"), ("B", "up")):
        name = re.sub(
            rf"attn([12])\.to_(\w+?)(\.0)?\.lora_{role}",
            rf"attn\1.processor.to_\2_lora.{new}",
            name,
        )
        name = re.sub(
            rf"self_attn\.(\w+)_proj\.lora_{role}", rf"self_attn.to_\1_lora.{new}", name
        )
        name = name.replace(f".lora_{role}", f".lora_linear_layer.{new}")
    return name


def as_middle_diffusers(name):
    end = ".lora_linear_layer" if "text_encoder" in name else ".lora"
    return name.replace(".lora_A", f"{end}.down").replace(".lora_B", f"{end}.up")


@pytest.mark.parametrize("rename", [as_kohya, as_older_diffusers, as_middle_diffusers])
def test_other_forms_compute_what_they_do_in_diffusers(
    rename, lora_task, folder, files, tmp_path
):
    path = tmp_path / "other.safetensors"
    tensors = {}
    for name, tensor in load_file(files / "first.safetensors").items():
        if rename == as_older_diffusers and not re.search("attn[12]|self_attn", name):
            continue
        tensors[rename(name)] = tensor
        if rename == as_kohya:
            layer = rename(name).split(".")[0]
            # diffusers reads alphas of attention wrongly where they differ.
            tensors[f"{layer}.alpha"] = torch.tensor(3.0)
    save_file(tensors, path)
    plain = our_outputs(lora_task)
    lora_task.load_lora(path, scale=0.8)
    ours = our_outputs(lora_task)
    lora_task.unload_lora("other")
    theirs = peer_outputs(folder, {"other": (path, 0.8)})
    assert max(differences(ours, theirs)) < TOLERANCE
    assert min(differences(ours, plain)) > 1e-2


@pytest.mark.once
@pytest.mark.parametrize("form", LORA_FORMS)
def test_adapters_that_were_trained_here_do_the_same_in_diffusers(
    lora_task, folder, form, tmp_path
):
    task = copy_of(lora_task)
    add_lora(task.backbone, rank=3, alpha=2.0, layers="attn1|attn2")
    random = np.random.default_rng(0)
    for variable in task.backbone.variables:
        if "lora_kernel" in variable.path:
            variable.assign(0.3 * random.standard_normal(variable.shape, "float32"))
    path = tmp_path / "trained.safetensors"
    assert task.save_lora(path, form) == 32
    ours = our_outputs(task)
    assert max(differences(ours, peer_outputs(folder, {"x": (path, 1.0)}))) < TOLERANCE
    assert np.abs(ours[0] - our_outputs(lora_task)[0]).max() > 1e-2


@pytest.mark.once
def test_a_file_of_peft_is_taken_with_the_alpha_beside(lora_task, files, tmp_path):
    tensors = {
        f"base_model.model.{name.removeprefix('unet.')}": tensor
        for name, tensor in load_file(files / "first.safetensors").items()
        if name.startswith("unet.") and "to_k" in name
    }
    path = tmp_path / "adapter_model.safetensors"
    save_file(tensors, path)
    config = {"r": 4, "lora_alpha": 8, "use_rslora": True, "alpha_pattern": {}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    to_k = "down_blocks_0/attentions_0/transformer_block/attn1/to_k/kernel"
    kernel = variables_of(lora_task.backbone)[to_k]
    before = ops.convert_to_numpy(kernel).copy()
    lora_task.load_lora(path, name="peft")
    layer = (
        "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"
    )
    down, up = (tensors[f"{layer}.lora_{role}.weight"].numpy() for role in "AB")
    expected = before + 8 / 2 * (up @ down).T
    np.testing.assert_allclose(ops.convert_to_numpy(kernel), expected, atol=1e-5)
    lora_task.unload_lora()


@pytest.mark.skipif(
    keras.config.backend() != "jax", reason="JAX tells what it compiles"
)
def test_no_change_of_adapters_compiles_anything_anew(lora_task, files, hint):
    import jax

    def generate():
        return lora_task.generate(
            "a cat", hint_image=hint, num_frames=2, num_steps=1, seed=0
        )

    plain = generate()
    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: events.append(event)
    )
    try:
        lora_task.load_lora(files / "first.safetensors")
        full = generate()
        lora_task.set_lora_scales({"first": 0.5})
        half = generate()
        lora_task.unload_lora()
        np.testing.assert_array_equal(generate(), plain)
        assert not [event for event in events if "compile" in event]
        jax.jit(lambda x: x + 1)(1.0)
        assert [event for event in events if "compile" in event]
    finally:
        jax.monitoring.clear_event_listeners()
    assert (full != plain).any() and (half != full).any()


@pytest.fixture
def few_steps(lora_task, files, tmp_path):
    """A preset with an adapter that distils it, or so it says."""
    lora_task.save_to_preset(tmp_path / "few")
    shutil.copy(files / "first.safetensors", tmp_path / "few" / FEW_STEPS_FILE)
    return tmp_path / "few"


def test_a_preset_samples_in_few_steps_by_its_adapter(few_steps, lora_task, files):
    plain = TextToVideo.from_preset(few_steps)
    assert (plain.num_steps, plain.scheduler) == (20, "dpm++2m")
    assert not plain.lora_scales
    assert plain.few_steps_file == few_steps / FEW_STEPS_FILE
    task = TextToVideo.from_preset(few_steps, few_steps=True)
    assert TextToVideo.from_preset(few_steps, few_steps=None).lora_scales
    sampling = (task.num_steps, task.scheduler, task.guidance_scale)
    assert sampling == (4, "lcm", 1.0)
    lora_task.load_lora(files / "first.safetensors")
    for ours, theirs in zip(task.get_weights(), lora_task.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    lora_task.unload_lora()


@pytest.mark.once
def test_few_steps_where_they_can_be_leave_int8_as_it_is(few_steps):
    task = TextToVideo.from_preset(few_steps, dtype="int8_from_float32", few_steps=None)
    assert not task.lora_scales and task.num_steps == 20


def test_few_steps_are_saved_and_equal_what_is_asked_for(few_steps, tmp_path):
    task = TextToVideo.from_preset(few_steps, few_steps=True)
    options = {"num_frames": 2, "height": 128, "width": 128, "seed": 0}
    video = task.generate("a cat", **options)
    asked = {"num_steps": 4, "scheduler": "lcm", "guidance_scale": 1.0}
    np.testing.assert_array_equal(task.generate("a cat", **asked, **options), video)
    task.save_to_preset(tmp_path / "merged")
    merged = TextToVideo.from_preset(tmp_path / "merged")
    assert not merged.lora_scales
    # Another program: rounding may differ.
    difference = merged.generate("a cat", **options).astype(int) - video
    assert np.abs(difference).max() <= 1


@pytest.mark.once
def test_few_steps_without_an_adapter_are_refused(preset):
    with pytest.raises(ValueError, match="needs a preset with an adapter, few_steps"):
        TextToVideo.from_preset(preset, few_steps=True)
    assert TextToVideo.from_preset(preset, few_steps=None).scheduler == "dpm++2m"


def test_a_scale_of_zero_and_unloading_one_of_two_leave_the_rest(lora_task, files):
    plain = our_outputs(lora_task)
    lora_task.load_lora(files / "first.safetensors")
    first = our_outputs(lora_task)
    lora_task.load_lora(files / "second.safetensors", scale=2)
    lora_task.set_lora_scales({"second": 0})
    assert max(differences(our_outputs(lora_task), first)) == 0
    lora_task.set_lora_scales({"second": 1})
    lora_task.unload_lora("first")
    lora_task.unload_lora("second")
    assert max(differences(our_outputs(lora_task), plain)) == 0
    assert lora_task.lora_scales == {}


@pytest.mark.once
def test_fused_adapters_stay(lora_task, files):
    task = copy_of(lora_task)
    task.load_lora(files / "first.safetensors")
    merged = our_outputs(task)
    task.fuse_lora()
    task.unload_lora()
    assert task.lora_scales == {}
    assert max(differences(our_outputs(task), merged)) == 0


@pytest.mark.once
def test_weights_that_training_changed_are_not_put_back(lora_task, files):
    task = copy_of(lora_task)
    task.load_lora(files / "first.safetensors")
    path = "conv_in/spatial_conv/kernel"
    kernel = variables_of(task.backbone)[path]
    kernel.assign(kernel + 1.0)
    changed = ops.convert_to_numpy(kernel).copy()
    with pytest.raises(ValueError, match=f"{path} has changed since.*fuse_lora"):
        task.unload_lora()
    np.testing.assert_array_equal(ops.convert_to_numpy(kernel), changed)
    assert task.lora_scales == {"first": 1.0}


@pytest.mark.once
def test_new_adapters_train_on_top_of_those_that_are_loaded(lora_task, files):
    task = copy_of(lora_task)
    before = task.backbone.get_weights()
    task.load_lora(files / "first.safetensors")
    loaded = our_outputs(task)
    task.compile(trainable="lora", seed=0)
    random = np.random.default_rng(0)
    batch = {
        "latents": random.standard_normal((1, 2, 8, 8, 4), "float32"),
        "context": random.standard_normal((1, 5, 16), "float32"),
    }
    task.fit(Batches(batch), verbose=0)
    assert np.abs(our_outputs(task)[0] - loaded[0]).max() > 0
    task.unload_lora()
    kernels = [v for v in task.backbone.weights if "lora_kernel" not in v.path]
    for variable, value in zip(kernels, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


@pytest.mark.once
def test_kernels_of_whole_numbers_take_no_adapters(lora_task, files):
    task = copy_of(lora_task)
    attention = task.backbone.network.mid_block.attentions[0].transformer_block.attn1
    attention.to_q.quantize("int8")
    kernels = [ops.convert_to_numpy(v).copy() for v in task.backbone.weights]
    with pytest.raises(ValueError, match="attn1/to_q/kernel int8"):
        task.load_lora(files / "first.safetensors")
    for variable, value in zip(task.backbone.weights, kernels, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    assert task.lora_scales == {}


@pytest.mark.once
def test_the_model_of_first_frames_takes_what_it_has_a_place_for(
    lora_task, make_unet, files
):
    image = type(lora_task.backbone).from_config(
        {**lora_task.backbone.get_config(), "in_channels": 4, "temporal": False}
    )
    task = with_parts(copy_of(lora_task), image_backbone=image)
    before = {p: ops.convert_to_numpy(v).copy() for p, v in variables_of(image).items()}
    task.load_lora(files / "first.safetensors")
    changed = [
        path
        for path, variable in variables_of(image).items()
        if (ops.convert_to_numpy(variable) != before[path]).any()
    ]
    assert "mid_block/attentions_0/proj_in/kernel" in changed
    # Of another shape, for 9 channels.
    assert "conv_in/spatial_conv/kernel" not in changed
    task.unload_lora()


@pytest.mark.once
def test_names_and_scales_are_checked(lora_task, files):
    path = files / "first.safetensors"
    lora_task.load_lora(path)
    with pytest.raises(ValueError, match="'first' is loaded already"):
        lora_task.load_lora(path)
    with pytest.raises(ValueError, match=r"no adapter 'other'. Loaded: \['first'\]"):
        lora_task.set_lora_scales({"other": 1.0})
    with pytest.raises(ValueError, match="no adapter 'other'"):
        lora_task.unload_lora("other")
    with pytest.raises(ValueError, match="scale must be a finite number"):
        lora_task.load_lora(path, scale=float("nan"), name="again")
    with pytest.raises(FileNotFoundError):
        lora_task.load_lora(files / "missing.safetensors")
    lora_task.unload_lora()


@pytest.mark.once
def test_what_overflows_changes_nothing(lora_task, files, tmp_path):
    before = our_outputs(lora_task)
    large = load_file(files / "first.safetensors")
    for tensor in large.values():
        tensor *= 1e18
    save_file(large, tmp_path / "large.safetensors")
    with pytest.raises(ValueError, match="values beyond float32"):
        lora_task.load_lora(tmp_path / "large.safetensors", scale=1000)
    assert max(differences(our_outputs(lora_task), before)) == 0
    assert lora_task.lora_scales == {}
