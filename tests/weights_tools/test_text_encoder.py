import copy
import json

import ml_dtypes  # noqa: F401 gives NumPy the bfloat16 that safetensors asks for
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from keras_makeavid.text import (
    TextEncoder,
    TextToVideoPreprocessor,
    openai_clip_vocabulary,
)
from keras_makeavid.text.vocabulary import Vocabulary
from weights_tools import (
    convert,
    load_model,
    load_weights,
    text_encoder_from_transformers_config,
)
from weights_tools.architectures import variables_of
from weights_tools.checkpoint import component_of_model
from weights_tools.layouts import get_layout

# ViT-L/14's text model has 12 layers, 768 wide, 12 heads, 4x feed-forward.
SMALL = {
    "vocab_size": 500,
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "bos_token_id": 498,
    "eos_token_id": 499,
}
VIT_L_WIDTH = {
    **SMALL,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
}


def make_peer(**config):
    """Transformers' model, every parameter random, norms and biases too."""
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(**{**SMALL, **config})
    peer = transformers.CLIPTextModel(config).eval()
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "embedding" not in name:
                parameter.copy_(
                    torch.randn_like(parameter) * parameter.shape[1] ** -0.5
                )
    return peer


def load_clip_text_encoder(folder, **options):
    return load_model(folder, "text_encoder", **options)


def text_encoder_tensors(encoder):
    """The weights as transformers 5 names and lays them out."""
    layout = get_layout("text_encoder", "diffusers")
    weights = component_of_model(encoder).weights
    return {
        layout.tensor_name(path, ""): layout.to_layout(path, weights.read(path))
        for path in weights.specs
    }


def make_ids():
    rng = np.random.default_rng(0)
    return rng.integers(0, SMALL["vocab_size"], (2, 77)).astype("int32")


def peer_context(peer, ids):
    with torch.no_grad():
        return peer(torch.from_numpy(ids).long()).last_hidden_state.numpy()


def our_context(encoder, ids):
    return encoder.predict_on_batch({"token_ids": ids})


def assert_same_context(encoder, peer, ids):
    ours, theirs = our_context(encoder, ids), peer_context(peer, ids)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


def assert_same_weights(encoder, peer):
    tensors, expected = text_encoder_tensors(encoder), peer.state_dict()
    assert tensors.keys() == expected.keys()
    for name, value in tensors.items():
        theirs = expected[name].float().numpy()
        value = value.astype("float32")
        np.testing.assert_array_equal(value, theirs, err_msg=name)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A pipeline folder with a small text encoder, as transformers saves it."""
    root = tmp_path_factory.mktemp("pipeline")
    peer = make_peer()
    peer.save_pretrained(root / "text_encoder")
    return root, peer


def copy_with(saved, folder, change):
    """Copy a saved text encoder with its tensors changed."""
    root, _ = saved
    tensors = load_file(root / "text_encoder" / "model.safetensors")
    config = (root / "text_encoder" / "config.json").read_text()
    (folder / "config.json").write_text(config)
    save_file(change(tensors), folder / "model.safetensors")
    return str(folder)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"hidden_act": "gelu"},
        {"layer_norm_eps": 0.1},
        VIT_L_WIDTH,
    ],
    ids=["small", "gelu", "large-epsilon", "vit-l-width"],
)
def test_context_equals_transformers_last_hidden_state(tmp_path, config):
    peer = make_peer(**config)
    peer.save_pretrained(tmp_path / "text_encoder")
    encoder = load_clip_text_encoder(str(tmp_path))
    assert_same_context(encoder, peer, make_ids())


@pytest.mark.once
@pytest.mark.parametrize("inner", ["", "text_encoder"])
def test_a_pipeline_folder_and_its_text_encoder_folder_both_load(saved, inner):
    root, peer = saved
    assert_same_weights(load_clip_text_encoder(str(root / inner)), peer)


@pytest.mark.once
def test_files_from_before_transformers_5_load(saved, tmp_path):
    def rename(tensors):
        older = {f"text_model.{name}": value for name, value in tensors.items()}
        ids = np.arange(77, dtype="int64")[None]
        return {**older, "text_model.embeddings.position_ids": ids}

    encoder = load_clip_text_encoder(copy_with(saved, tmp_path, rename))
    assert_same_weights(encoder, saved[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_load_exactly(tmp_path, dtype):
    peer = make_peer().to(dtype)
    peer.save_pretrained(tmp_path, variant="fp16")
    assert_same_weights(load_clip_text_encoder(str(tmp_path), variant="fp16"), peer)


@pytest.mark.once
def test_dtype_rounds_the_weights_to_it(saved):
    root, peer = saved
    encoder = load_clip_text_encoder(str(root), dtype="bfloat16")
    assert {w.dtype for w in encoder.weights} == {"bfloat16"}
    assert encoder.compute_dtype == "bfloat16"
    assert_same_weights(encoder, copy.deepcopy(peer).to(torch.bfloat16))


@pytest.mark.once
def test_real_prompts_give_the_context_of_transformers(tmp_path):
    peer = make_peer(vocab_size=49408, bos_token_id=49406, eos_token_id=49407)
    peer.save_pretrained(tmp_path / "text_encoder")
    (tmp_path / "tokenizer").mkdir()
    Vocabulary(*openai_clip_vocabulary()).save(tmp_path / "tokenizer")
    preprocessor = TextToVideoPreprocessor.from_hub_folder(str(tmp_path))
    with pytest.warns(UserWarning, match="is cut to 75"):
        ids = preprocessor(["a cat in the snow 🐈", "over long " * 90])
    encoder = load_clip_text_encoder(str(tmp_path))
    assert_same_context(encoder, peer, ids)


@pytest.mark.once
def test_transformers_loads_what_is_converted_from_our_encoder(tmp_path):
    encoder = text_encoder_from_transformers_config(SMALL)
    convert(encoder, tmp_path / "text_encoder", layout="diffusers")
    peer = transformers.CLIPTextModel.from_pretrained(tmp_path / "text_encoder")
    assert_same_weights(encoder, peer)


def test_a_preset_keeps_weights_and_epsilon(tmp_path):
    config = {**SMALL, "layer_norm_eps": 0.1}
    made = text_encoder_from_transformers_config(config)
    made.save_to_preset(str(tmp_path))
    loaded = TextEncoder.from_preset(str(tmp_path))
    assert loaded.get_config() == made.get_config()
    ids = make_ids()
    np.testing.assert_array_equal(our_context(loaded, ids), our_context(made, ids))


def test_tensors_in_memory_load_without_a_file(saved):
    _, peer = saved
    encoder = text_encoder_from_transformers_config(SMALL)
    state = {f"text_model.{k}": v.numpy() for k, v in peer.state_dict().items()}
    load_weights(encoder, state)
    assert_same_weights(encoder, peer)


@pytest.mark.once
def test_wrong_tensors_are_listed_by_name_and_shape(saved, tmp_path):
    def spoil(tensors):
        tensors["text_projection.weight"] = np.zeros((5, 64), "float32")
        tensors["final_layer_norm.bias"] = np.zeros(63, "float32")
        del tensors["encoder.layers.2.mlp.fc1.weight"]
        return tensors

    folder = copy_with(saved, tmp_path, spoil)
    with pytest.raises(ValueError, match=r"model\.safetensors: the tensors") as error:
        load_clip_text_encoder(folder)
    text = str(error.value)
    assert "missing: encoder.layers.2.mlp.fc1.weight (256, 64)" in text
    assert "surplus: text_projection.weight (5, 64)" in text
    assert "misshapen: final_layer_norm.bias (63,), expected (64,)" in text


@pytest.mark.once
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "hidden_size must be .* Received: None"),
        ({"vocab_size": 10**12}, "vocab_size .* at most .* Received: 1000000000000"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers .* at most 64. .*1000000000"),
        ({"num_hidden_layers": 0}, "num_hidden_layers .* Received: 0"),
        ({"intermediate_size": "256"}, "intermediate_size .* Received: '256'"),
        ({"num_attention_heads": True}, "num_attention_heads .* Received: True"),
        ({"num_attention_heads": 5}, "hidden_size=64, num_attention_heads=5"),
        ({"hidden_act": "relu"}, "hidden_act must be 'quick_gelu' .*: 'relu'"),
        ({"layer_norm_eps": -1e-5}, "layer_norm_eps must be a number, above 0"),
        ({"layer_norm_eps": "1e-5"}, "layer_norm_eps must be a number, above 0"),
    ],
)
def test_a_config_of_no_clip_is_refused_with_what_it_says(change, message):
    with pytest.raises(ValueError, match=message):
        text_encoder_from_transformers_config({**SMALL, **change})


@pytest.mark.once
@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, tmp_path, missing):
    folder = copy_with(saved, tmp_path, dict)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing.split(".")[0]):
        load_clip_text_encoder(folder)


@pytest.mark.once
@pytest.mark.parametrize("content", [b"", b"\xff" * 64])
def test_a_broken_weight_file_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="model.safetensors"):
        load_clip_text_encoder(str(tmp_path))


@pytest.mark.once
@pytest.mark.parametrize("name", [None, "text_encoder", "encoder"])
def test_the_name_of_a_live_encoder_is_no_part_of_its_weights_names(name):
    unnamed = TextEncoder(520, 64, 64, 1, 1, 128)
    named = TextEncoder(520, 64, 64, 1, 1, 128, name=name)
    assert variables_of(named).keys() == variables_of(unnamed).keys()
