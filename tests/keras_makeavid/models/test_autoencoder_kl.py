"""The autoencoder against diffusers', and over the frames of a video."""

import diffusers
import keras
import keras_hub
import numpy as np
import pytest
import torch
from keras import ops

import weights_tools
from keras_makeavid.compilation import compile_inference
from keras_makeavid.models import AutoencoderKL

SMALL = {"block_channels": (4, 4), "layers_per_block": 1, "groups": 2}


def diffusers_autoencoder(channels, layers, groups=32, stem_scale=1.0):
    """A peer with weights, norms and biases that all matter."""
    config = {
        "block_out_channels": list(channels),
        "layers_per_block": layers,
        "norm_num_groups": groups,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
    }
    torch.manual_seed(0)
    peer = diffusers.AutoencoderKL(**config).eval().requires_grad_(False)
    for name, parameter in peer.named_parameters():
        if name.endswith("bias"):
            parameter.copy_(0.1 * torch.randn_like(parameter))
        elif parameter.ndim == 1:
            parameter.copy_(1 + 0.1 * torch.randn_like(parameter))
    for stem in (peer.encoder.conv_in, peer.decoder.conv_in):
        stem.weight.mul_(stem_scale)
        stem.bias.mul_(stem_scale)
    return peer, config


def twin(peer, config):
    model = weights_tools.autoencoder_from_diffusers_config(config)
    state = {name: value.numpy() for name, value in peer.state_dict().items()}
    weights_tools.load_weights(model, state)
    return model


def channels_first(x):
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy())


def channels_last(x):
    return np.moveaxis(x.numpy(), 1, -1)


def run(model, function, *arrays):
    outputs = compile_inference(function, [model])(*map(ops.convert_to_tensor, arrays))
    return keras.tree.map_structure(ops.convert_to_numpy, outputs)


def pictures(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


@pytest.fixture(scope="module")
def autoencoder():
    # Other weights than those that a model made in a test starts with.
    keras.utils.set_random_seed(1)
    return AutoencoderKL(**SMALL)


@pytest.mark.parametrize(
    ("peer_arguments", "height", "width"),
    [
        pytest.param(
            {"channels": (32, 32, 64, 64), "layers": 2}, 48, 32, id="four levels"
        ),
        # Activations of 1e-3 let the norms' epsilon decide.
        pytest.param(
            {"channels": (4, 4), "layers": 1, "groups": 2, "stem_scale": 1e-3},
            8,
            12,
            id="faint activations",
        ),
    ],
)
def test_it_agrees_with_diffusers(peer_arguments, height, width):
    peer, config = diffusers_autoencoder(**peer_arguments)
    model = twin(peer, config)
    images = pictures((1, height, width, 3))
    posterior = peer.encode(channels_first(images)).latent_dist
    expected_mean = channels_last(posterior.mean)
    latents = pictures(expected_mean.shape, seed=1)
    expected_images = peer.decode(channels_first(latents) / 0.18215).sample

    def both_ways(images, latents):
        return *model.posterior(images), model.decode(latents)

    mean, log_variance, decoded = run(model, both_ways, images, latents)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-4, rtol=0)
    np.testing.assert_allclose(
        log_variance, channels_last(posterior.logvar), atol=1e-4, rtol=0
    )
    np.testing.assert_allclose(
        decoded, channels_last(expected_images), atol=1e-4, rtol=0
    )


def test_a_call_reconstructs_from_the_scaled_posterior_mean():
    peer, config = diffusers_autoencoder((4, 4), 1, groups=2)
    model = twin(peer, config)
    images = pictures((1, 8, 8, 3))
    latents = ops.convert_to_numpy(model.encode(images))
    mean = channels_last(peer.encode(channels_first(images)).latent_dist.mean)
    np.testing.assert_allclose(latents, mean * 0.18215, atol=1e-5)
    reconstruction = channels_last(peer(channels_first(images)).sample)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(images)), reconstruction, atol=1e-4, rtol=0
    )


def test_a_hopeless_variance_is_clipped():
    model = AutoencoderKL(**SMALL)
    model.network.quant_conv.bias.assign([0.0] * 4 + [1000.0, -1000.0] * 2)
    _, log_variance = model.posterior(pictures((1, 8, 8, 3)))
    assert set(np.unique(ops.convert_to_numpy(log_variance))) == {20.0, -30.0}


def test_the_frames_of_a_video_are_coded_each_on_its_own(autoencoder):
    videos = pictures((2, 3, 8, 8, 3))
    reconstruction = run(autoencoder, autoencoder, videos)
    for video, frames in zip(videos, reconstruction, strict=True):
        for image, frame in zip(video, frames, strict=True):
            alone = ops.convert_to_numpy(autoencoder(image[None]))
            np.testing.assert_allclose(frame[None], alone, atol=1e-5)


class RecordingAutoencoder(AutoencoderKL):
    """Knows the shapes of all that was ever coded at once."""

    def encode(self, images):
        self.shapes.add(tuple(images.shape))
        return super().encode(images)

    def decode(self, latents):
        self.shapes.add(tuple(latents.shape))
        return super().decode(latents)


def test_chunks_of_frames_give_what_single_frames_give_in_bounded_memory(autoencoder):
    chunked = RecordingAutoencoder(**SMALL)
    chunked.set_weights(autoencoder.get_weights())
    chunked.shapes = set()
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype("uint8")
    latents = chunked.encode_video(frames, chunk_size=2)
    expected = autoencoder.encode_video(frames / np.float32(127.5) - 1)
    assert latents.dtype == "float32"
    np.testing.assert_allclose(latents, expected, atol=1e-5)

    decoded = chunked.decode_video(latents, chunk_size=2)
    exact = [
        ops.convert_to_numpy(autoencoder.decode(latents[i, None])) for i in range(5)
    ]
    assert decoded.dtype == "uint8"
    np.testing.assert_allclose(
        decoded, (np.concatenate(exact).clip(-1, 1) + 1) * 127.5, atol=0.501, rtol=0
    )

    large = np.zeros((3, 10, 18, 3), "uint8")
    latents = chunked.encode_video(large, chunk_size=2, tile_size=8)
    decoded = chunked.decode_video(latents, chunk_size=2, tile_size=8)
    assert decoded.shape == large.shape
    assert chunked.shapes == {(2, 8, 8, 3), (2, 4, 4, 4)}


def test_a_tile_stays_as_it_is_where_no_other_reaches(autoencoder):
    frames = pictures((1, 10, 18, 3))
    latents = autoencoder.encode_video(frames, tile_size=8)
    decoded = autoencoder.decode_video(latents, tile_size=8)

    first = autoencoder.encode_video(frames[:, :8, :8])
    last = autoencoder.encode_video(frames[:, -8:, -8:])
    np.testing.assert_array_equal(latents[:, :1, :2], first[:, :1, :2])
    np.testing.assert_array_equal(latents[:, -1:, -3:], last[:, -1:, -3:])

    first = autoencoder.decode_video(latents[:, :4, :4])
    last = autoencoder.decode_video(latents[:, -4:, -4:])
    np.testing.assert_array_equal(decoded[:, :2, :4], first[:, :2, :4])
    np.testing.assert_array_equal(decoded[:, -2:, -6:], last[:, -2:, -6:])


def test_a_batch_of_videos_is_coded_frame_by_frame(autoencoder):
    videos = pictures((2, 3, 8, 8, 3))
    latents = autoencoder.encode_video(videos)
    np.testing.assert_array_equal(latents[1], autoencoder.encode_video(videos[1]))
    frames = autoencoder.decode_video(latents)
    assert frames.shape == videos.shape
    np.testing.assert_array_equal(frames[1], autoencoder.decode_video(latents[1]))


def test_newly_loaded_weights_reach_the_compiled_program(autoencoder):
    model = AutoencoderKL(**SMALL)
    frames = pictures((1, 8, 8, 3))
    before = model.encode_video(frames)
    model.set_weights(autoencoder.get_weights())
    after = model.encode_video(frames)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(after, autoencoder.encode_video(frames))


@pytest.mark.parametrize("tile_size", [8, 16])
def test_a_tile_not_smaller_than_the_frame_changes_nothing(autoencoder, tile_size):
    frames = pictures((2, 8, 8, 3))
    latents = autoencoder.encode_video(frames)
    np.testing.assert_array_equal(
        autoencoder.encode_video(frames, tile_size=tile_size), latents
    )
    np.testing.assert_array_equal(
        autoencoder.decode_video(latents, tile_size=tile_size),
        autoencoder.decode_video(latents),
    )


def test_tiles_of_an_even_texture_give_nearly_the_whole():
    # Group norms see all of a picture: only where tiles resemble the whole, as
    # here, and where blocks only touch up, as trained ones do, can they agree.
    model = AutoencoderKL(**SMALL)
    for variable in model.variables:
        if variable.path.endswith(("conv2/kernel", "to_out/kernel")):
            variable.assign(0.1 * variable)
    y, x = np.mgrid[0:48, 0:40] * (2 * np.pi / 8)
    waves = [np.sin(x + y), np.cos(x - y), np.sin(2 * x) * np.cos(y), np.cos(x + y)]
    latents = 0.2 * np.stack(waves, axis=-1)[None].astype("float32")
    whole = model.decode_video(latents).astype("float32")
    error = np.abs(model.decode_video(latents, tile_size=64) - whole)
    assert error.mean() < 0.02 * whole.std()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 20, 16, 3), "height .* multiple of 8, such as 16 or 24.*20"),
        ((1, 4, 16, 3), "height .* multiple of 8, such as 8 or 16.*4"),
        ((1, 2, 16, 17, 3), "width .* multiple of 8, such as 16 or 24.*17"),
        ((1, 16, 16, 4), r"\(B, H, W, 3\).*\(1, 16, 16, 4\)"),
        ((16, 16, 3), r"\(B, H, W, 3\).*\(16, 16, 3\)"),
        ((0, 16, 16, 3), "not be empty"),
    ],
)
def test_shapes_that_do_not_fit_are_named_with_those_that_would(shape, message):
    model = AutoencoderKL(block_channels=(4, 4, 4, 4), layers_per_block=1, groups=2)
    for function in (model, model.encode, model.encode_video):
        with pytest.raises(ValueError, match=message):
            function(np.zeros(shape, "float32"))


def test_misfitting_latents_and_types_are_refused(autoencoder):
    latents, images = np.zeros((1, 4, 4, 3)), np.zeros((1, 8, 8, 3))
    for decode in (autoencoder.decode, autoencoder.decode_video):
        with pytest.raises(ValueError, match=r"latents must be .*\(B, H, W, 4\)"):
            decode(latents)
    with pytest.raises(ValueError, match="encode_video.*uint8.*Received: uint8"):
        autoencoder.encode(images.astype("uint8"))
    with pytest.raises(ValueError, match="uint8, or float.*Received: int64"):
        autoencoder.encode_video(images.astype("int64"))
    with pytest.raises(ValueError, match="chunk_size.*at least 1.*0"):
        autoencoder.encode_video(images, chunk_size=0)
    for tile_size in (4, 13):
        with pytest.raises(ValueError, match=f"multiple of 2.*least 8.*{tile_size}"):
            autoencoder.encode_video(images, tile_size=tile_size)


def test_configurations_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"multiple of groups.*\(8, 12\).*8"):
        AutoencoderKL(block_channels=(8, 12), groups=8)
    with pytest.raises(ValueError, match="at least one level"):
        AutoencoderKL(block_channels=())


def test_half_precision_is_as_good_as_in_diffusers():
    peer, config = diffusers_autoencoder((4, 4), 1, groups=2)
    half = twin(peer, config | {"dtype": "mixed_bfloat16"})
    assert {v.dtype for v in half.variables} == {"float32"}

    images, latents = pictures((1, 8, 8, 3)), pictures((1, 4, 4, 4), seed=1)

    def both_ways(images, latents):
        return half.encode(images) / 0.18215, half.decode(latents)

    def both_ways_of(peer, dtype):
        first, second = channels_first(images), channels_first(latents) / 0.18215
        mean = peer.encode(first.to(dtype)).latent_dist.mean
        decoded = peer.decode(second.to(dtype)).sample
        return channels_last(mean.float()), channels_last(decoded.float())

    exact = both_ways_of(peer, torch.float32)
    theirs = both_ways_of(peer.to(torch.bfloat16), torch.bfloat16)
    ours = run(half, both_ways, images, latents)
    for truth, their_result, result in zip(exact, theirs, ours, strict=True):
        assert result.dtype == "bfloat16"
        error = np.linalg.norm(result.astype("float32") - truth)
        assert error < 2 * np.linalg.norm(their_result - truth)


def test_weights_in_half_precision_compute_as_mixed_precision_does():
    arguments = {**SMALL, "in_channels": 4, "latent_channels": 2}
    half = AutoencoderKL(**arguments, dtype="bfloat16")
    mixed = AutoencoderKL(**arguments, dtype="mixed_bfloat16")
    mixed.set_weights([value.astype("float32") for value in half.get_weights()])
    assert {v.dtype for v in half.variables} == {"bfloat16"}
    assert_same_function(half, mixed)


def assert_same_function(model, other):
    images = pictures((1, 8, 8, model.in_channels))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model(images)), ops.convert_to_numpy(other(images))
    )


def test_its_configuration_makes_it_again():
    arguments = {**SMALL, "in_channels": 4, "latent_channels": 2, "name": "vae"}
    arguments |= {"epsilon": 1e-5, "scaling_factor": 0.5}
    config = AutoencoderKL(**arguments).get_config()
    again = AutoencoderKL.from_config(config)
    assert again.get_config() == config
    assert {key: config[key] for key in arguments} == arguments


def test_every_saved_form_restores_it_bit_by_bit(autoencoder, tmp_path):
    autoencoder.save(tmp_path / "model.keras")
    assert_same_function(autoencoder, keras.saving.load_model(tmp_path / "model.keras"))

    autoencoder.save_weights(tmp_path / "model.weights.h5")
    other = AutoencoderKL(**SMALL)
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same_function(autoencoder, other)

    autoencoder.save_to_preset(str(tmp_path / "preset"))
    other = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    assert isinstance(other, AutoencoderKL)
    assert_same_function(autoencoder, other)
