"""The residual block against the original."""

import goldens
import numpy as np
import pytest
from running import built, runner

from keras_makeavid.layers import ResidualBlock


@pytest.mark.parametrize(
    ("tag", "channels"), [("resnet_same_video", 32), ("resnet_shortcut_video", 64)]
)
def test_it_agrees_with_the_original(tag, channels):
    layer = ResidualBlock(channels)
    inputs = goldens.layer_inputs(tag)
    layer.build(*(x.shape for x in inputs))
    goldens.load_layer(layer, tag)
    outputs = runner(layer)(*inputs)
    np.testing.assert_allclose(outputs, goldens.layer_output(tag), atol=1e-5, rtol=0)


def test_its_statistics_run_over_the_frames():
    random = np.random.default_rng(0)
    video = random.normal(size=(1, 3, 4, 4, 4)).astype("float32")
    video[:, 0] += 5
    time_embedding = random.normal(size=(1, 8)).astype("float32")
    run = runner(built(ResidualBlock(4, groups=2), video, time_embedding))
    outputs = run(video, time_embedding)
    alone = run(video[:, :1], time_embedding)
    assert np.abs(outputs[:, :1] - alone).max() > 0.1


def test_the_time_embedding_is_the_same_for_all_frames():
    random = np.random.default_rng(0)
    image = random.normal(size=(2, 1, 4, 4, 4)).astype("float32")
    time_embedding = random.normal(size=(2, 8)).astype("float32")
    run = runner(built(ResidualBlock(4, groups=2), image, time_embedding))
    video = run(image.repeat(3, axis=1), time_embedding)
    expected = run(image[:, 0], time_embedding)
    for frame in range(3):
        np.testing.assert_allclose(video[:, frame], expected, atol=1e-5)
