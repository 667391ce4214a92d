import keras
import numpy as np
import pytest
from keras import ops

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.training import AdamW, VideoDiffusion, rematerialise_blocks

BATCH = {
    "latents": np.random.default_rng(0).standard_normal((4, 3, 4, 4, 4), "float32"),
    "context": np.random.default_rng(1).standard_normal((4, 5, 8), "float32"),
}


def losses(rematerialise):
    """The losses of four steps from the same weights."""
    keras.utils.set_random_seed(0)
    unet = UNetPseudo3D(
        block_channels=(8,),
        attention_levels=(True,),
        layers_per_block=1,
        num_heads=2,
        context_dim=8,
        groups=4,
    )
    rematerialise_blocks(unet, rematerialise)
    model = VideoDiffusion(unet, schedule=NoiseSchedule(), latent_scale=1.0, seed=0)
    model.compile(optimizer=AdamW(learning_rate=1e-2))
    kept = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: kept.append(logs["step_loss"])
    )
    model.fit(BATCH, batch_size=1, shuffle=False, verbose=0, callbacks=[callback])
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("rematerialise", [True, "feed_forward"])
def test_rematerialised_blocks_give_identical_losses(rematerialise):
    found, expected = losses(rematerialise), losses(rematerialise=False)
    if keras.config.backend() != "tensorflow":
        assert found[0] == expected[0]
    # XLA fuses other operations: the last bit of a gradient, and under TensorFlow,
    # whose blocks are then functions of their own, of a layer norm.
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="reads JAX's program")
def test_rematerialised_blocks_are_in_the_program():
    import jax

    unet = UNetPseudo3D(
        block_channels=(8,),
        attention_levels=(False,),
        layers_per_block=1,
        num_heads=2,
        context_dim=8,
        groups=4,
    )
    rematerialise_blocks(unet)
    model = VideoDiffusion(unet, schedule=NoiseSchedule(), latent_scale=1.0, seed=0)
    batch = {key: ops.convert_to_tensor(value) for key, value in BATCH.items()}

    def forward(values):
        outputs, _ = model.stateless_call(values, others, batch)
        return model.compute_loss(y_pred=outputs)

    values = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    program = str(jax.make_jaxpr(jax.grad(forward))(values))
    # Two residual blocks and a transformer in the middle, and one and two outside.
    assert program.count("checkpoint[") + program.count("remat2[") >= 6
