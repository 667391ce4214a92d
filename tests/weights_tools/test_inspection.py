import json
import math

import goldens
import pytest
from holes import write_hole

import weights_tools

FULL = json.loads((goldens.DATA / "layouts_full.json").read_text())


def test_each_part_of_a_pipeline_is_told(pipeline):
    found = weights_tools.inspect(pipeline)
    assert {p: (f.kind, f.layout, f.video) for p, f in found.items()} == {
        "unet": ("unet", "diffusers", False),
        "vae": ("vae", "diffusers", False),
        "text_encoder": ("text_encoder", "diffusers", False),
    }
    assert found["unet"].config["in_channels"] == 9
    assert found["unet"].config["transformer_epsilon"] == 1e-6


def test_parameters_are_counted_in_all_and_temporal(video_unet, tmp_path):
    weights_tools.convert(video_unet, tmp_path / "video.msgpack", "makeavid_flax")
    found = weights_tools.inspect(tmp_path / "video.msgpack")["unet"]
    temporal = [w for w in video_unet.weights if "temporal" in w.path]
    assert found.video
    assert found.parameters == video_unet.count_params()
    assert found.temporal_parameters == sum(w.numpy().size for w in temporal)
    assert found.dtypes == {"float32": found.parameters}


@pytest.mark.parametrize("layout", ["makeavid_torch", "diffusers_sd15_inpaint_unet"])
def test_a_full_size_file_is_told_without_its_tensors(layout, tmp_path):
    """A file of the published names and shapes, whose 4.4 GB are a hole."""
    path = tmp_path / "full.safetensors"
    write_hole(path, FULL[layout])
    found = weights_tools.inspect(path)["unet"]
    assert found.parameters == sum(map(math.prod, FULL[layout].values()))
    video = layout == "makeavid_torch"
    assert found.temporal_parameters == (241_043_252 if video else 0)
    assert found.config["block_channels"] == [320, 640, 1280, 1280]
    assert found.config["context_dim"] == 768


def test_a_live_model_is_told_too(video_unet):
    found = weights_tools.inspect(video_unet)["unet"]
    assert found.layout == "keras"
    assert found.config["num_heads"] == 2
