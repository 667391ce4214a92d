import json
import math
import re

import goldens
import keras
import numpy as np
import pytest

from keras_makeavid.models import UNetPseudo3D
from weights_tools.layouts import MAKEAVID_TORCH, path_in_model

PUBLISHED = json.loads((goldens.DATA / "layouts_full.json").read_text())


@pytest.fixture(scope="module")
def full_size_shapes():
    """Shape of each full-size variable by its path; the weights are not made."""
    with keras.StatelessScope(initialize_variables=False):
        unet = UNetPseudo3D()
    # Or the next scope would make them, 4.4 GB.
    keras.utils.clear_session()
    return {path_in_model(v): tuple(v.shape) for v in unet.variables}


def test_names_and_shapes_are_those_of_the_published_full_size_model(
    full_size_shapes,
):
    made = {}
    for path, shape in full_size_shapes.items():
        order = MAKEAVID_TORCH.order(path, len(shape))
        name = MAKEAVID_TORCH.tensor_name(path)
        assert name not in made
        made[name] = [shape[axis] for axis in order]
    assert made == PUBLISHED["makeavid_torch"]


def test_full_size_parameter_counts_are_the_published_ones(full_size_shapes):
    sizes = {path: math.prod(shape) for path, shape in full_size_shapes.items()}
    temporal = sum(n for path, n in sizes.items() if "temporal" in path)
    assert sum(sizes.values()) == 1_100_578_616
    assert temporal == 241_043_252
    assert sum(sizes.values()) - temporal == 859_535_364


def test_spatial_names_are_those_of_the_image_model(full_size_shapes):
    names = {MAKEAVID_TORCH.tensor_name(path) for path in full_size_shapes}
    spatial = {n for n in names if "temporal" not in n}
    image = {re.sub(r"\.spatial_conv", "", n) for n in spatial}
    assert image == set(PUBLISHED["diffusers_sd15_inpaint_unet"])


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("conv_in/spatial_conv/kernel", (3, 3, 9, 32)),
        ("conv_in/temporal_conv/kernel", (3, 32, 16)),
        ("time_embedding/linear_1/kernel", (32, 128)),
        ("conv_norm_out/gamma", (32,)),
    ],
)
def test_a_tensor_goes_to_the_layout_and_back(path, shape):
    value = np.arange(math.prod(shape), dtype="float32").reshape(shape)
    there = MAKEAVID_TORCH.to_layout(path, value)
    assert there.flags.c_contiguous
    np.testing.assert_array_equal(MAKEAVID_TORCH.from_layout(path, there), value)
