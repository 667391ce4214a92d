import json
import math

import goldens
import numpy as np
import pytest
from holes import write_hole
from safetensors.numpy import load_file, save_file

import weights_tools

FULL = json.loads((goldens.DATA / "layouts_full.json").read_text())


@pytest.mark.once
def test_each_part_of_a_pipeline_is_told(pipeline):
    found = weights_tools.inspect(pipeline)
    assert {p: (f.kind, f.layout, f.video) for p, f in found.items()} == {
        "unet": ("unet", "diffusers", False),
        "vae": ("vae", "diffusers", False),
        "text_encoder": ("text_encoder", "diffusers", False),
    }
    assert found["unet"].config["in_channels"] == 9
    assert found["unet"].config["transformer_epsilon"] == 1e-6


@pytest.mark.once
def test_parameters_are_counted_in_all_and_temporal(video_unet, tmp_path):
    weights_tools.convert(video_unet, tmp_path / "video.msgpack", "makeavid_flax")
    found = weights_tools.inspect(tmp_path / "video.msgpack")["unet"]
    temporal = [w for w in video_unet.weights if "temporal" in w.path]
    assert found.video
    assert found.parameters == video_unet.count_params()
    assert found.temporal_parameters == sum(w.numpy().size for w in temporal)
    assert found.dtypes == {"float32": found.parameters}


@pytest.mark.parametrize("layout", ["makeavid_torch", "diffusers_sd15_inpaint_unet"])
@pytest.mark.once
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


@pytest.mark.once
def test_a_live_model_is_told_too(video_unet):
    found = weights_tools.inspect(video_unet)["unet"]
    assert found.layout == "keras"
    assert found.config["num_heads"] == 2


@pytest.mark.once
@pytest.mark.slow
def test_a_source_is_the_same_as_itself(pipeline):
    parts = weights_tools.verify(pipeline, pipeline)
    assert parts.keys() == {"unet", "vae", "text_encoder"}
    assert all(part.max_error == 0 for part in parts.values())


@pytest.mark.once
@pytest.mark.slow
def test_an_image_model_is_the_same_function_as_its_inflation(pipeline, tmp_path):
    weights_tools.inflate(pipeline / "unet", tmp_path / "preset")
    found = weights_tools.verify(pipeline, tmp_path / "preset")["unet"]
    assert max(found.tensors.values()) == 0
    assert 0 < found.forward < 5e-5
    assert not found.only_first
    assert all("temporal" in path for path in found.only_second)


@pytest.mark.parametrize(
    "path",
    [
        "conv_in.temporal_conv.bias",
        pytest.param("conv_out.spatial_conv.bias", marks=pytest.mark.once),
    ],
)
def test_a_difference_is_found_in_the_weight_and_in_the_function(
    video_unet, tmp_path, path
):
    weights_tools.convert(video_unet, tmp_path / "a", "makeavid_torch")
    weights_tools.convert(video_unet, tmp_path / "b", "makeavid_torch")
    file = tmp_path / "b" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors[path][1] += 0.25
    save_file(tensors, file)
    found = weights_tools.verify(tmp_path / "a", tmp_path / "b")["unet"]
    name = path.replace(".", "/")
    assert found.tensors.pop(name) == pytest.approx(0.25)
    assert max(found.tensors.values()) == 0
    assert found.forward > 1e-3


@pytest.mark.once
def test_another_epsilon_is_another_function_of_the_same_weights(video_unet, tmp_path):
    weights_tools.convert(video_unet, tmp_path / "a.safetensors", "makeavid_torch")
    other = weights_tools.load_model(
        tmp_path / "a.safetensors",
        overrides={"num_heads": 2, "transformer_epsilon": 0.1},
    )
    found = weights_tools.verify(video_unet, other)["unet"]
    assert max(found.tensors.values()) == 0
    assert found.forward > 1e-4


@pytest.mark.once
def test_other_architectures_differ_without_end(video_unet, pipeline):
    found = weights_tools.verify(video_unet, pipeline)["unet"]
    assert math.isinf(found.forward)


@pytest.mark.once
def test_sources_of_other_parts_cannot_be_compared(video_unet, pipeline):
    with pytest.raises(ValueError, match=r"\['unet'\] and \['vae'\]"):
        weights_tools.verify(video_unet, pipeline / "vae")


@pytest.mark.once
def test_half_precision_differs_by_its_rounding(video_unet, tmp_path):
    path = tmp_path / "half.safetensors"
    weights_tools.convert(video_unet, path, "makeavid_torch", dtype="float16")
    half = weights_tools.load_model(path, overrides={"num_heads": 2})
    found = weights_tools.verify(video_unet, half)["unet"]
    largest = max(np.abs(w).max() for w in map(np.asarray, video_unet.get_weights()))
    assert 0 < max(found.tensors.values()) <= largest * 2**-11


@pytest.mark.once
def test_a_part_that_one_lacks_is_a_difference(pipeline):
    found = weights_tools.verify(pipeline, pipeline / "vae")
    assert found["vae"].max_error == 0
    for part in ("unet", "text_encoder"):
        assert math.isinf(found[part].max_error)
        assert found[part].only_first
        assert not found[part].only_second
    found = weights_tools.verify(pipeline, pipeline / "vae", part="vae")
    assert found.keys() == {"vae"}
    with pytest.raises(ValueError, match="no unet"):
        weights_tools.verify(pipeline, pipeline / "vae", part="unet")


@pytest.mark.once
def test_what_is_said_of_the_first_does_not_hide_the_second(video_unet, tmp_path):
    weights_tools.convert(video_unet, tmp_path / "preset")
    overrides = {"transformer_epsilon": 0.1}
    found = weights_tools.verify(video_unet, tmp_path / "preset", overrides=overrides)
    assert found["unet"].forward == 0
    found = weights_tools.verify(tmp_path / "preset", video_unet, overrides=overrides)
    assert found["unet"].forward > 1e-4
    found = weights_tools.verify(
        tmp_path / "preset", tmp_path / "preset", overrides=overrides
    )
    assert found["unet"].forward > 1e-4
