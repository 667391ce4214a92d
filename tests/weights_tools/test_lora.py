"""Files of adapters: their forms, what is refused, and what is written."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from weights_tools.architectures import shapes_of
from weights_tools.formats import FormatError
from weights_tools.layouts import get_layout
from weights_tools.lora import (
    SD_15,
    LowRank,
    kernel_names,
    read_lora,
    write_lora,
)

UNET = {
    "block_channels": [8, 16],
    "attention_levels": [True, False],
    "layers_per_block": 1,
    "groups": 4,
    "context_dim": 16,
    "num_heads": 2,
}
SHAPES = {
    "unet": shapes_of("unet", UNET),
    "text_encoder": shapes_of(
        "text_encoder",
        {
            "vocabulary_size": 10,
            "embedding_dim": 16,
            "hidden_dim": 16,
            "num_layers": 1,
            "num_heads": 2,
            "intermediate_dim": 32,
            "max_sequence_length": 12,
        },
    ),
}
QUERY = "down_blocks_0/attentions_0/transformer_block/attn1/to_q/kernel"
DOTTED = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def pair(name=LAYER, rank=2, width=8):
    random = np.random.default_rng(0)
    return {
        f"{name}.lora_down.weight": random.standard_normal((rank, width), "float32"),
        f"{name}.lora_up.weight": random.standard_normal((width, rank), "float32"),
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "style.safetensors"


def read(path, tensors, metadata=None):
    save_file(tensors, path, metadata)
    return read_lora(path, SHAPES)


def test_without_alpha_the_product_is_added_as_it_is(path):
    found = read(path, pair())["unet"][QUERY]
    assert (found.rank, found.alpha) == (2, 2.0)
    down, up = pair().values()
    np.testing.assert_allclose(
        found.delta("unet", QUERY, (8, 8)), (up @ down).T, rtol=1e-6
    )


def test_a_convolution_of_one_pixel_and_a_matrix_are_the_same(path):
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    for name, width, kernel in (
        (layer, 16, "mid_block/attentions_0/proj_in/kernel"),
        (LAYER, 8, QUERY),
    ):
        deltas = []
        for sides in ((), (1, 1)):
            tensors = {
                n: a.reshape(*a.shape, *sides)
                for n, a in pair(name, width=width).items()
            }
            found = read(path, tensors)["unet"][kernel]
            deltas.append(found.delta("unet", kernel, SHAPES["unet"][kernel]))
        np.testing.assert_array_equal(*deltas)
        down, up = pair(name, width=width).values()
        np.testing.assert_allclose(np.squeeze(deltas[0]), (up @ down).T, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        DOTTED,
        "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        "module.unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q",
    ],
)
def test_a_layer_may_have_several_names(path, name):
    assert list(read(path, pair(name))["unet"]) == [QUERY]


def test_temporal_layers_have_the_names_of_this_projects_models(path):
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn_temporal.to_q"
    assert list(read(path, pair(name))["unet"]) == [
        "down_blocks_0/attentions_0/transformer_block/attn_temporal/to_q/kernel"
    ]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_alpha_and_weights_may_be_of_any_float(path, dtype):
    import ml_dtypes

    kind = getattr(ml_dtypes, dtype, dtype)
    tensors = {**pair(), f"{LAYER}.alpha": np.array(6.0)}
    found = read(path, {n: a.astype(kind) for n, a in tensors.items()})["unet"][QUERY]
    assert found.alpha == 6.0
    assert found.delta("unet", QUERY, (8, 8)).dtype == np.float32


def test_an_alpha_of_one_layer_is_found_in_the_header(path):
    config = {"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 3}}
    metadata = {"lora_adapter_metadata": json.dumps(config)}
    assert read(path, pair(DOTTED), metadata)["unet"][QUERY].alpha == 3
    config["unet.alpha_pattern"] = {"^attn1.to_q": 3}
    metadata = {"lora_adapter_metadata": json.dumps(config)}
    assert read(path, pair(DOTTED), metadata)["unet"][QUERY].alpha == 8


@pytest.mark.parametrize(
    "metadata",
    [
        "nonsense",
        "[1]",
        '{"unet.lora_alpha": "8"}',
        '{"unet.alpha_pattern": {"to_q": [1]}}',
    ],
)
def test_settings_in_the_header_that_make_no_sense_are_refused(path, metadata):
    with pytest.raises(FormatError, match=r"style\.safetensors: "):
        read(path, pair(DOTTED), {"lora_adapter_metadata": metadata})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lokr_w1", "LoKr"),
        ("hada_w1_a", "LoHa"),
        ("oft_blocks", "OFT"),
        ("on_input", r"\(IA\)\^3"),
        ("a1.weight", "GLoRA"),
        ("dora_scale", "DoRA"),
        ("lora_mid.weight", "Tucker"),
        ("diff", "full differences"),
        ("lora_B.bias", "biases"),
    ],
)
def test_other_kinds_of_adapters_are_refused_by_name(path, name, kind):
    tensors = {**pair(), f"{LAYER}.{name}": np.ones(3, "float32")}
    with pytest.raises(FormatError, match=rf"{kind}.*: 1 tensors: {LAYER}\.{name}"):
        read(path, tensors)


def test_a_file_that_fits_nothing_or_in_part_is_refused_with_names(path):
    strangers = {}
    for number in range(7):
        strangers |= pair(f"lora_te2_text_model_{number}")
    with pytest.raises(FormatError, match="14 have no place.*lora_te2_.* and 9 more"):
        read(path, strangers)
    with pytest.raises(FormatError, match="of which 14 have no place in the models"):
        read(path, {**pair(), **strangers})
    with pytest.raises(FormatError, match="1 have no place.*: model.weight"):
        read(path, {**pair(), "model.weight": np.ones(3, "float32")})


def test_halves_and_repeated_tensors_are_refused(path):
    tensors = pair()
    del tensors[f"{LAYER}.lora_up.weight"]
    with pytest.raises(FormatError, match=f"1 lack their other half: {LAYER}"):
        read(path, tensors)
    with pytest.raises(FormatError, match="2 stand there twice"):
        read(path, {**pair(), **pair(DOTTED)})


@pytest.mark.parametrize(
    ("role", "shape", "expected"),
    [
        ("down", (2, 9), r"\(2, 8\)"),
        ("down", (2, 8, 3, 3), r"\(2, 8\)"),
        ("down", (0, 8), "a rank of 1 to 4096"),
        ("down", (5000, 8), "a rank of 1 to 4096"),
        ("down", (8,), "a rank of 1 to 4096"),
        ("up", (8, 3), r"\(8, 2\)"),
        ("up", (8, 2, 3, 3), r"\(8, 2\)"),
    ],
)
def test_misshapen_tensors_are_refused(path, role, shape, expected):
    tensors = {**pair(), f"{LAYER}.lora_{role}.weight": np.ones(shape, "float32")}
    with pytest.raises(FormatError, match=f"1 are misshapen: {LAYER}.*{expected}"):
        read(path, tensors)


def test_values_that_are_no_numbers_are_refused(path):
    tensors = pair()
    tensors[f"{LAYER}.lora_up.weight"][3, 1] = np.nan
    with pytest.raises(FormatError, match="lora_up.weight.*holds NaN"):
        read(path, tensors)
    tensors = {n: a.astype("int32") for n, a in pair().items()}
    with pytest.raises(FormatError, match="must be one of.*Received: int32"):
        read(path, tensors)
    with pytest.raises(FormatError, match="expected a number"):
        read(path, {**pair(), f"{LAYER}.alpha": np.ones(2, "float32")})


def random_adapters():
    """A pair for every kernel, of several ranks and alphas."""
    random = np.random.default_rng(1)
    adapters = {kind: {} for kind in SHAPES}
    for kind, shapes in SHAPES.items():
        for number, (path, shape) in enumerate(shapes.items()):
            if not path.endswith("kernel"):
                continue
            rank = 1 + number % 3
            inputs, out = int(np.prod(shape[-2:-1])), shape[-1]
            sides = shape[:-2]
            if kind == "text_encoder":
                inputs, out, sides = 16, int(np.prod(shape)) // 16, ()
                if "dense_2" in path:
                    inputs, out = 32, 16
            down = random.standard_normal((rank, inputs, *sides), "float32")
            up = random.standard_normal((out, rank, *(1 for _ in sides)), "float32")
            adapters[kind][path] = LowRank(down, up, 0.1 + number % 4)
    return adapters


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_what_is_written_comes_back_the_same_to_the_bit(path, form):
    adapters = random_adapters()
    write_lora(path, adapters, form)
    again = read_lora(path, SHAPES)
    assert again.keys() == adapters.keys()
    for kind, pairs in adapters.items():
        assert again[kind].keys() == pairs.keys()
        for kernel, expected in pairs.items():
            found = again[kind][kernel]
            assert found.alpha == expected.alpha
            np.testing.assert_array_equal(found.down, expected.down)
            np.testing.assert_array_equal(found.up, expected.up)


def test_both_forms_have_the_names_that_their_programs_write(path):
    adapters = {"unet": {QUERY: random_adapters()["unet"][QUERY]}}
    write_lora(path, adapters, "kohya")
    assert sorted(load_file(path)) == [
        f"{LAYER}.{end}" for end in ("alpha", "lora_down.weight", "lora_up.weight")
    ]
    write_lora(path, adapters)
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    with safe_open(path, "numpy") as file:
        assert sorted(file.keys()) == [f"unet.{layer}.lora_{x}.weight" for x in "AB"]
        config = json.loads(file.metadata()["lora_adapter_metadata"])
    assert config["unet.target_modules"] == [layer]
    assert config["unet.r"] == adapters["unet"][QUERY].rank


def test_another_form_or_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match="form must be one of.*'peft'"):
        write_lora(tmp_path / "x.safetensors", random_adapters(), "peft")
    with pytest.raises(ValueError, match=r"must end in \.safetensors.*x\.ckpt"):
        write_lora(tmp_path / "x.ckpt", random_adapters())


def test_each_layer_of_stable_diffusion_has_its_name_in_kohyas_form():
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        models = {
            "unet": UNet2DConditionModel(in_channels=9, cross_attention_dim=768),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(hidden_size=768, intermediate_size=3072)
            ),
        }
    layers = (torch.nn.Linear, torch.nn.Conv2d)
    for kind, model in models.items():
        shapes = shapes_of(kind, SD_15[kind])
        names = kernel_names(kind, shapes)
        found = set()
        for name, layer in model.named_modules():
            if isinstance(layer, layers):
                path = names[name.removeprefix("text_model.").replace(".", "_")]
                layout = "makeavid_torch" if kind == "unet" else "diffusers"
                shape = get_layout(kind, layout).shape(path, shapes[path])
                assert shape == tuple(layer.weight.shape)
                found.add(path)
        kernels = {p for p in shapes if p.endswith("kernel") and "temporal" not in p}
        assert found == kernels
