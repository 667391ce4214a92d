import keras
import numpy as np
import pytest
from keras import ops
from running import runner

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.training import (
    add_lora,
    save_lora,
    set_trainable,
    without_lora,
)
from keras_makeavid.training.trainable import has_lora
from weights_tools.architectures import variables_of
from weights_tools.lora import LORA_FORMS, LowRank, read_lora

INPUTS = {
    "sample": np.random.default_rng(0).standard_normal((1, 3, 2, 2, 9), "float32"),
    "timesteps": np.array([500]),
    "context": np.random.default_rng(1).standard_normal((1, 5, 8), "float32"),
}


@pytest.fixture
def unet():
    unet = UNetPseudo3D(
        block_channels=(8,),
        attention_levels=(False,),
        layers_per_block=1,
        num_heads=2,
        context_dim=8,
        groups=4,
    )
    random = np.random.default_rng(0)
    for weight in unet.weights:
        weight.assign(0.3 * random.standard_normal(weight.shape, "float32"))
    return unet


def predict(unet):
    return runner(unet)(INPUTS)


def train_adapters(unet):
    random = np.random.default_rng(2)
    for variable in unet.trainable_variables:
        variable.assign_add(0.1 * random.standard_normal(variable.shape, "float32"))


# A transformer of 3 attentions, each of 4 dense layers; all layers with a kernel.
LAYERS = pytest.mark.parametrize(("layers", "count"), [("attn", 12), (".", 51)])


@LAYERS
def test_adapters_change_nothing_until_they_train(unet, layers, count):
    before = predict(unet)
    assert add_lora(unet, rank=2, alpha=4.0, layers=layers) == count
    np.testing.assert_array_equal(predict(unet), before)
    set_trainable(unet, "lora")
    train_adapters(unet)
    assert np.abs(predict(unet) - before).max() > 1e-3


def test_only_adapters_train(unet):
    add_lora(unet, rank=2, alpha=2.0, layers="attn_temporal")
    count = set_trainable(unet, "lora")
    # For 4 dense layers of 8 x 8, two matrices of 8 x 2 each.
    assert count == 4 * 2 * 16
    paths = [variable.path for variable in unet.trainable_variables]
    assert all("attn_temporal" in path and "lora_kernel" in path for path in paths)


@LAYERS
def test_merged_the_model_computes_what_it_did_with_adapters(unet, layers, count):
    add_lora(unet, rank=2, alpha=4.0, layers=layers)
    set_trainable(unet, "lora")
    train_adapters(unet)
    merged = without_lora(unet)
    assert not has_lora(merged)
    np.testing.assert_allclose(predict(merged), predict(unet), atol=1e-5)
    assert set_trainable(merged, "all") == merged.count_params()


def test_what_is_saved_is_merged(unet, tmp_path):
    add_lora(unet, rank=2, alpha=4.0)
    set_trainable(unet, "lora")
    train_adapters(unet)
    expected = predict(unet)
    unet.save_to_preset(tmp_path / "preset")
    again = UNetPseudo3D.from_preset(str(tmp_path / "preset"))
    assert not has_lora(again)
    np.testing.assert_allclose(predict(again), expected, atol=1e-5)


def test_adapters_begin_alike_in_every_process(unet):
    keras.utils.set_random_seed(1)
    other = without_lora(unet)
    add_lora(unet, rank=2, alpha=2.0, seed=5)
    keras.utils.set_random_seed(2)
    add_lora(other, rank=2, alpha=2.0, seed=5)
    for one, two in zip(unet.variables, other.variables, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (one, two)))


@LAYERS
@pytest.mark.parametrize("form", LORA_FORMS)
def test_written_adapters_come_back_to_the_bit(unet, tmp_path, form, layers, count):
    add_lora(unet, rank=2, alpha=0.1, layers=layers)
    set_trainable(unet, "lora")
    train_adapters(unet)
    path = tmp_path / "style.safetensors"
    assert save_lora(unet, path, form) == count
    merged = without_lora(unet)
    shapes = {n: tuple(v.shape) for n, v in variables_of(merged).items()}
    found = read_lora(path, {"unet": shapes})["unet"]
    adapted = [x for x in unet._flatten_layers() if getattr(x, "lora_enabled", False)]
    assert len(found) == len(adapted)
    kernels = variables_of(merged)
    for layer in adapted:
        path = layer._kernel.path.removeprefix("unet/")
        pair, kernel = found[path], ops.convert_to_numpy(layer._kernel)
        assert pair.alpha == 0.1
        a, b = map(ops.convert_to_numpy, (layer.lora_kernel_a, layer.lora_kernel_b))
        again = LowRank.of("unet", path, a, b, 0.1)
        np.testing.assert_array_equal(pair.down, again.down)
        np.testing.assert_array_equal(pair.up, again.up)
        added = pair.delta("unet", path, kernel.shape)
        np.testing.assert_allclose(added, 0.05 * a @ b, atol=1e-6)
        np.testing.assert_allclose(kernels[path], kernel + added, atol=1e-6)


@pytest.mark.once
def test_without_adapters_there_is_nothing_to_write(unet, tmp_path):
    with pytest.raises(ValueError, match="has no adapters"):
        save_lora(unet, tmp_path / "style.safetensors")


def test_layers_that_are_not_there_are_refused(unet):
    with pytest.raises(ValueError, match="No layer's path matches layers='nothing'"):
        add_lora(unet, rank=2, alpha=2.0, layers="nothing")


def test_training_adapters_that_are_not_there_is_refused(unet):
    with pytest.raises(ValueError, match="add_lora"):
        set_trainable(unet, "lora")
