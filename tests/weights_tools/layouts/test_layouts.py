import json
import math
import re

import goldens
import numpy as np
import pytest

from weights_tools.architectures import shapes_of
from weights_tools.kerascv import KERASCV_LAYOUTS
from weights_tools.layouts import LAYOUTS, get_layout

EVERY_LAYOUT = (*LAYOUTS, *KERASCV_LAYOUTS)

PUBLISHED = json.loads((goldens.DATA / "layouts_full.json").read_text())
FULL_SIZE = {
    "unet": {},
    "vae": {},
    "text_encoder": {
        "vocabulary_size": 49408,
        "embedding_dim": 768,
        "hidden_dim": 768,
        "num_layers": 12,
        "num_heads": 12,
        "intermediate_dim": 3072,
    },
    "tiny_vae": {},
}


def names_and_shapes(layout, root=None):
    """What the layout makes of the full-size model, each name once."""
    made = {}
    for path, shape in shapes_of(layout.kind, FULL_SIZE[layout.kind]).items():
        if layout.holds(path):
            name = layout.tensor_name(path, root)
            assert name not in made
            made[name] = list(layout.shape(path, shape))
    return made


def of_torch(make):
    """Names and shapes of a model of diffusers or transformers, not made for real."""
    import torch

    with torch.device("meta"):
        model = make()
    return {n: list(p.shape) for n, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("layout", "published"),
    [
        ("makeavid_torch", "makeavid_torch"),
        ("makeavid_flax", "makeavid_flax"),
        ("diffusers", "diffusers_sd15_inpaint_unet"),
    ],
)
def test_a_layout_is_a_bijection_onto_the_published_list(layout, published):
    assert names_and_shapes(get_layout("unet", layout)) == PUBLISHED[published]


def test_full_size_parameter_counts_are_the_published_ones():
    sizes = {path: math.prod(shape) for path, shape in shapes_of("unet", {}).items()}
    temporal = sum(n for path, n in sizes.items() if "temporal" in path)
    assert sum(sizes.values()) == 1_100_578_616
    assert temporal == 241_043_252
    assert sum(sizes.values()) - temporal == 859_535_364


def test_the_unet_is_that_of_diffusers():
    from diffusers import UNet2DConditionModel

    peer = of_torch(
        lambda: UNet2DConditionModel(in_channels=9, cross_attention_dim=768)
    )
    assert names_and_shapes(get_layout("unet", "diffusers")) == peer


def test_the_vae_is_that_of_diffusers():
    from diffusers import AutoencoderKL

    peer = of_torch(
        lambda: AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[128, 256, 512, 512],
            layers_per_block=2,
        )
    )
    assert names_and_shapes(get_layout("vae", "diffusers")) == peer


def test_the_text_encoder_is_that_of_transformers():
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        vocab_size=49408,
    )
    peer = of_torch(lambda: CLIPTextModel(config))
    layout = get_layout("text_encoder", "diffusers")
    [root] = {r for r in layout.roots if layout.tensor_name(layout.marker, r) in peer}
    assert names_and_shapes(layout, root) == peer


def test_the_tiny_autoencoder_is_that_of_diffusers():
    import diffusers

    peer = of_torch(diffusers.AutoencoderTiny)
    assert names_and_shapes(get_layout("tiny_vae", "diffusers")) == peer


@pytest.mark.parametrize("layout", EVERY_LAYOUT, ids=lambda x: f"{x.kind}-{x.name}")
def test_every_tensor_goes_to_the_layout_and_back(layout):
    for path, shape in shapes_of(layout.kind, FULL_SIZE[layout.kind]).items():
        if not layout.holds(path):
            continue
        # The shape in small, which keeps what is merged or turned.
        small = tuple(
            min(size, 2 + i) if size > 3 else size for i, size in enumerate(shape)
        )
        value = np.arange(math.prod(small), dtype="float32").reshape(small)
        there = layout.to_layout(path, value)
        assert there.flags.c_contiguous
        assert there.shape == layout.shape(path, small)
        np.testing.assert_array_equal(layout.from_layout(path, there, small), value)


@pytest.mark.parametrize("layout", EVERY_LAYOUT, ids=lambda x: f"{x.kind}-{x.name}")
def test_no_two_layouts_are_told_by_the_same_name(layout):
    names = {
        other.tensor_name(other.marker, root)
        for other in EVERY_LAYOUT
        if other is not layout
        for root in other.roots
    }
    assert not names & {layout.tensor_name(layout.marker, r) for r in layout.roots}


def test_torch_kernels_are_turned():
    layout = get_layout("unet", "makeavid_torch")
    kernel = np.zeros((3, 3, 9, 32), "float32")
    assert layout.to_layout("conv_in/spatial_conv/kernel", kernel).shape == (
        32,
        9,
        3,
        3,
    )


def test_an_unknown_layout_is_refused_with_those_known():
    with pytest.raises(ValueError, match=re.escape("'diffusers'")):
        get_layout("unet", "onnx")
