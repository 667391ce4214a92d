import json
import re
import shutil

import numpy as np
import pytest
import torch
from peers import image_output, our_output
from safetensors.torch import load_file, save_file

import weights_tools
from weights_tools.opening import download

WEIGHTS = "diffusion_pytorch_model.safetensors"


def read(source, **options):
    """Every weight of a source of one UNet, in our names."""
    with weights_tools.open_source(source, **options) as opened:
        weights = opened.component("unet").weights
        return {path: np.array(weights.read(path)) for path in weights.specs}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


@pytest.fixture(scope="module")
def expected(pipeline):
    return read(pipeline)


@pytest.fixture
def folder(pipeline, tmp_path):
    """A UNet's folder that has no weights yet."""
    config = (pipeline / "unet" / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    return tmp_path


def test_a_pickled_file_is_read(image_unet, folder, expected):
    image_unet.save_pretrained(folder, safe_serialization=False)
    assert not (folder / WEIGHTS).exists()
    assert_same(read(folder), expected)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_shards_are_read(image_unet, folder, expected, safe):
    image_unet.save_pretrained(folder, safe_serialization=safe, max_shard_size="4MB")
    assert len(list(folder.glob("*-of-*"))) > 2
    assert_same(read(folder), expected)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_a_variant_is_read_where_it_is_asked_for_or_alone(
    pipeline, image_unet, folder, safe
):
    half = type(image_unet).from_pretrained(
        pipeline / "unet", torch_dtype=torch.float16, low_cpu_mem_usage=False
    )
    half.save_pretrained(folder, variant="fp16", safe_serialization=safe)
    assert read(folder)["conv_in/spatial_conv/bias"].dtype == "float16"
    image_unet.save_pretrained(folder)
    assert read(folder)["conv_in/spatial_conv/bias"].dtype == "float32"
    kept = read(folder, variant="fp16")["conv_in/spatial_conv/bias"]
    np.testing.assert_array_equal(kept, half.conv_in.bias.detach().numpy())


def test_the_architecture_is_read_off_a_file_without_configuration(pipeline, tmp_path):
    weights_tools.convert(pipeline, tmp_path / "ldm.safetensors", "ldm")
    told = weights_tools.inspect(pipeline)
    read_off = weights_tools.inspect(tmp_path / "ldm.safetensors")
    for part in ("unet", "vae", "text_encoder"):
        assert read_off[part].config == told[part].config


def test_what_the_source_does_not_tell_can_be_said(video_unet, tmp_path):
    path = tmp_path / "video.safetensors"
    weights_tools.convert(video_unet, path, "makeavid_torch")
    overrides = {"num_heads": 2, "transformer_epsilon": 1e-6, "gelu": "exact"}
    unet = weights_tools.load_model(path, overrides=overrides)
    assert unet.transformer_epsilon == 1e-6
    assert (unet.gelu, unet.num_heads) == ("exact", 2)
    with pytest.raises(ValueError, match="colour"):
        weights_tools.load_model(path, overrides={"colour": "red"})


def as_hub_cache(folder, home, name):
    """Copy a folder into a cache as `huggingface_hub` lays it out."""
    commit = "0123456789abcdef" * 2 + "01234567"
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / commit).symlink_to(folder)
    return commit


@pytest.fixture
def offline(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    return tmp_path / "home"


@pytest.mark.parametrize("revision", ["", "@main", "@commit"])
def test_a_repository_of_the_hub_is_read_from_its_cache(
    pipeline, offline, expected, revision
):
    name = "stable-diffusion-v1-5/stable-diffusion-inpainting"
    commit = as_hub_cache(pipeline, offline, name)
    source = f"hf://{name}{revision.replace('commit', commit)}"
    assert_same(read(source), expected)
    assert weights_tools.inspect(source).keys() == {"unet", "vae", "text_encoder"}


def test_what_is_known_of_a_repository_is_taken_over(video_unet, offline, tmp_path):
    weights_tools.convert(video_unet, tmp_path / "made", "makeavid_torch")
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert "transformer_epsilon" not in config
    name = "lxj616/make-a-stable-diffusion-video-timelapse"
    as_hub_cache(tmp_path / "made", offline, name)
    found = weights_tools.inspect(f"hf://{name}")["unet"].config
    assert (found["transformer_epsilon"], found["gelu"]) == (1e-6, "exact")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of one repository, a folder: it fetches as `huggingface_hub` would."""
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    repository, cache = tmp_path / "repository", tmp_path / "cache"

    def fetch(name, *, revision, allow_patterns, ignore_patterns):
        paths = [p for p in repository.rglob("*") if p.is_file()]
        for path in filter_repo_objects(
            [str(p.relative_to(repository)) for p in paths],
            allow_patterns=allow_patterns,
            ignore_patterns=ignore_patterns,
        ):
            (cache / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(repository / path, cache / path)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    repository.mkdir()
    return repository, cache


def fetched(cache):
    weights = (".safetensors", ".bin", ".msgpack", ".ckpt")
    return sorted(p.name for p in cache.rglob("*") if p.suffix in weights)


def test_pickled_weights_are_fetched_rather_than_those_of_flax(
    pipeline, image_unet, hub, expected
):
    repository, cache = hub
    image_unet.save_pretrained(repository / "unet", safe_serialization=False)
    (repository / "unet" / "diffusion_flax_model.msgpack").write_bytes(b"never read")
    assert_same(read("hf://some/one"), expected)
    assert fetched(cache) == ["diffusion_pytorch_model.bin"]


def test_a_variant_is_fetched_where_there_is_nothing_else(pipeline, hub):
    repository, cache = hub
    shutil.copytree(pipeline / "unet", repository / "unet")
    path = repository / "unet" / WEIGHTS
    path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert weights_tools.inspect("hf://some/one").keys() == {"unet"}
    assert fetched(cache) == ["diffusion_pytorch_model.fp16.safetensors"]


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_repository_of_a_single_checkpoint_is_fetched(pipeline, hub, suffix):
    repository, cache = hub
    path = repository / "sd.safetensors"
    weights_tools.convert(pipeline, path, "ldm")
    if suffix == ".ckpt":
        torch.save({"state_dict": load_file(path)}, path.with_suffix(".ckpt"))
        path.unlink()
    found = weights_tools.inspect("hf://some/one")
    assert found.keys() == {"unet", "vae", "text_encoder"}
    assert fetched(cache) == ["sd" + suffix]


def test_the_timelapse_model_computes_as_the_image_model_in_it(
    pipeline, image_unet, offline, tmp_path
):
    """Its configuration names the image model's blocks, and no epsilon and no GELU."""
    weights_tools.inflate(pipeline / "unet", tmp_path / "made", "makeavid_torch")
    config = json.loads((pipeline / "unet" / "config.json").read_text())
    config["_class_name"] = "UNetPseudo3DConditionModel"
    assert "CrossAttnDownBlock2D" in config["down_block_types"]
    (tmp_path / "made" / "config.json").write_text(json.dumps(config))
    name = "lxj616/make-a-stable-diffusion-video-timelapse"
    as_hub_cache(tmp_path / "made", offline, name)
    weights_tools.convert(f"hf://{name}", tmp_path / "preset")
    random = np.random.default_rng(0)
    inputs = {
        "sample": random.standard_normal((2, 8, 8, 9), "float32"),
        "timesteps": np.array([7, 981]),
        "context": random.standard_normal((2, 5, 64), "float32"),
    }
    expected = image_output(image_unet, inputs)

    def error(source, **options):
        unet = weights_tools.load_model(source, **options)
        return np.abs(our_output(unet, inputs) - expected).max()

    assert error(tmp_path / "preset") < 5e-5
    # What the hub's name tells is seen in the output.
    assert error(tmp_path / "made") > 5e-5


@pytest.mark.parametrize("name", ["hf://nobody/nothing", "hf://nobody/nothing@v2"])
def test_a_repository_that_is_not_there_is_named(offline, name):
    with pytest.raises(FileNotFoundError, match="nobody/nothing"):
        weights_tools.inspect(name)


@pytest.mark.parametrize("name", ["hf://", "hf://one", "hf://a/b/c", "hf://../x@y z"])
def test_a_malformed_hub_name_is_refused(name):
    with pytest.raises(ValueError, match=re.escape(name)):
        download(name)


def test_a_path_without_anything_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing at .*missing"):
        weights_tools.inspect(tmp_path / "missing")


def test_a_folder_without_weights_lists_what_it_has(folder):
    with pytest.raises(FileNotFoundError, match=r"\['config\.json'\]"):
        weights_tools.inspect(folder)


def test_tensors_of_no_known_model_are_refused(tmp_path):
    save_file({"banana": torch.zeros(3)}, tmp_path / "fruit.safetensors")
    with pytest.raises(ValueError, match=r"fruit\.safetensors.*banana"):
        weights_tools.inspect(tmp_path / "fruit.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers_per_block": 10**9}, "layers_per_block .* at most 64"),
        ({"cross_attention_dim": 10**12}, "cross_attention_dim .* at most"),
        ({"block_out_channels": [32] * 10**5}, "list of 1 to 64"),
        ({"norm_num_groups": 0}, "norm_num_groups .* at least 1"),
        ({"block_out_channels": [32, 32, 32, 32]}, "misshapen"),
        ({"attention_head_dim": "eight"}, "attention_head_dim .*'eight'"),
        ({"act_fn": "relu"}, "act_fn"),
    ],
)
def test_a_hostile_configuration_is_refused(image_unet, folder, change, message):
    image_unet.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=message):
        weights_tools.inspect(folder)


def test_missing_and_surplus_tensors_are_listed_with_the_file(image_unet, folder):
    image_unet.save_pretrained(folder)
    tensors = load_file(folder / WEIGHTS)
    tensors["conv_in.extra"] = tensors.pop("conv_norm_out.bias")
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ValueError) as error:
        weights_tools.inspect(folder)
    assert WEIGHTS in str(error.value)
    assert "1 missing: conv_norm_out.bias (32,)" in str(error.value)
    assert "1 surplus: conv_in.extra (32,)" in str(error.value)


def with_running_mean(tensors, also=True):
    """A checkpoint as LDM saves it in training, with a mean that is 1 larger."""
    prefix = "model.diffusion_model."
    unet = {n: t for n, t in tensors.items() if n.startswith(prefix)}
    mean = {
        "model_ema." + n.removeprefix("model.").replace(".", ""): t + 1
        for n, t in unet.items()
    }
    assert len(mean) == len(unet)
    buffers = {
        "model_ema.decay": torch.ones(1),
        "model_ema.num_updates": torch.ones(1, dtype=torch.int32),
        "betas": torch.ones(1000),
    }
    kept = {n: t for n, t in tensors.items() if also or n not in unet}
    return {**kept, **mean, **buffers}


@pytest.fixture(scope="module")
def ldm(pipeline, tmp_path_factory):
    """The tensors of the pipeline in one file of LDM."""
    path = tmp_path_factory.mktemp("ldm") / "sd.safetensors"
    weights_tools.convert(pipeline, path, "ldm")
    return load_file(path)


@pytest.mark.parametrize("also", [True, False], ids=["both", "mean alone"])
def test_the_running_mean_of_the_weights_is_taken_where_asked_for_or_alone(
    ldm, expected, tmp_path, also
):
    path = tmp_path / "trained.safetensors"
    save_file(with_running_mean(ldm, also), path)
    mean = {name: value + 1 for name, value in expected.items()}
    assert_same(read(path), expected if also else mean)
    assert_same(read(path, variant="ema"), mean)
    number = len(expected)
    left_out = list(weights_tools.inspect(path).left_out)
    assert left_out[0].startswith(f"model_ema.*: {number * also + 2} tensors of ")
    assert left_out[1:] == ["names without a prefix: 1 tensors of 1,000 numbers"]
    report = weights_tools.convert(path, tmp_path / "out", "diffusers")
    assert list(report.left_out) == left_out


@pytest.mark.parametrize("place", ["ema", "state_dict_ema"])
def test_a_running_mean_in_a_dict_of_its_own_is_listed(ldm, expected, tmp_path, place):
    prefix = "model.diffusion_model."
    unet = {n: t for n, t in ldm.items() if n.startswith(prefix)}
    mean = {n: t + 1 for n, t in unet.items()}
    path = tmp_path / "trained.ckpt"
    torch.save({"state_dict": unet, place: mean, "epoch": 3}, path)
    assert_same(read(path), expected)
    listed = weights_tools.inspect(path).left_out
    assert listed == (f"{place}: an entry of the checkpoint",)
    with pytest.raises(ValueError, match=r"no running mean .*, model_ema\.\*"):
        weights_tools.inspect(path, variant="ema")
    torch.save({place: mean, "epoch": 3}, path)
    assert_same(read(path), {name: value + 1 for name, value in expected.items()})


def test_the_state_of_an_optimizer_is_listed(ldm, expected, tmp_path):
    moments = {0: {"step": 3, "exp_avg": torch.ones(5)}, 1: [torch.ones(2, 2)]}
    ring = [torch.ones(7)]
    ring.append(ring)
    content = {"state_dict": ldm, "optimizer_states": [{"state": moments}], "epoch": 3}
    content["ring"] = ring
    torch.save(content, tmp_path / "trained.ckpt")
    assert_same(read(tmp_path / "trained.ckpt"), expected)
    assert list(weights_tools.inspect(tmp_path / "trained.ckpt").left_out) == [
        "optimizer_states: an entry of the checkpoint",
        "ring: an entry of the checkpoint",
    ]


def test_a_running_mean_that_is_not_there_is_not_taken(ldm, tmp_path):
    save_file(ldm, tmp_path / "sd.safetensors")
    assert weights_tools.inspect(tmp_path / "sd.safetensors").left_out == ()
    with pytest.raises(ValueError, match=r"sd\.safetensors.*model_ema"):
        weights_tools.inspect(tmp_path / "sd.safetensors", variant="ema")


@pytest.mark.parametrize("prefix", ["", "diffusion_model."])
def test_a_unet_of_ldm_alone_is_read(ldm, expected, tmp_path, prefix):
    whole = "model.diffusion_model."
    tensors = {
        prefix + n.removeprefix(whole): t for n, t in ldm.items() if n.startswith(whole)
    }
    save_file(tensors, tmp_path / "unet.safetensors")
    assert_same(read(tmp_path / "unet.safetensors"), expected)
    torch.save(tensors, tmp_path / "unet.ckpt")
    assert_same(read(tmp_path / "unet.ckpt"), expected)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_the_prefix_of_a_wrapped_model_is_left_out(ldm, expected, tmp_path, prefix):
    path = tmp_path / "sd.safetensors"
    save_file({prefix + name: tensor for name, tensor in ldm.items()}, path)
    assert_same(read(path), expected)
    assert weights_tools.inspect(path).left_out == ()


def test_a_running_mean_is_not_taken_of_other_layouts(video_unet, tmp_path):
    for layout in ("keras", "makeavid_torch"):
        out = tmp_path / layout
        weights_tools.convert(video_unet, out, layout)
        with pytest.raises(ValueError, match="has no running mean of its weights"):
            weights_tools.inspect(out, variant="ema")


def test_folders_of_a_pipeline_without_a_place_here_are_listed(pipeline, tmp_path):
    shutil.copytree(pipeline, tmp_path / "pipeline")
    (tmp_path / "pipeline" / "safety_checker").mkdir()
    (tmp_path / "pipeline" / "unet_ema").mkdir()
    found = weights_tools.inspect(tmp_path / "pipeline")
    assert found.left_out == ("safety_checker: a folder", "unet_ema: a folder")


@pytest.mark.parametrize("layout", ["ldm", "diffusers"])
def test_a_matrix_and_a_convolution_of_the_same_numbers_are_the_same(
    pipeline, ldm, expected, tmp_path, layout
):
    """As other tools save `proj_in` and `proj_out`, and the VAE's attention."""
    path = tmp_path / "other.safetensors"
    if layout == "ldm":
        tensors = ldm
    else:
        tensors = load_file(pipeline / "unet" / WEIGHTS)
        config = (pipeline / "unet" / "config.json").read_text()
        (tmp_path / "config.json").write_text(config)
    squeezed = {
        name: tensor[:, :, 0, 0].clone() if tensor.shape[2:] == (1, 1) else tensor
        for name, tensor in tensors.items()
    }
    extended = {
        name: tensor[:, :, None, None].clone()
        if tensor.ndim == 2 and name.endswith(("to_q.weight", "proj.weight"))
        else tensor
        for name, tensor in tensors.items()
    }
    for other in (squeezed, extended):
        assert {n: t.shape for n, t in other.items()} != {
            n: t.shape for n, t in tensors.items()
        }
        save_file(other, path)
        assert_same(read(path), expected)
