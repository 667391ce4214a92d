"""AnimateDiff's files: opened, told, converted both ways, and put into image models."""

import json

import diffusers
import keras
import numpy as np
import pytest
import torch
from animatediff import (
    DIFFUSERS_NORMS,
    SMALL,
    image_unet,
    motion_adapter,
    motion_unet,
    original_state,
    save_stable_diffusion,
)
from keras import ops
from peers import image_output, our_output
from safetensors.torch import load_file, save_file

import weights_tools
from keras_makeavid import TextToVideo
from keras_makeavid.models import UNetPseudo3D

# How the original's files lie about; each returns the file.
FORMS = {
    "safetensors": lambda state, folder: _saved(state, folder),
    "ckpt": lambda state, folder: _pickled(state, folder),
    "ckpt of a trainer": lambda state, folder: _pickled(
        {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, folder
    ),
    "half precision": lambda state, folder: _saved(
        {name: tensor.half() for name, tensor in state.items()}, folder
    ),
}


def _saved(state, folder):
    save_file(state, folder / "mm.safetensors")
    return folder / "mm.safetensors"


def _pickled(state, folder):
    torch.save(state, folder / "mm.ckpt")
    return folder / "mm.ckpt"


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype
        assert torch.equal(tensor, b[name]), name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.once
def test_files_of_the_original_come_back_bit_by_bit(form, version, tmp_path):
    state = original_state(motion_adapter(version))
    source = FORMS[form](state, tmp_path)
    folder, back = tmp_path / "adapter", tmp_path / "back.safetensors"
    weights_tools.convert(source, folder, "diffusers_adapter")
    weights_tools.convert(folder, back, "animatediff")
    half = form == "half precision"
    expected = {n: t.half() if half else t for n, t in state.items()}
    assert_equal(load_file(back), expected)
    peer = diffusers.MotionAdapter.from_pretrained(folder)
    assert_equal(
        peer.half().state_dict() if half else peer.state_dict(),
        {
            n: t.half() if half else t
            for n, t in motion_adapter(version).state_dict().items()
        },
    )


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
@pytest.mark.once
def test_inspect_tells_version_positions_and_middle_module(version, tmp_path, capsys):
    from keras_makeavid.cli import main

    adapter = motion_adapter(version)
    adapter.save_pretrained(tmp_path / "adapter")
    for source in (tmp_path / "adapter", _saved(original_state(adapter), tmp_path)):
        ((part, found),) = weights_tools.inspect(source).items()
        assert part == "motion" and found.motion == version and found.video
        assert found.parameters == found.temporal_parameters
        assert found.config["motion_positions"] == (24 if version == "v1" else 32)
        assert found.config["motion_mid_block"] == (version == "v2")
        assert found.config["residual_norm_over_frames"] == (version == "v1")
        assert not found.config["motion_norm_over_frames"]
        main(["weights", "inspect", str(source)])
        middle = "a" if version == "v2" else "no"
        line = f"AnimateDiff {version}, positions for {24 if version == 'v1' else 32} "
        said = capsys.readouterr().out
        assert f"{line}frames, {middle} middle module" in said


@pytest.mark.once
def test_a_long_variant_s_positions_are_read_off_the_file(tmp_path):
    state = original_state(motion_adapter("v1"))
    for name, table in state.items():
        if name.endswith(".pe"):
            state[name] = torch.cat([table, table], dim=1)
    config = weights_tools.inspect(_saved(state, tmp_path))["motion"].config
    assert config["motion_positions"] == 48


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.once
def test_a_unet_of_diffusers_comes_back_bit_by_bit(version, tmp_path):
    peer = motion_unet(version)
    peer.save_pretrained(tmp_path / "peer")
    weights_tools.convert(tmp_path / "peer", tmp_path / "preset")
    unet = UNetPseudo3D.from_preset(str(tmp_path / "preset"))
    assert unet.temporal == "motion_modules"
    weights_tools.convert(unet, tmp_path / "back", "diffusers_motion")
    again = diffusers.UNetMotionModel.from_pretrained(tmp_path / "back")
    assert_equal(again.state_dict(), peer.state_dict())
    configs = [json.loads(model.to_json_string()) for model in (peer, again)]
    told = [{k: v for k, v in c.items() if k[0] != "_"} for c in configs]
    assert told[0] == told[1]
    # The modules alone, out of the whole.
    weights_tools.convert(unet, tmp_path / "mm.safetensors", "animatediff")
    there = {k: v for k, v in peer.state_dict().items() if "motion_modules" in k}
    weights_tools.convert(
        tmp_path / "mm.safetensors", tmp_path / "adapter", "diffusers_adapter"
    )
    alone = diffusers.MotionAdapter.from_pretrained(tmp_path / "adapter")
    assert_equal(alone.state_dict(), there)


@pytest.mark.once
def test_what_diffusers_computes_otherwise_is_reported_and_kept(tmp_path):
    motion_unet("v1").save_pretrained(tmp_path / "peer")
    unet = weights_tools.load_model(tmp_path / "peer")
    report = weights_tools.convert(unet, tmp_path / "back", "diffusers_motion")
    assert report.changed == {"unet": DIFFUSERS_NORMS}
    told = weights_tools.load_model(tmp_path / "peer", overrides=DIFFUSERS_NORMS)
    report = weights_tools.convert(told, tmp_path / "told", "diffusers_motion")
    assert not report.changed
    config = weights_tools.inspect(tmp_path / "told")["unet"].config
    assert DIFFUSERS_NORMS.items() <= config.items()


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory):
    return save_stable_diffusion(tmp_path_factory.mktemp("sd") / "sd")


def inputs(channels=4, frames=3):
    random = np.random.default_rng(0)
    width = SMALL["cross_attention_dim"]
    return {
        "sample": random.standard_normal((2, frames, 8, 8, channels), "float32"),
        "timesteps": np.array([7, 981]),
        "context": random.standard_normal((2, 5, width), "float32"),
    }


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_with_new_modules_each_frame_is_the_image_model_s_output(version, tmp_path):
    peer = image_unet()
    peer.save_pretrained(tmp_path / "image")
    weights_tools.inflate(tmp_path / "image", tmp_path / "preset", motion=version)
    unet = weights_tools.load_model(tmp_path / "preset")
    video = inputs()
    if version == "v1":
        # Over all frames are the same statistics only where frames are the same.
        video["sample"][:] = video["sample"][:, :1]
    ours = our_output(unet, video)
    for frame in range(3):
        image = {**video, "sample": video["sample"][:, frame]}
        theirs = image_output(peer, image)
        np.testing.assert_allclose(ours[:, frame], theirs, rtol=0, atol=5e-5)


def test_modules_and_image_model_are_what_diffusers_makes_of_them(tmp_path):
    image, adapter = image_unet(), motion_adapter("v2")
    image.save_pretrained(tmp_path / "image")
    weights_tools.inflate(
        tmp_path / "image",
        tmp_path / "preset",
        motion=_saved(original_state(adapter), tmp_path),
        overrides=DIFFUSERS_NORMS,
    )
    unet = weights_tools.load_model(tmp_path / "preset")
    peer = diffusers.UNetMotionModel.from_unet2d(image, adapter).double().eval()
    video = inputs()
    with torch.no_grad():
        theirs = peer(
            torch.from_numpy(np.moveaxis(video["sample"], -1, 1).copy()).double(),
            torch.from_numpy(video["timesteps"]),
            torch.from_numpy(video["context"]).double().repeat_interleave(3, 0),
        ).sample
    theirs = np.moveaxis(theirs.float().numpy(), 1, -1)
    np.testing.assert_allclose(our_output(unet, video), theirs, rtol=0, atol=5e-5)


@pytest.mark.once
def test_an_inflated_pipeline_has_the_noise_and_defaults_of_animatediff(
    stable_diffusion, tmp_path, capsys
):
    from keras_makeavid.cli import main

    motion = _pickled(original_state(motion_adapter("v2")), tmp_path)
    out = tmp_path / "preset"
    main(["weights", "inflate", str(stable_diffusion), str(out), f"--motion={motion}"])
    assert "unet, vae, text_encoder in layout keras" in capsys.readouterr().out
    task = TextToVideo.from_preset(str(out))
    assert task.schedule.beta_schedule == "linear"
    assert (task.num_frames, task.guidance_scale) == (16, 7.5)
    assert (task.height, task.width) == (128, 128)
    assert task.backbone.in_channels == 4
    # And back, as diffusers' pipeline.
    weights_tools.convert(out, tmp_path / "pipeline", "diffusers_motion")
    pipeline = diffusers.AnimateDiffPipeline.from_pretrained(tmp_path / "pipeline")
    assert isinstance(pipeline.unet, diffusers.UNetMotionModel)
    assert pipeline.scheduler.config.beta_schedule == "linear"
    pipeline.save_pretrained(tmp_path / "saved")
    weights_tools.convert(tmp_path / "saved", tmp_path / "again")
    again = TextToVideo.from_preset(str(tmp_path / "again"))
    configs = [json.loads(json.dumps(t.get_config())) for t in (task, again)]
    assert configs[0]["schedule"] == configs[1]["schedule"]
    for one, other in zip(task.weights, again.weights, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (one, other)))


@pytest.mark.once
@pytest.mark.parametrize("layout", ["keras", "makeavid_torch", "diffusers"])
def test_modules_alone_are_no_model(layout, tmp_path):
    source = _saved(original_state(motion_adapter("v2")), tmp_path)
    with pytest.raises(ValueError, match="motion"):
        weights_tools.convert(source, tmp_path / "out", layout)
    with pytest.raises(ValueError, match="modules alone: inflate an image model"):
        weights_tools.load_model(source)
    with pytest.raises(ValueError, match=r"no unet .* Received: \['motion'\]"):
        weights_tools.inflate(source, tmp_path / "out")


@pytest.mark.once
def test_what_does_not_go_together_is_refused(stable_diffusion, tmp_path):
    image = stable_diffusion / "unet"
    wide = diffusers.MotionAdapter(
        block_out_channels=(32, 96), motion_layers_per_block=1
    )
    wide.save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match=r"block_channels=\[32, 64\]. Rec.*\[32, 96\]"):
        weights_tools.inflate(image, tmp_path / "a", motion=tmp_path / "wide")
    with pytest.raises(ValueError, match="holds no motion modules"):
        weights_tools.inflate(image, tmp_path / "a", motion=image)
    with pytest.raises(FileNotFoundError, match="nothing at v4"):
        weights_tools.inflate(image, tmp_path / "a", motion="v4")
    weights_tools.inflate(image, tmp_path / "video", motion="v3")
    with pytest.raises(ValueError, match="video model already"):
        weights_tools.inflate(tmp_path / "video", tmp_path / "a", motion="v3")
    with pytest.raises(ValueError, match="another kind than layout 'makeavid_torch'"):
        weights_tools.convert(tmp_path / "video", tmp_path / "a", "makeavid_torch")
    keras.utils.set_random_seed(0)
    weights_tools.inflate(image, tmp_path / "pseudo")
    with pytest.raises(ValueError, match="another kind than layout 'animatediff'"):
        weights_tools.convert(tmp_path / "pseudo", tmp_path / "a", "animatediff")


@pytest.mark.once
def test_a_tensor_too_few_is_named(tmp_path):
    state = original_state(motion_adapter("v2"))
    name = sorted(state)[40]
    del state[name]
    with pytest.raises(ValueError, match=f"1 missing: {name}"):
        weights_tools.inspect(_saved(state, tmp_path))
