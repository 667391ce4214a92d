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
def test_no_two_layouts_are_told_by_the_same_names(layout):
    model = MODULES if layout.temporal == "motion_modules" else FULL_SIZE[layout.kind]
    paths = [p for p in shapes_of(layout.kind, model) if layout.holds(p)]
    for root in layout.roots:
        names = {layout.tensor_name(path, root) for path in paths}
        known = KERASCV_LAYOUTS if layout in KERASCV_LAYOUTS else LAYOUTS
        told = [x for x in known for r in x.roots if x.names(names, r)]
        assert told == [layout]


MODULES = {"in_channels": 4, "temporal": "motion_modules", "motion_mid_block": True}


@pytest.mark.parametrize("mid_block", [False, True])
@pytest.mark.parametrize("name", ["MotionAdapter", "UNetMotionModel"])
def test_motion_modules_are_those_of_diffusers(name, mid_block):
    import diffusers
    import torch

    model = {**MODULES, "motion_mid_block": mid_block}
    config = {"use_motion_mid_block": mid_block}
    if name == "UNetMotionModel":
        config["cross_attention_dim"] = 768
    with torch.device("meta"):
        peer = getattr(diffusers, name)(**config)
    layout = get_layout(
        "unet", "diffusers_" + ("adapter" if name == "MotionAdapter" else "motion")
    )
    made = {
        layout.tensor_name(path): list(layout.shape(path, shape))
        for path, shape in shapes_of("unet", model).items()
        if layout.holds(path)
    }
    assert made == {n: list(t.shape) for n, t in peer.state_dict().items()}


def test_motion_modules_have_as_many_parameters_as_published():
    counts = []
    for mid_block in (False, True):
        model = {**MODULES, "motion_mid_block": mid_block}
        sizes = {
            path: math.prod(shape)
            for path, shape in shapes_of("unet", model).items()
            if "temporal" in path and not path.endswith("embeddings")
        }
        counts.append(sum(sizes.values()))
    assert [round(count / 1e6) for count in counts] == [417, 453]


def test_the_original_files_name_motion_modules_so():
    layout = get_layout("unet", "animatediff")
    place = "up_blocks_3/temporal_modules_2/"
    there = "up_blocks.3.motion_modules.2.temporal_transformer."
    block = f"{there}transformer_blocks.0."
    names = {
        "norm/gamma": f"{there}norm.weight",
        "proj_in/kernel": f"{there}proj_in.weight",
        "norm1/beta": f"{block}norms.0.bias",
        "attn1/to_q/kernel": f"{block}attention_blocks.0.to_q.weight",
        "positions1/embeddings": f"{block}attention_blocks.0.pos_encoder.pe",
        "norm2/gamma": f"{block}norms.1.weight",
        "attn2/to_out/bias": f"{block}attention_blocks.1.to_out.0.bias",
        "positions2/embeddings": f"{block}attention_blocks.1.pos_encoder.pe",
        "norm3/gamma": f"{block}ff_norm.weight",
        "ff/proj_in/kernel": f"{block}ff.net.0.proj.weight",
        "ff/proj_out/bias": f"{block}ff.net.2.bias",
        "proj_out/kernel": f"{there}proj_out.weight",
    }
    assert {path: layout.tensor_name(place + path) for path in names} == names
    paths = [path for path in shapes_of("unet", MODULES) if layout.holds(path)]
    assert len({layout.tensor_name(path) for path in paths}) == len(paths)


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
