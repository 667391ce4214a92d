import keras
import pytest

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.training.phases import dtype_policy, set_dtype_policy


@pytest.fixture
def unet():
    return UNetPseudo3D(
        block_channels=(8,),
        attention_levels=(False,),
        layers_per_block=1,
        num_heads=2,
        context_dim=8,
        groups=4,
    )


def dtype_of_prediction(unet):
    inputs = {
        "sample": keras.KerasTensor((1, 2, 2, 2, 9)),
        "timesteps": keras.KerasTensor((1,), "int32"),
        "context": keras.KerasTensor((1, 3, 8)),
    }
    return keras.backend.standardize_dtype(unet(inputs).dtype)


def test_it_computes_in_half_and_keeps_its_parameters(unet):
    with dtype_policy(unet, "mixed_bfloat16"):
        assert dtype_of_prediction(unet) == "bfloat16"
        assert {v.dtype for v in unet.trainable_variables} == {"float32"}
        assert unet.get_config()["dtype"]["config"]["name"] == "mixed_bfloat16"
    assert dtype_of_prediction(unet) == "float32"


def test_parameters_of_another_dtype_are_refused(unet):
    with pytest.raises(ValueError, match="parameters are float32; bfloat16 has"):
        set_dtype_policy(unet, "bfloat16")
