import pytest

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.training import set_trainable


@pytest.fixture(scope="module")
def unet():
    return UNetPseudo3D(
        block_channels=(8, 8),
        attention_levels=(True, False),
        layers_per_block=1,
        num_heads=2,
        context_dim=8,
        groups=4,
    )


def test_temporal_is_what_has_temporal_in_its_path(unet):
    count = set_trainable(unet, "temporal")
    assert count == sum(v.numpy().size for v in unet.trainable_variables)
    assert all("temporal" in v.path for v in unet.trainable_variables)
    assert not any("temporal" in v.path for v in unet.non_trainable_variables)


def test_spatial_is_everything_else(unet):
    temporal = set_trainable(unet, "temporal")
    assert set_trainable(unet, "spatial") == unet.count_params() - temporal
    assert not any("temporal" in v.path for v in unet.trainable_variables)


def test_all_undoes_temporal(unet):
    set_trainable(unet, "temporal")
    assert set_trainable(unet, "all") == unet.count_params()
    assert unet.non_trainable_variables == []


def test_a_pattern_chooses_layers_by_path(unet):
    set_trainable(unet, r"up_blocks_\d/.*attn1")
    paths = [v.path for v in unet.trainable_variables]
    assert paths
    assert all("up_blocks" in path and "attn1" in path for path in paths)


@pytest.mark.parametrize("trainable", ["banana", "(["])
def test_a_pattern_of_nothing_is_refused(unet, trainable):
    with pytest.raises(ValueError, match="Paths look like|regular expression"):
        set_trainable(unet, trainable)
