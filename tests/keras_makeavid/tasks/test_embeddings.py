"""Learnt tokens that a task loads, against diffusers on the same files."""

import numpy as np
import pytest
import torch
from keras import ops
from safetensors.torch import save_file

import weights_tools
from keras_makeavid import TextToVideo
from keras_makeavid.training.phases import with_parts

VECTORS = torch.randn((3, 16), generator=torch.Generator().manual_seed(0))
PROMPTS = ["a <toy> cat, <toy>", "dog<toy>dog", "a cat"]


@pytest.fixture
def own_task(task):
    """A task with a text encoder of its own."""
    text_encoder = type(task.text_encoder).from_config(task.text_encoder.get_config())
    text_encoder.set_weights(task.text_encoder.get_weights())
    return with_parts(task, text_encoder=text_encoder)


def as_diffusers(path, vectors):
    save_file({"<toy>": vectors}, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def as_diffusers_bin(path, vectors):
    torch.save({"<toy>": vectors[0]}, path.with_suffix(".bin"))
    return path.with_suffix(".bin")


def as_automatic1111(path, vectors):
    content = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": vectors},
        "name": "<toy>",
        "step": 100,
        "sd_checkpoint": None,
    }
    torch.save(content, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def peer_pipeline(task, folder):
    from diffusers import StableDiffusionPipeline

    weights_tools.convert(task, folder, layout="diffusers")
    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)


@pytest.mark.parametrize("write", [as_diffusers, as_diffusers_bin, as_automatic1111])
def test_prompts_compute_what_they_do_in_diffusers(write, own_task, tmp_path):
    pipeline = peer_pipeline(own_task, tmp_path / "pipeline")
    path = write(tmp_path / "<toy>", VECTORS)
    count = 1 if write == as_diffusers_bin else 3
    tokens = own_task.load_embedding(path)
    assert tokens == ["<toy>", "<toy>_1", "<toy>_2"][:count]
    pipeline.load_textual_inversion(str(path.parent), weight_name=path.name)
    prompts = pipeline.maybe_convert_prompt(PROMPTS, pipeline.tokenizer)
    theirs = pipeline.tokenizer(
        prompts, padding="max_length", max_length=12, truncation=True
    )["input_ids"]
    ours = own_task.preprocessor.tokenize(PROMPTS)
    np.testing.assert_array_equal(ours, theirs)
    assert (ours >= 58).sum() == 3 * count
    with torch.no_grad():
        expected = pipeline.text_encoder(torch.tensor(theirs)).last_hidden_state
    found = ops.convert_to_numpy(own_task.encode_prompts(PROMPTS))
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)


@pytest.mark.once
def test_the_token_is_the_name_of_the_file_where_the_file_has_none(own_task, tmp_path):
    path = tmp_path / "easynegative.safetensors"
    save_file({"emb_params": VECTORS[:1].half()}, path)
    assert own_task.load_embedding(path) == ["easynegative"]
    assert own_task.load_embedding(path, token="again") == ["again"]
    vocabulary = own_task.preprocessor.vocabulary
    assert [vocabulary[token] for token in ("easynegative", "again")] == [58, 59]
    assert own_task.text_encoder.vocabulary_size == 60


@pytest.mark.once
def test_a_token_is_found_in_capitals_too(own_task, tmp_path):
    save_file({"<Toy>": VECTORS}, tmp_path / "toy.safetensors")
    own_task.load_embedding(tmp_path / "toy.safetensors")
    ids = own_task.preprocessor.tokenize(["a <toy>", "a <Toy>", "a <TOY>"])
    assert ids[:, 2:5].tolist() == [[58, 59, 60]] * 3


@pytest.mark.once
def test_a_preset_keeps_the_token(own_task, tmp_path, task):
    old = own_task.text_encoder
    own_task.load_embedding(as_diffusers(tmp_path / "toy", VECTORS))
    assert own_task.count_params() == task.count_params() + VECTORS.numel()
    names = {id(layer) for layer in own_task._flatten_layers()}
    assert id(old) not in names
    own_task.save_to_preset(tmp_path / "preset")
    again = TextToVideo.from_preset(tmp_path / "preset")
    np.testing.assert_array_equal(
        *(ops.convert_to_numpy(x.encode_prompts(PROMPTS)) for x in (own_task, again))
    )
    # The parts are another task's as well, which stays as it was.
    assert "<toy>" not in task.preprocessor.vocabulary


@pytest.mark.once
def test_adapters_that_are_loaded_stay(own_task, tmp_path):
    layer = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    save_file(
        {
            f"{layer}.lora_down.weight": torch.ones((1, 16)),
            f"{layer}.lora_up.weight": torch.ones((16, 1)),
        },
        tmp_path / "style.safetensors",
    )
    before = ops.convert_to_numpy(own_task.encode_prompts(["a cat"]))
    own_task.load_lora(tmp_path / "style.safetensors")
    adapted = ops.convert_to_numpy(own_task.encode_prompts(["a cat"]))
    own_task.load_embedding(as_diffusers(tmp_path / "toy", VECTORS))
    after = ops.convert_to_numpy(own_task.encode_prompts(["a cat"]))
    np.testing.assert_array_equal(after, adapted)
    own_task.unload_lora()
    after = ops.convert_to_numpy(own_task.encode_prompts(["a cat"]))
    np.testing.assert_array_equal(after, before)


@pytest.mark.once
@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"<toy>": torch.ones(17)}, r"vectors of 16 numbers.*Received: shape \(17,\)"),
        ({"<toy>": torch.ones((76, 16))}, r"1 to 75 vectors.*\(76, 16\)"),
        ({"<toy>": torch.ones((1, 1, 16))}, r"\(1, 1, 16\)"),
        ({"<toy>": torch.ones(())}, r"shape \(\)"),
        ({"<toy>": torch.ones(16, dtype=torch.int32)}, "Received: int32"),
        ({"<toy>": torch.full((16,), torch.nan)}, "holds NaN"),
        (
            {"clip_l": torch.ones(16), "clip_g": torch.ones(16)},
            "the vectors of one token.*2 tensors, such as clip_g, clip_l",
        ),
        ({"cat</w>": torch.ones(16)}, r"it has \['cat</w>'\] already"),
        ({" ": torch.ones(16)}, "it is empty"),
    ],
)
def test_what_is_no_token_of_this_text_encoder_is_refused(
    own_task, tmp_path, tensors, reason
):
    path = tmp_path / "toy.safetensors"
    save_file(tensors, path)
    with pytest.raises(ValueError, match=reason):
        own_task.load_embedding(path)
    assert len(own_task.preprocessor.vocabulary) == 58
