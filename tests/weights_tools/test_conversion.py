import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import weights_tools
from keras_makeavid import TextToVideo
from keras_makeavid.training import add_lora
from weights_tools.formats import open_tensors

PARTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
PARTS |= {"text_encoder": "model"}


def tensors_of(folder):
    """Every tensor of a pipeline folder, by its file's place and its name."""
    return {
        (part, name.removeprefix("text_model.")): tensor
        for part, stem in PARTS.items()
        for name, tensor in load_file(folder / part / f"{stem}.safetensors").items()
    }


def assert_same_tensors(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype, name
        assert tensor.tobytes() == second[name].tobytes(), name


def weights_in(source, part="unet"):
    """What a source holds, in our names."""
    with weights_tools.open_source(source) as opened:
        weights = opened.component(part).weights
        return {path: np.array(weights.read(path)) for path in weights.specs}


@pytest.mark.parametrize("layout", ["diffusers", "ldm"])
def test_every_byte_of_a_pipeline_comes_back(pipeline, tmp_path, layout):
    weights_tools.convert(pipeline, tmp_path / "there.safetensors", "ldm")
    source = tmp_path / "there.safetensors" if layout == "ldm" else pipeline
    report = weights_tools.convert(source, tmp_path / "back", "diffusers")
    assert report.parts == ("unet", "vae", "text_encoder")
    assert not report.dropped
    assert_same_tensors(tensors_of(pipeline), tensors_of(tmp_path / "back"))


def test_a_preset_s_adapter_is_told_to_be_left_out(inflated, tmp_path):
    preset = shutil.copytree(inflated, tmp_path / "preset")
    (preset / "few_steps.safetensors").touch()
    report = weights_tools.convert(preset, tmp_path / "out", "diffusers")
    assert report.left_out == ("few_steps.safetensors: an adapter of the preset",)


def test_every_byte_of_a_pipeline_comes_back_from_a_preset(
    pipeline, inflated, tmp_path
):
    report = weights_tools.convert(inflated, tmp_path / "back", "diffusers")
    temporal = weights_tools.inspect(inflated)["unet"].temporal_parameters
    assert report.dropped == {"unet": temporal}
    assert_same_tensors(tensors_of(pipeline), tensors_of(tmp_path / "back"))


@pytest.mark.parametrize(
    "names",
    [
        ("video.safetensors", "video.msgpack", "video.weights.h5"),
        ("torch_folder", "flax_folder", "preset"),
    ],
    ids=["files", "folders"],
)
def test_every_byte_of_a_video_model_comes_back(video_unet, tmp_path, names):
    layouts = ("makeavid_torch", "makeavid_flax", "keras")
    source = video_unet
    for name, layout in zip(names, layouts, strict=True):
        weights_tools.convert(source, tmp_path / name, layout)
        source = tmp_path / name
    assert_same_tensors(weights_in(video_unet), weights_in(source))


OTHERWISE = {"num_heads": 2, "gelu": "exact", "transformer_epsilon": 1e-6}


@pytest.fixture(scope="module")
def other_unet(video_unet):
    """The video model, computed otherwise than by default."""
    return type(video_unet).from_config({**video_unet.get_config(), **OTHERWISE})


@pytest.mark.parametrize(
    ("name", "layout", "changed"),
    [
        ("a.safetensors", "makeavid_torch", {"transformer_epsilon": 1e-5}),
        ("a.weights.h5", "keras", {}),
        ("torch", "makeavid_torch", {"transformer_epsilon": 1e-5}),
        ("preset", "keras", {}),
        ("flax", "makeavid_flax", {"gelu": "tanh", "transformer_epsilon": 1e-5}),
    ],
)
def test_a_model_comes_back_as_the_function_that_it_was(
    other_unet, tmp_path, name, layout, changed
):
    report = weights_tools.convert(other_unet, tmp_path / name, layout)
    assert report.changed == ({"unet": changed} if changed else {})
    told, found = (
        weights_tools.inspect(source)["unet"].config
        for source in (other_unet, tmp_path / name)
    )
    assert found == told
    assert found.items() >= OTHERWISE.items()


def test_a_file_that_cannot_say_what_its_model_is_has_it_reported(other_unet, tmp_path):
    path = tmp_path / "a.msgpack"
    report = weights_tools.convert(other_unet, path, "makeavid_flax")
    others = {"gelu": "tanh", "transformer_epsilon": 1e-5, "num_heads": 8}
    assert report.changed == {"unet": others}
    assert weights_tools.inspect(path)["unet"].config.items() >= others.items()


def test_the_original_computes_tanh_weights_by_the_exact_gelu(video_unet, tmp_path):
    report = weights_tools.convert(video_unet, tmp_path / "out", "makeavid_torch")
    assert report.changed == {"unet": {"gelu": "exact"}}


@pytest.mark.parametrize("configuration", ["[]", '{"unet": 5}', '{"unet": {"a": 1}}'])
def test_a_false_configuration_in_a_file_is_refused(
    video_unet, tmp_path, configuration
):
    path = tmp_path / "a.safetensors"
    weights_tools.convert(video_unet, path, "makeavid_torch")
    save_file(load_file(path), path, {"makeavid_config": configuration})
    with pytest.raises(ValueError, match=str(path)):
        weights_tools.inspect(path)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("x.msgpack", "makeavid_torch"),
        ("x.safetensors", "keras"),
        ("x.safetensors", "makeavid_flax"),
        ("x.keras", "keras"),
        ("x.bin", "makeavid_torch"),
        ("x.ckpt", "ldm"),
        ("important.txt", "ldm"),
        ("important.txt", "keras"),
        ("folder", "ldm"),
    ],
)
def test_a_name_of_another_format_is_refused(pipeline, tmp_path, name, layout):
    (tmp_path / "important.txt").write_text("precious")
    with pytest.raises((ValueError, FileExistsError), match=re.escape(name)):
        weights_tools.convert(pipeline, tmp_path / name, layout, force=True)
    assert (tmp_path / "important.txt").read_text() == "precious"
    assert os.listdir(tmp_path) == ["important.txt"]


def test_the_model_of_first_frames_is_dropped_with_its_parameters(
    pipeline, inflated, tmp_path
):
    task = TextToVideo.from_preset(str(inflated))
    image = weights_tools.load_model(pipeline, "unet")
    task = TextToVideo(
        task.backbone, task.preprocessor, task.text_encoder, task.vae, image
    )
    report = weights_tools.convert(task, tmp_path / "out", "diffusers")
    assert report.parts == ("unet", "vae", "text_encoder")
    assert report.dropped["image_unet"] == image.count_params()
    report = weights_tools.convert(task, tmp_path / "sd.safetensors", "ldm")
    assert report.parts == ("unet", "vae", "text_encoder")
    assert report.dropped["image_unet"] == image.count_params()


def test_a_model_with_adapters_is_refused(video_unet, tmp_path):
    adapted = type(video_unet).from_config(video_unet.get_config())
    add_lora(adapted, rank=2, alpha=2.0)
    with pytest.raises(ValueError, match="must have its adapters merged"):
        weights_tools.convert(adapted, tmp_path / "out", "makeavid_torch")
    assert not (tmp_path / "out").exists()


def test_a_keras_archive_is_read(video_unet, tmp_path):
    video_unet.save(tmp_path / "video.keras")
    assert_same_tensors(weights_in(video_unet), weights_in(tmp_path / "video.keras"))


def test_the_folder_says_what_its_model_is(video_unet, tmp_path):
    weights_tools.convert(video_unet, tmp_path / "torch", "makeavid_torch")
    found = weights_tools.inspect(tmp_path / "torch")["unet"].config
    assert (
        weights_tools.load_model(tmp_path / "torch").get_config()
        | {"name": video_unet.name}
        == video_unet.get_config()
    )
    assert found["context_dim"] == 16


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_dtype_can_be_chosen(video_unet, tmp_path, dtype):
    path = tmp_path / "video.safetensors"
    weights_tools.convert(video_unet, path, "makeavid_torch", dtype=dtype)
    with open_tensors(path) as file:
        assert {spec.dtype for spec in file.specs.values()} == {dtype}
    kept = weights_in(path)
    for name, value in weights_in(video_unet).items():
        assert kept[name].tobytes() == value.astype(kept[name].dtype).tobytes()


def test_a_value_beyond_the_dtype_is_named(video_unet, tmp_path):
    weights_tools.convert(video_unet, tmp_path / "a.safetensors", "makeavid_torch")
    tensors = load_file(tmp_path / "a.safetensors")
    tensors["conv_in.spatial_conv.bias"][3] = 1e6
    save_file(tensors, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=r"conv_in\.spatial_conv\.bias.*1e\+06"):
        weights_tools.convert(
            tmp_path / "b.safetensors",
            tmp_path / "c.safetensors",
            "makeavid_torch",
            dtype="float16",
            overrides={"num_heads": 2},
        )
    assert not (tmp_path / "c.safetensors").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_named_with_file_and_tensor(video_unet, tmp_path, value):
    weights_tools.convert(video_unet, tmp_path / "a.safetensors", "makeavid_torch")
    tensors = load_file(tmp_path / "a.safetensors")
    tensors["conv_out.spatial_conv.bias"][0] = value
    save_file(tensors, tmp_path / "b.safetensors")
    with pytest.raises(
        ValueError, match=r"b\.safetensors.*conv_out\.spatial_conv\.bias"
    ):
        weights_tools.convert(tmp_path / "b.safetensors", tmp_path / "preset")
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "b.safetensors"]


def test_an_image_model_does_not_fit_a_video_layout(pipeline, tmp_path):
    with pytest.raises(ValueError, match="inflate it"):
        weights_tools.convert(pipeline, tmp_path / "out", "makeavid_torch")
    assert not (tmp_path / "out").exists()


def test_an_output_is_replaced_only_by_force(video_unet, tmp_path):
    weights_tools.convert(video_unet, tmp_path / "out", "makeavid_flax")
    with pytest.raises(FileExistsError, match="force"):
        weights_tools.convert(video_unet, tmp_path / "out")
    assert (tmp_path / "out" / "diffusion_flax_model.msgpack").exists()
    weights_tools.convert(video_unet, tmp_path / "out", force=True)
    assert not (tmp_path / "out" / "diffusion_flax_model.msgpack").exists()


def test_not_even_force_replaces_what_is_no_checkpoint(video_unet, tmp_path):
    (tmp_path / "holidays").mkdir()
    (tmp_path / "holidays" / "beach.jpg").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        weights_tools.convert(video_unet, tmp_path / "holidays", force=True)
    assert (tmp_path / "holidays" / "beach.jpg").exists()


def test_progress_counts_bytes(video_unet, tmp_path):
    seen = []
    report = weights_tools.convert(
        video_unet,
        tmp_path / "video.safetensors",
        "makeavid_torch",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (report.nbytes, report.nbytes)
    assert len(seen) == len(video_unet.weights)
    assert (tmp_path / "video.safetensors").stat().st_size > report.nbytes


def run_inflate(source, out, layout, before=""):
    """Make a video model of a source, replacing another, in a process of its own."""
    code = (
        f"{before}\nimport weights_tools\n"
        f"weights_tools.inflate({str(source)!r}, {str(out)!r}, {layout!r}, force=True)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        # The backend that starts in half of the time.
        env={**os.environ, "PYTHONPATH": os.getcwd(), "KERAS_BACKEND": "jax"},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("layout", ["keras", "makeavid_torch"])
def test_a_full_disk_leaves_nothing(pipeline, tmp_path, layout):
    limit = resource.RLIMIT_FSIZE
    before = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit({limit}, (2_000_000, 2_000_000))"
    )
    (tmp_path / "full").mkdir()
    process = run_inflate(pipeline, tmp_path / "full" / "out", layout, before)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "OSError" in errors
    assert re.search("File too large|could not be written", errors)
    assert os.listdir(tmp_path / "full") == []


SLOWLY = """
import time
from weights_tools.formats.writing import TensorWriter
write = TensorWriter.write
def slowly(*a):
    time.sleep(0.05)
    write(*a)
TensorWriter.write = slowly
"""


def test_a_killed_conversion_leaves_no_output(pipeline, tmp_path):
    folder = tmp_path / "killed"
    folder.mkdir()
    process = run_inflate(pipeline, folder / "out", "keras", SLOWLY)
    while not os.listdir(folder) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "out").exists()


def test_a_killed_replacement_leaves_the_old_output(pipeline, video_unet, tmp_path):
    folder = tmp_path / "killed"
    folder.mkdir()
    weights_tools.convert(video_unet, folder / "out")
    old = weights_in(folder / "out")
    process = run_inflate(pipeline, folder / "out", "keras", SLOWLY)
    while len(os.listdir(folder)) == 1 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert_same_tensors(weights_in(folder / "out"), old)


def test_neither_torch_nor_flax_is_needed(video_unet, pipeline, tmp_path):
    names = {"a.safetensors": "makeavid_torch", "a.msgpack": "makeavid_flax"}
    names |= {"a.weights.h5": "keras"}
    for name, layout in names.items():
        weights_tools.convert(video_unet, tmp_path / name, layout)
    weights_tools.convert(pipeline, tmp_path / "ldm.safetensors", "ldm")
    code = f"""
import sys
sys.modules["torch"] = sys.modules["flax"] = None
import weights_tools
names = {names!r}
for name in names:
    assert weights_tools.inspect(name)["unet"].video
    for number, (other, layout) in enumerate(names.items()):
        weights_tools.convert(name, f"{{number}}{{other}}", layout, force=True,
            overrides={{"num_heads": 2}})
    weights_tools.convert(name, "preset", force=True)
assert len(weights_tools.inspect("ldm.safetensors")) == 3
weights_tools.inflate("ldm.safetensors", "task")
weights_tools.convert("task", "folder", "diffusers")
"""
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.getcwd(), "KERAS_BACKEND": "jax"},
        cwd=tmp_path,
        check=True,
    )
    assert_same_tensors(weights_in(tmp_path / "preset"), weights_in(video_unet))
    assert_same_tensors(tensors_of(tmp_path / "folder"), tensors_of(pipeline))


def test_one_part_can_be_taken(pipeline, tmp_path):
    report = weights_tools.convert(pipeline, tmp_path / "vae", part="vae")
    assert report.parts == ("vae",)
    assert weights_tools.load_model(tmp_path / "vae").latent_channels == 4
    with pytest.raises(ValueError, match="no image_unet.*'text_encoder'"):
        weights_tools.convert(pipeline, tmp_path / "other", part="image_unet")


def test_the_parts_that_a_unet_lacks_come_from_its_pipeline(pipeline, tmp_path):
    weights_tools.inflate(pipeline / "unet", tmp_path / "unet", "makeavid_flax")
    weights_tools.convert(tmp_path / "unet", tmp_path / "preset", base=pipeline)
    found = weights_tools.inspect(tmp_path / "preset")
    assert found.keys() == {"unet", "vae", "text_encoder"}
    assert found["unet"].video
    weights_tools.convert(tmp_path / "preset", tmp_path / "back", "diffusers")
    assert_same_tensors(tensors_of(pipeline), tensors_of(tmp_path / "back"))


def test_what_makes_no_preset_is_refused(pipeline, tmp_path):
    shutil.copytree(pipeline / "vae", tmp_path / "some" / "vae")
    shutil.copytree(pipeline / "text_encoder", tmp_path / "some" / "text_encoder")
    with pytest.raises(ValueError, match=r"Received: \['text_encoder', 'vae'\]"):
        weights_tools.convert(tmp_path / "some", tmp_path / "out")


def test_the_default_size_is_the_sample_size_of_a_pipeline(pipeline, tmp_path):
    weights_tools.inflate(pipeline, tmp_path / "preset")
    config = json.loads((tmp_path / "preset" / "task.json").read_text())["config"]
    assert (config["height"], config["width"]) == (64, 64)
    changed = {"height": 128, "width": 64, "num_frames": 5, "guidance_scale": 0}
    task = {**json.loads((tmp_path / "preset" / "task.json").read_text())}
    task["config"] |= changed
    (tmp_path / "preset" / "task.json").write_text(json.dumps(task))
    weights_tools.convert(tmp_path / "preset", tmp_path / "back", "diffusers")
    unet = json.loads((tmp_path / "back" / "unet" / "config.json").read_text())
    assert unet["sample_size"] == [16, 8]
    weights_tools.inflate(tmp_path / "back", tmp_path / "again")
    config = json.loads((tmp_path / "again" / "task.json").read_text())["config"]
    assert (config["height"], config["width"]) == (128, 64)
    # What a pipeline has no place for stays only where a preset becomes a preset.
    weights_tools.convert(tmp_path / "preset", tmp_path / "half", dtype="float16")
    config = json.loads((tmp_path / "half" / "task.json").read_text())["config"]
    assert changed.items() <= config.items()


def test_a_sample_size_that_a_task_would_refuse_is_no_default(pipeline, tmp_path):
    shutil.copytree(pipeline, tmp_path / "pipeline")
    path = tmp_path / "pipeline" / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sample_size": 50}))
    weights_tools.inflate(tmp_path / "pipeline", tmp_path / "preset")
    config = json.loads((tmp_path / "preset" / "task.json").read_text())["config"]
    assert (config["height"], config["width"]) == (512, 512)


def test_a_tokenizer_longer_than_the_text_encoder_is_refused(pipeline, tmp_path):
    shutil.copytree(pipeline, tmp_path / "pipeline")
    path = tmp_path / "pipeline" / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps({"model_max_length": 256}))
    with pytest.raises(ValueError, match="at most 77 tokens. Received: .* 256"):
        weights_tools.inflate(tmp_path / "pipeline", tmp_path / "preset")


def with_added_token(pipeline, folder, embedding_too=True, tokenizer_too=True):
    """A pipeline as a user of textual inversion saves it."""
    from transformers import CLIPTextModel, CLIPTokenizer

    shutil.copytree(pipeline, folder)
    if tokenizer_too:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        tokenizer.model_max_length = 77
        tokenizer.add_tokens("<cat-toy>")
        shutil.rmtree(folder / "tokenizer")
        tokenizer.save_pretrained(folder / "tokenizer")
    if embedding_too:
        model = CLIPTextModel.from_pretrained(folder / "text_encoder")
        model.resize_token_embeddings(49409)
        model.save_pretrained(folder / "text_encoder")
    return folder


def test_a_pipeline_with_an_added_token_keeps_it_there_and_back(pipeline, tmp_path):
    from transformers import CLIPTokenizer

    folder = with_added_token(pipeline, tmp_path / "pipeline")
    weights_tools.inflate(folder, tmp_path / "preset")
    task = TextToVideo.from_preset(str(tmp_path / "preset"))
    row = task.preprocessor("a <cat-toy>")[0].tolist()
    assert row[:4] == [49406, 320, 49408, 49407]
    assert task.encode_prompts(["a <cat-toy>"]).shape == (1, 77, 64)
    weights_tools.convert(tmp_path / "preset", tmp_path / "back", "diffusers")
    back = CLIPTokenizer.from_pretrained(tmp_path / "back" / "tokenizer")
    assert back("a <cat-toy>")["input_ids"] == row[:4]


def test_tokens_that_the_text_encoder_does_not_know_are_refused(pipeline, tmp_path):
    folder = with_added_token(pipeline, tmp_path / "pipeline", embedding_too=False)
    with pytest.raises(ValueError, match="knows 49408 .*: a .* 49409, .*<cat-toy>"):
        weights_tools.inflate(folder, tmp_path / "preset")


def test_tokens_that_no_prompt_reaches_are_told(pipeline, tmp_path):
    folder = with_added_token(pipeline, tmp_path / "pipeline", tokenizer_too=False)
    with pytest.warns(UserWarning, match="49409 tokens, and the tokenizer 49408"):
        weights_tools.inflate(folder, tmp_path / "preset")


@pytest.mark.parametrize("size", ["large", [8], [8, 8, 8], 0, -8, 10**9, 8.0, True])
def test_a_sample_size_that_is_none_is_refused(pipeline, tmp_path, size):
    shutil.copytree(pipeline, tmp_path / "pipeline")
    path = tmp_path / "pipeline" / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sample_size": size}))
    with pytest.raises(ValueError, match="unet/config.json"):
        weights_tools.inflate(tmp_path / "pipeline", tmp_path / "preset")


def test_diffusers_reads_what_is_written(pipeline, image_unet, vae, tmp_path):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    weights_tools.convert(pipeline, tmp_path / "ldm.safetensors", "ldm")
    weights_tools.convert(
        tmp_path / "ldm.safetensors",
        tmp_path / "back",
        "diffusers",
        base=pipeline,
    )
    for model, part in ((image_unet, "unet"), (vae, "vae")):
        kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part]
        back = kind.from_pretrained(
            tmp_path / "back", subfolder=part, low_cpu_mem_usage=False
        )
        assert_equal_states(back, model)


def test_diffusers_reads_the_ldm_file(pipeline, image_unet, vae, tmp_path, monkeypatch):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = tmp_path / "ldm.safetensors"
    weights_tools.convert(pipeline, path, "ldm")
    for kind, model, part in (
        (UNet2DConditionModel, image_unet, "unet"),
        (AutoencoderKL, vae, "vae"),
    ):
        back = kind.from_single_file(
            str(path), config=str(pipeline), subfolder=part, low_cpu_mem_usage=False
        )
        assert_equal_states(back, model)


def test_transformers_names_are_those_of_the_ldm_file(pipeline, text_encoder, tmp_path):
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint

    path = tmp_path / "ldm.safetensors"
    weights_tools.convert(pipeline, path, "ldm")
    tensors = convert_ldm_clip_checkpoint(dict(load_file(path)))
    expected = text_encoder.state_dict()
    assert {n.removeprefix("text_model.") for n in tensors} == expected.keys()
    for name, tensor in tensors.items():
        theirs = expected[name.removeprefix("text_model.")].numpy()
        np.testing.assert_array_equal(tensor, theirs)


def assert_equal_states(first, second):
    states = first.state_dict(), second.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.filterwarnings("ignore")
def test_diffusers_loads_a_pipeline_that_was_written(inflated, image_unet, tmp_path):
    from diffusers import StableDiffusionInpaintPipeline

    weights_tools.convert(inflated, tmp_path / "pipeline", layout="diffusers")
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(tmp_path / "pipeline")
    for name, value in image_unet.state_dict().items():
        assert torch.equal(pipeline.unet.state_dict()[name], value)
    assert pipeline.scheduler.config.beta_schedule == "scaled_linear"
