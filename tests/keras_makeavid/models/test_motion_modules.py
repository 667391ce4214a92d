"""A UNet with motion modules against diffusers' and a transcription of AnimateDiff."""

import copy
import functools

import keras
import numpy as np
import pytest
import torch
from animatediff import (
    DIFFUSERS_NORMS,
    SMALL,
    SMALL_BLOCKS,
    image_unet,
    motion_unet,
    twin,
)
from gradients import value_and_gradients
from keras import ops
from running import runner

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.training import VideoDiffusion
from weights_tools.architectures import variables_of
from weights_tools.layouts import get_layout


@functools.cache
def pair(version):
    """Our model, itself as a function of arrays, and its peer."""
    peer = motion_unet(version)
    unet = twin(peer, **DIFFUSERS_NORMS)
    return unet, runner(unet), peer


def inputs_of(frames, height=8, width=12, context_dim=24):
    random = np.random.default_rng(0)
    return {
        "sample": random.standard_normal((2, frames, height, width, 4), "float32"),
        "timesteps": np.array([7, 981]),
        "context": random.standard_normal((2, 5, context_dim), "float32"),
    }


def peer_inputs(inputs, dtype=torch.float64):
    frames = inputs["sample"].shape[1]
    return (
        torch.from_numpy(np.moveaxis(inputs["sample"], -1, 1).copy()).to(dtype),
        torch.from_numpy(inputs["timesteps"]),
        # Each frame has its own copy of the text.
        torch.from_numpy(inputs["context"]).to(dtype).repeat_interleave(frames, 0),
    )


def peer_output(peer, inputs):
    """In float64: the error is then ours alone."""
    with torch.no_grad():
        output = copy.deepcopy(peer).double()(*peer_inputs(inputs)).sample
    return np.moveaxis(output.float().numpy(), 1, -1)


def assert_same(ours, theirs, atol=5e-5):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


def test_with_freeu_it_agrees_with_diffusers():
    unet, run, peer = pair("v2")
    inputs = inputs_of(3)
    b1, b2, s1, s2 = factors = (1.5, 1.6, 0.9, 0.2)
    free = copy.deepcopy(peer)
    free.enable_freeu(s1=s1, s2=s2, b1=b1, b2=b2)
    with torch.no_grad():
        theirs = free(*peer_inputs(inputs, torch.float32)).sample
        ours = runner(unet, freeu=factors)(inputs)
        without = runner(unet, freeu=(1.0, 1.0, 1.0, 1.0))(inputs)
        assert_same(without, run(inputs), atol=0)
    assert_same(ours, np.moveaxis(theirs.numpy(), 1, -1), 1e-5)
    assert np.abs(ours - peer_output(peer, inputs)).max() > 0.01


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("version", "frames"),
    [
        ("v1", 8),
        ("v2", 1),
        ("v2", 24),
        pytest.param("v1", 1, marks=slow),
        pytest.param("v1", 24, marks=slow),
        pytest.param("v2", 8, marks=slow),
    ],
)
def test_it_agrees_with_diffusers(version, frames):
    _, run, peer = pair(version)
    inputs = inputs_of(frames)
    assert_same(run(inputs), peer_output(peer, inputs))


@slow
@pytest.mark.once
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_it_agrees_with_diffusers_at_full_width(version):
    # The finest and the coarsest level, for the memory of small machines.
    levels = {k: v for k, v in SMALL.items() if "block" in k}
    widths = {"block_out_channels": (320, 1280), "cross_attention_dim": 768}
    peer = motion_unet(version, **{**levels, **widths})
    unet = twin(peer, **DIFFUSERS_NORMS)
    inputs = inputs_of(3, 8, 8, context_dim=768)
    with torch.no_grad():
        theirs = peer.double()(*peer_inputs(inputs)).sample.float().numpy()
    del peer
    assert_same(runner(unet)(inputs), np.moveaxis(theirs, 1, -1))


# AnimateDiff's own choice of the norms, which no library that can be asked has.


class OverFrames(torch.nn.Module):
    """A norm of a residual block of diffusers, of one video's frames all together."""

    def __init__(self, norm, videos):
        super().__init__()
        self.norm, self.videos = norm, videos

    def forward(self, x):
        frames, channels, height, width = x.shape
        video = x.reshape(self.videos, -1, channels, height, width).transpose(1, 2)
        video = torch.nn.functional.group_norm(
            video, self.norm.num_groups, self.norm.weight, self.norm.bias, self.norm.eps
        )
        return video.transpose(1, 2).reshape(frames, channels, height, width)


class PerFrame(torch.nn.Module):
    """A norm of a motion module of diffusers, of each frame alone."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return torch.stack([self.norm(frame) for frame in x.unbind(2)], dim=2)


def with_norms_of_animatediff(peer, version, videos):
    """diffusers' model with the norms that AnimateDiff's weights were trained with.

    Specification, section 9: those of the motion modules per frame; those of the
    residual blocks, and the last one, over all frames in v1 and per frame in v2.
    """
    peer = copy.deepcopy(peer)
    for name, module in list(peer.named_modules()):
        if name.split(".")[-2:-1] == ["motion_modules"]:
            module.norm = PerFrame(module.norm)
        elif version == "v1" and "resnets" in name and name[-5:] in ("norm1", "norm2"):
            block = peer.get_submodule(name.rpartition(".")[0])
            setattr(block, name[-5:], OverFrames(module, videos))
    if version == "v1":
        peer.conv_norm_out = OverFrames(peer.conv_norm_out, videos)
    return peer


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_by_default_its_norms_are_those_of_animatediff(version):
    peer = motion_unet(version)
    inputs = inputs_of(5)
    expected = peer_output(with_norms_of_animatediff(peer, version, 2), inputs)
    assert np.abs(expected - peer_output(peer, inputs)).max() > 1e-2
    assert_same(runner(twin(peer))(inputs), expected)


def test_images_skip_the_modules():
    unet, run, peer = pair("v2")
    inputs = inputs_of(3)
    image = image_unet(blocks=SMALL_BLOCKS)
    states = {k: v for k, v in peer.state_dict().items() if "motion" not in k}
    image.load_state_dict(states)
    frame = {**inputs, "sample": inputs["sample"][:, 1]}
    with torch.no_grad():
        theirs = image.double()(
            torch.from_numpy(np.moveaxis(frame["sample"], -1, 1).copy()).double(),
            torch.from_numpy(frame["timesteps"]),
            torch.from_numpy(frame["context"]).double(),
        ).sample
    theirs = np.moveaxis(theirs.float().numpy(), 1, -1)
    assert_same(run(frame), theirs)
    assert_same(runner(unet, spatial_only=True)(inputs)[:, 1], theirs)


OURS = {
    "block_channels": (16, 32),
    "attention_levels": (True, False),
    "layers_per_block": 1,
    "groups": 8,
    "num_heads": 2,
    "motion_num_heads": 4,
    "motion_positions": 6,
    "motion_mid_block": True,
    "context_dim": 24,
    "temporal": "motion_modules",
}


@pytest.mark.parametrize("in_channels", [9, pytest.param(4, marks=pytest.mark.once)])
def test_new_modules_do_nothing(in_channels):
    unet = UNetPseudo3D(in_channels=in_channels, **OURS)
    inputs = inputs_of(3)
    random = np.random.default_rng(1)
    shape = (*inputs["sample"].shape[:-1], in_channels)
    inputs["sample"] = random.standard_normal(shape, "float32")
    as_video, as_images = runner(unet), runner(unet, spatial_only=True)
    np.testing.assert_allclose(as_video(inputs), as_images(inputs), rtol=0, atol=5e-6)


def test_more_frames_than_positions_are_refused_with_the_number():
    unet = UNetPseudo3D(in_channels=4, **OURS)
    with pytest.raises(ValueError, match=r"of 6 frames: .* Received: 7 frames"):
        unet(inputs_of(7))
    with pytest.raises(ValueError, match="Received: 9 frames"):
        unet.check_frames(9)


def test_interpolated_positions_stretch_the_table():
    unet = UNetPseudo3D(in_channels=4, motion_interpolation=True, **OURS)
    tables = [v for v in unet.variables if v.path.endswith("embeddings")]
    assert len(tables) == 2 * (2 + 4 + 1)
    layer = unet.network.down_blocks[0].temporal_modules[0].positions1
    zeros = np.zeros((1, 11, 1, 16), "float32")
    table = ops.convert_to_numpy(layer.embeddings)
    made = runner(layer)(zeros)[0, :, 0]
    np.testing.assert_allclose(made[::2], table, atol=1e-6)
    np.testing.assert_allclose(made[1::2], (table[1:] + table[:-1]) / 2, atol=1e-6)
    # As many as there are, or fewer, are as trained.
    np.testing.assert_allclose(runner(layer)(zeros[:, :4])[0, :, 0], table[:4])


def test_gradients_are_those_of_torch_autograd():
    unet, _, _ = pair("v2")
    peer = motion_unet("v2")
    inputs = inputs_of(4)
    random = np.random.default_rng(2)
    upstream = random.standard_normal(inputs["sample"].shape, "float32")
    tensors = keras.tree.map_structure(ops.convert_to_tensor, inputs)
    paths = {p: v for p, v in variables_of(unet).items() if v.trainable}
    _, ours = value_and_gradients(
        lambda: unet(tensors), list(paths.values()), lambda shape: upstream
    )
    peer.double()
    output = peer(*peer_inputs(inputs)).sample
    output.backward(torch.from_numpy(np.moveaxis(upstream, -1, 1).copy()).double())
    theirs = dict(peer.named_parameters())
    layout = get_layout("unet", "diffusers_motion")
    for (path, variable), gradient in zip(paths.items(), ours, strict=True):
        there = theirs[layout.tensor_name(path)].grad.float().numpy()
        expected = layout.from_layout(path, there, tuple(variable.shape))
        scale = max(1.0, np.abs(expected).max())
        assert_same(gradient / scale, expected / scale)


def test_one_step_of_training_is_that_of_torch_on_diffusers_class():
    unet = twin(motion_unet("v1"), **DIFFUSERS_NORMS)
    inputs = inputs_of(4)
    random = np.random.default_rng(2)
    noise = random.standard_normal(inputs["sample"].shape, "float32")

    class Step(VideoDiffusion):
        def draw(self, latents, context):
            tensors = keras.tree.map_structure(ops.convert_to_tensor, inputs)
            return tensors, ops.convert_to_tensor(noise)

    model = Step(unet, schedule=NoiseSchedule(), latent_scale=1.0)
    assert all("temporal" in v.path for v in model.trainable_variables)
    model.compile(optimizer=keras.optimizers.SGD(0.1))
    batch = {"latents": noise, "context": inputs["context"]}
    loss = model.fit(batch, batch_size=2, verbose=0).history["loss"][0]

    peer = motion_unet("v1").double()
    moving = [p for n, p in peer.named_parameters() if "motion_modules" in n]
    assert len(moving) == len(model.trainable_variables)
    prediction = peer(*peer_inputs(inputs)).sample
    target = torch.from_numpy(np.moveaxis(noise, -1, 1).copy()).double()
    error = torch.nn.functional.mse_loss(prediction, target)
    error.backward()
    torch.optim.SGD(moving, 0.1).step()
    np.testing.assert_allclose(loss, error.item(), rtol=1e-5)
    theirs = {n: t.float().numpy() for n, t in peer.state_dict().items()}
    layout = get_layout("unet", "diffusers_motion")
    for path, variable in variables_of(unet).items():
        there = theirs[layout.tensor_name(path)]
        expected = layout.from_layout(path, there, tuple(variable.shape))
        assert_same(ops.convert_to_numpy(variable), expected, atol=1e-5)


def test_it_is_saved_and_loaded(tmp_path):
    unet = UNetPseudo3D(in_channels=4, **OURS)
    unet.save_to_preset(tmp_path / "preset")
    again = UNetPseudo3D.from_preset(str(tmp_path / "preset"))
    assert again.get_config() == unet.get_config()
    for saved, loaded in zip(unet.variables, again.variables, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (saved, loaded)))


@pytest.mark.once
def test_the_pseudo_3d_model_is_configured_as_before():
    small = {k: v for k, v in OURS.items() if "motion" not in k and k != "temporal"}
    configs = [
        UNetPseudo3D(temporal=temporal, name="unet", **small).get_config()
        for temporal in (True, "pseudo3d")
    ]
    assert configs[0] == configs[1]
    assert configs[0]["temporal"] is True
    assert not any("motion" in key or "over_frames" in key for key in configs[0])


@pytest.mark.once
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"temporal": "2d"}, "temporal must be .* Received: '2d'"),
        (
            {"motion_num_heads": 5},
            "multiple of motion_num_heads. .* motion_num_heads=5",
        ),
    ],
)
def test_what_makes_no_model_is_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        UNetPseudo3D(**{**OURS, **argument})
