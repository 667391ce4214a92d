"""KerasCV's Stable Diffusion: its classes have one size, which is the full one."""

import gc
import json
import math
import re
import shutil

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import ops
from keras.src.legacy.saving import legacy_h5_format

import keras_makeavid
import weights_tools
from keras_makeavid.compilation import compile_inference
from keras_makeavid.models.loading import without_weights
from weights_tools.architectures import shapes_of
from weights_tools.formats import open_tensors
from weights_tools.kerascv import (
    KERASCV_CLASSES,
    fitted,
    named_variables,
)

PUBLISHED = {known.name: known.published for known in KERASCV_CLASSES}
WRITTEN = {known.name: known.file for known in KERASCV_CLASSES}
TEXT_SIZES = (77, 1000)


def make(name, *arguments):
    """One of KerasCV's models, norms and biases random too, which start alike."""
    from keras_cv.models import stable_diffusion

    model = getattr(stable_diffusion, name)(*arguments, download_weights=False)
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.ndim == 1:
            noise = 0.1 * random.standard_normal(weight.shape)
            weight.assign(ops.convert_to_numpy(weight) + noise.astype("float32"))
    return model


@pytest.fixture(scope="module")
def decoder():
    return make("Decoder", 64, 64)


@pytest.fixture(scope="module")
def image_encoder():
    return make("ImageEncoder")


@pytest.fixture(scope="module")
def text_encoder():
    return make("TextEncoder", *TEXT_SIZES)


@pytest.fixture(scope="module")
def small_models(decoder, image_encoder, text_encoder):
    """All but the UNet, by class."""
    return {type(m).__name__: m for m in (decoder, image_encoder, text_encoder)}


@pytest.fixture(scope="module")
def keras_3_files(small_models, tmp_path_factory):
    """The file that Keras writes of each."""
    folder = tmp_path_factory.mktemp("keras_3")
    for name, model in small_models.items():
        model.save_weights(folder / WRITTEN[name])
    return folder


@pytest.fixture(scope="module")
def published_files(small_models, tmp_path_factory):
    """The file of each in the format of those on the hub."""
    folder = tmp_path_factory.mktemp("published")
    for name, model in small_models.items():
        save_legacy(model, folder / PUBLISHED[name])
    return folder


def save_legacy(model, path):
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def values_of(model):
    return [ops.convert_to_numpy(weight) for weight in model.weights]


def assert_same_bytes(first, second):
    first, second = list(first), list(second)
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


def assert_same_weights(first, second):
    """Two sources have every weight of all parts, byte for byte."""
    with weights_tools.open_source(first) as a, weights_tools.open_source(second) as b:
        assert a.components.keys() == b.components.keys()
        for part, component in a.components.items():
            mine, theirs = component.weights, b.components[part].weights
            assert dict(mine.specs) == dict(theirs.specs)
            for path in mine.specs:
                assert_same_bytes([mine.read(path)], [theirs.read(path)])


def forward(model, function, *inputs):
    """What `function` of a model makes of arrays."""
    if keras.config.backend() == "jax":
        # One program compiles faster than its operations one by one.
        function = compile_inference(function, [model])
    with torch.no_grad():
        inputs = keras.tree.map_structure(ops.convert_to_tensor, inputs)
        return ops.convert_to_numpy(function(*inputs))


def max_error(first, second):
    return np.abs(np.asarray(first) - np.asarray(second)).max()


def normal(*shape):
    return np.random.default_rng(1).standard_normal(shape, "float32")


# Names.


def names_in(path):
    with open_tensors(path) as file:
        return {name: spec.shape for name, spec in file.specs.items()}


def names_of(known, arguments):
    """What the layout makes of our model, each name once."""
    made = {}
    for path, shape in shapes_of(known.layout.kind, arguments).items():
        if known.layout.holds(path):
            name = known.layout.tensor_name(path)
            assert name not in made
            made[name] = known.layout.shape(path, shape)
    return made


@pytest.mark.once
@pytest.mark.parametrize("name", ["Decoder", "ImageEncoder", "TextEncoder"])
def test_the_layout_is_a_bijection_onto_the_weights_of_the_class(name, keras_3_files):
    [known] = [known for known in KERASCV_CLASSES if known.name == name]
    length, vocabulary = TEXT_SIZES
    sizes = {"vocabulary_size": vocabulary, "max_sequence_length": length}
    arguments = {**known.layout.defaults, **(sizes if name == "TextEncoder" else {})}
    assert names_of(known, arguments) == names_in(keras_3_files / known.file)


@pytest.mark.once
def test_the_two_halves_make_the_whole_autoencoder():
    layouts = [known.layout for known in KERASCV_CLASSES if known.layout.kind == "vae"]
    paths = shapes_of("vae", layouts[0].defaults)
    held = [path for layout in layouts for path in paths if layout.holds(path)]
    assert len(layouts) == 2
    assert sorted(held) == sorted(paths)
    assert len(paths) == 248


# Forward passes.


def test_the_decoder_is_that_of_kerascv(decoder, image_encoder):
    ours = weights_tools.load_model([decoder, image_encoder])
    # KerasCV divides by the scaling factor too.
    latents = normal(1, 8, 8, 4)
    expected = forward(decoder, decoder, latents)
    assert max_error(forward(ours, ours.decode, latents), expected) < 1e-4


@pytest.mark.skipif(
    keras.config.backend() == "jax",
    reason="the same layers as the decoder's, which compile for 10 seconds",
)
def test_the_image_encoder_is_that_of_kerascv(decoder, image_encoder):
    ours = weights_tools.load_model([decoder, image_encoder])
    images = np.random.default_rng(2).uniform(-1, 1, (1, 64, 64, 3)).astype("float32")
    expected = forward(image_encoder, image_encoder, images)
    assert max_error(forward(ours, ours.encode, images), expected) < 1e-4


def test_the_text_encoder_is_that_of_kerascv(text_encoder):
    ours = weights_tools.load_model(text_encoder)
    length, vocabulary = TEXT_SIZES
    tokens = np.random.default_rng(3).integers(0, vocabulary, (2, length), "int32")
    positions = np.arange(length, dtype="int32")[None]
    expected = forward(text_encoder, text_encoder, [tokens, positions])
    assert max_error(forward(ours, ours, {"token_ids": tokens}), expected) < 1e-4


# Files.


@pytest.mark.once
@pytest.mark.parametrize("name", ["Decoder", "ImageEncoder", "TextEncoder"])
def test_files_of_both_formats_hold_what_the_live_model_has(
    name, small_models, keras_3_files, published_files
):
    assert_same_weights(keras_3_files / WRITTEN[name], small_models[name])
    assert_same_weights(published_files / PUBLISHED[name], small_models[name])


@pytest.mark.once
def test_a_folder_of_published_files_is_one_source(published_files, small_models):
    assert_same_weights(published_files, list(small_models.values()))
    inspected = weights_tools.inspect(published_files)
    assert inspected.keys() == {"vae", "text_encoder"}
    assert inspected["vae"].path.endswith("kcv_decoder.h5 and vae_encoder.h5")


@pytest.mark.once
def test_other_files_in_the_folder_of_downloads_are_of_no_interest(
    published_files, tmp_path
):
    (tmp_path / "vae_encoder.h5").symlink_to(published_files / "vae_encoder.h5")
    (tmp_path / "resnet50_weights.h5").write_bytes(b"something else")
    assert weights_tools.inspect(tmp_path)["vae"].parameters == 34_163_664


@pytest.mark.once
def test_the_hub_is_asked_for_the_published_names(
    published_files, tmp_path, monkeypatch
):
    from huggingface_hub import constants

    repository = tmp_path / "models--fchollet--stable-diffusion"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "vae_encoder.h5").symlink_to(published_files / "vae_encoder.h5")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert weights_tools.inspect("hf://fchollet/stable-diffusion").keys() == {"vae"}


def rewrite_legacy(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def fix_length(file):
    """Names of fixed length, as h5py before version 3 wrote them."""
    for group in (file, *file.values()):
        for key in ("layer_names", "weight_names"):
            if len(group.attrs.get(key, ())):
                names = np.asarray([n.encode() for n in group.attrs[key]])
                group.attrs[key] = names


def rename(file):
    """Layers with names that tell neither class nor order."""
    names = list(file.attrs["layer_names"])
    others = [f"layer_{len(names) - i}" for i in range(len(names))]
    for name, other in zip(names, others, strict=True):
        file.move(name, other)
    file.attrs["layer_names"] = others


@pytest.mark.once
@pytest.mark.parametrize("change", [fix_length, rename])
def test_the_order_alone_tells_the_weights_of_an_old_file(
    change, published_files, image_encoder, tmp_path
):
    path = tmp_path / "any_name.h5"
    shutil.copy(published_files / "vae_encoder.h5", path)
    rewrite_legacy(path, change)
    assert_same_weights(path, image_encoder)


# Round trips.


@pytest.mark.once
def test_weights_come_back_byte_for_byte(decoder, image_encoder, tmp_path):
    preset, folder = tmp_path / "preset", tmp_path / "kerascv"
    weights_tools.convert([decoder, image_encoder], preset)
    report = weights_tools.convert(preset, folder, layout="kerascv")
    assert sorted(path.name for path in folder.iterdir()) == [
        "decoder.weights.h5",
        "image_encoder.weights.h5",
    ]
    assert (report.dropped, report.changed) == ({}, {})
    for model in (decoder, image_encoder):
        expected = values_of(model)
        scramble(model)
        model.load_weights(folder / WRITTEN[type(model).__name__])
        assert_same_bytes(values_of(model), expected)


def scramble(model):
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape, "float32"))


@pytest.mark.once
def test_one_model_makes_one_file_of_any_precision(text_encoder, tmp_path):
    path, half = tmp_path / "text.weights.h5", tmp_path / "half.weights.h5"
    weights_tools.convert(text_encoder, path, layout="kerascv")
    weights_tools.convert(text_encoder, half, layout="kerascv", dtype="bfloat16")
    assert weights_tools.inspect(half)["text_encoder"].dtypes.keys() == {"bfloat16"}
    expected = values_of(text_encoder)
    scramble(text_encoder)
    text_encoder.load_weights(path)
    assert_same_bytes(values_of(text_encoder), expected)


@pytest.mark.once
def test_half_an_autoencoder_goes_to_kerascv_and_nowhere_else(decoder, tmp_path):
    path = tmp_path / "half.weights.h5"
    weights_tools.convert(decoder, path, layout="kerascv")
    assert_same_weights(path, decoder)
    for target in ("keras", "diffusers"):
        with pytest.raises(ValueError, match="half of an autoencoder, without encoder"):
            weights_tools.convert(decoder, tmp_path / "whole", layout=target)
    with pytest.raises(ValueError, match="half of an autoencoder"):
        weights_tools.load_model(decoder)
    assert [p.name for p in tmp_path.iterdir()] == ["half.weights.h5"]


# Refusals.


@pytest.mark.once
def test_kerascv_computes_its_own_way_and_the_report_says_so(
    decoder, image_encoder, tmp_path
):
    preset = tmp_path / "preset"
    weights_tools.convert([decoder, image_encoder], preset)
    config = json.loads((preset / "config.json").read_text())
    config["config"]["epsilon"] = 1e-6
    (preset / "config.json").write_text(json.dumps(config))
    report = weights_tools.convert(preset, tmp_path / "out", layout="kerascv")
    assert report.changed == {"vae": {"epsilon": 1e-5}}


@pytest.mark.once
def test_other_sizes_are_refused_by_name(tmp_path):
    unet = without_weights(
        lambda: keras_makeavid.models.UNetPseudo3D(
            in_channels=4, block_channels=(32, 64), attention_levels=(True, False)
        )
    )
    with pytest.raises(ValueError, match=r"block_channels.*1280.*Received.*\[32, 64\]"):
        weights_tools.convert(unet, tmp_path / "out", layout="kerascv")
    assert not any(tmp_path.iterdir())


@pytest.mark.once
def test_an_inpainting_unet_is_refused(video_unet, tmp_path):
    with pytest.raises(ValueError, match="looks at mask and hint"):
        weights_tools.convert(video_unet, tmp_path / "out", layout="kerascv")


@pytest.mark.once
def test_a_file_needs_the_name_that_keras_asks_for(text_encoder, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.weights\.h5.*'text\.h5'"):
        weights_tools.convert(text_encoder, tmp_path / "text.h5", layout="kerascv")


@pytest.mark.once
def test_two_models_do_not_fit_into_one_file(decoder, image_encoder, tmp_path):
    with pytest.raises(ValueError, match="do not fit into one file"):
        weights_tools.convert(
            [decoder, image_encoder], tmp_path / "vae.weights.h5", layout="kerascv"
        )


@pytest.mark.once
def test_two_models_of_one_class_are_refused(decoder):
    with pytest.raises(ValueError, match="is a second Decoder"):
        weights_tools.inspect([decoder, decoder])


@pytest.mark.once
def test_another_model_of_kerascv_is_refused():
    from keras_cv.models import ViTDetBackbone

    backbone = ViTDetBackbone(
        input_shape=(32, 32, 3),
        patch_size=16,
        embed_dim=8,
        depth=1,
        mlp_dim=8,
        num_heads=1,
        global_attention_layer_indices=[0],
        include_rescaling=False,
    )
    with pytest.raises(ValueError, match=r"DiffusionModel.*Received: ViTDetBackbone"):
        weights_tools.inspect(backbone)


@pytest.mark.once
def test_an_old_file_of_another_model_is_refused_with_its_layers(tmp_path):
    path = tmp_path / "other.h5"
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    save_legacy(model, path)
    with pytest.raises(ValueError, match=r"has 1 layers with weights.*Decoder 22"):
        weights_tools.inspect(path)


@pytest.mark.once
def test_nan_is_refused_with_the_weight(published_files, tmp_path):
    path = tmp_path / "vae_encoder.h5"
    shutil.copy(published_files / "vae_encoder.h5", path)

    def spoil(file):
        group = file[file.attrs["layer_names"][0]]
        group[group.attrs["weight_names"][0]][0, 0, 0, 0] = np.nan

    rewrite_legacy(path, spoil)
    out = tmp_path / "out.weights.h5"
    with pytest.raises(ValueError, match=r"layers/padded_conv2d/conv2d/vars/0.*NaN"):
        weights_tools.convert(path, out, layout="kerascv")
    assert not out.exists()


@pytest.mark.once
def test_damaged_old_files_end_in_clean_errors(tmp_path):
    """Of 14 layers, as the text encoder, with lists of both kinds of text."""
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        names = [f"layer_{i}" for i in range(14)]
        file.attrs.update(keras_version="2.11.0", backend="tensorflow")
        file.attrs["layer_names"] = names
        for name in names:
            file[f"{name}/kernel:0"] = np.zeros(2, "float32")
            file[name].attrs["weight_names"] = np.asarray([b"kernel:0"])
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(whole)
        for at in random.integers(0, len(whole), random.integers(1, 9)):
            damaged[at] = random.integers(256)
        length = random.integers(1, len(whole)) if random.random() < 0.1 else None
        path.write_bytes(damaged[:length])
        with pytest.raises(ValueError, match=re.escape(path.name)):
            weights_tools.inspect(path)


# The whole pipeline.


@pytest.mark.once
@pytest.mark.slow
def test_a_whole_pipeline_becomes_a_task_of_the_same_function(
    published_files, tmp_path
):
    folder, preset = tmp_path / "kerascv", tmp_path / "preset"
    folder.mkdir()
    for name in ("kcv_decoder.h5", "vae_encoder.h5"):
        (folder / name).symlink_to(published_files / name)
    save_legacy(make("TextEncoder", 77), folder / "kcv_encoder.h5")
    unet_file = folder / "diffusion_model.weights.h5"
    inputs, expected = write_unet(unet_file)
    gc.collect()

    weights_tools.inflate(folder, preset)
    task = weights_tools.inspect(preset)
    assert task.keys() == {"unet", "vae", "text_encoder"}
    assert task["unet"].video
    assert task["vae"].config["epsilon"] == 1e-5

    unet = weights_tools.load_model(preset, "unet")
    sample = np.pad(inputs["latent"], [(0, 0)] * 3 + [(0, 5)])
    ours = {"sample": sample, "timesteps": TIMESTEPS, "context": inputs["context"]}
    assert max_error(forward(unet, unet, ours), expected) < 5e-5
    del unet
    gc.collect()
    with (
        weights_tools.open_source(unet_file) as before,
        weights_tools.open_source(preset) as after,
    ):
        unet = before.component("unet")
        back = fitted(after.component("unet"))
        assert back.arguments == unet.arguments
        for path in unet.weights.specs:
            pair = [component.weights.read(path) for component in (unet, back)]
            assert_same_bytes(pair[:1], pair[1:])


TIMESTEPS = np.array([981.0], "float32")


def write_unet(path):
    """Write KerasCV's UNet, which reads it again; return an input and its output."""
    model = make("DiffusionModel", 128, 128, 77)
    frequencies = 10000.0 ** (-np.arange(160) / 160)
    angles = TIMESTEPS[:, None] * frequencies
    sinusoid = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    inputs = {
        "latent": normal(1, 16, 16, 4),
        "timestep_embedding": sinusoid.astype("float32"),
        "context": normal(1, 77, 768),
    }
    expected = forward(model, model, inputs)
    assert_order_of_old_files(model)
    weights_tools.convert(model, path, layout="kerascv")
    scramble(model)
    model.load_weights(path)
    assert_same_weights(path, model)

    [known] = [known for known in KERASCV_CLASSES if known.name == "DiffusionModel"]
    names = names_in(path)
    assert names == names_of(known, known.layout.defaults)
    assert len(names) == len(model.weights) == 686
    assert sum(map(math.prod, names.values())) == 859_520_964
    return inputs, expected


def assert_order_of_old_files(model):
    """The order in which Keras writes old files is that of the layout."""
    in_file = [
        weight
        for layer in model.layers
        for weight in legacy_h5_format._legacy_weights(layer)
    ]
    named = named_variables(model).values()
    assert all(a is b for a, b in zip(in_file, named, strict=True))
