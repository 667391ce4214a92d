import keras
import numpy as np
import torch
from keras import ops

from keras_makeavid.training import AdamW


def test_five_steps_are_those_of_pytorch_for_gradients_of_every_size():
    rng = np.random.default_rng(0)
    start = rng.standard_normal(64).astype("float32")
    scales = np.logspace(-10, 2, 64)
    steps = [(rng.standard_normal(64) * scales).astype("float32") for _ in range(5)]

    peer = torch.nn.Parameter(torch.tensor(start))
    peer_optimizer = torch.optim.AdamW([peer], lr=1e-2, eps=1e-8, weight_decay=0.02)
    ours = keras.Variable(start)
    optimizer = AdamW(learning_rate=1e-2, global_clipnorm=None)
    for gradient in steps:
        peer.grad = torch.tensor(gradient)
        peer_optimizer.step()
        with torch.no_grad():
            optimizer.apply([ops.convert_to_tensor(gradient)], [ours])
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours), peer.detach().numpy(), atol=1e-6
    )


def test_gradients_are_clipped_by_their_norm_together():
    clipped = AdamW()._clip_gradients([ops.ones(2) * 3.0, ops.ones(2) * 4.0])
    norm = np.sqrt(sum(np.sum(ops.convert_to_numpy(g) ** 2) for g in clipped))
    np.testing.assert_allclose(norm, 1.0, rtol=1e-6)


def test_the_defaults_are_the_published_ones():
    config = AdamW().get_config()
    assert np.isclose(config["learning_rate"], 5e-5)
    assert (config["weight_decay"], config["global_clipnorm"]) == (0.02, 1.0)
    assert (config["beta_1"], config["beta_2"]) == (0.9, 0.999)
    assert config["epsilon"] == 1e-8


def test_config_round_trip():
    optimizer = AdamW(learning_rate=1e-3, weight_decay=0.1, global_clipnorm=None)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, AdamW)
    assert again.get_config() == optimizer.get_config()
