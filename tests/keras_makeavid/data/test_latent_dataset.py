import keras
import numpy as np
import pytest
from keras import ops

from keras_makeavid.data import LatentDataset


def batches(dataset, **arguments):
    made = LatentDataset(dataset, num_frames=4, **arguments)
    return made, [made[i][0]["latents"] for i in range(len(made))]


def test_batches_are_half_precision_dicts(dataset):
    batch = LatentDataset(dataset, batch_size=2, num_frames=4)[0][0]
    assert batch["latents"].shape == (2, 4, 3, 5, 4)
    assert batch["context"].shape == (2, 7, 8)
    assert {array.dtype for array in batch.values()} == {np.dtype("float16")}


def test_the_same_seed_gives_the_same_epochs(dataset):
    one, first = batches(dataset, samples_per_epoch=8, seed=3)
    two, again = batches(dataset, samples_per_epoch=8, seed=3)
    np.testing.assert_array_equal(first, again)
    _, other = batches(dataset, samples_per_epoch=8, seed=4)
    assert not np.array_equal(first, other)
    one.epoch = two.epoch = 1
    np.testing.assert_array_equal(one[5][0]["latents"], two[5][0]["latents"])


def test_another_epoch_gives_other_windows(dataset):
    made, first = batches(dataset, samples_per_epoch=8)
    made.on_epoch_begin()
    made.on_epoch_end()
    second = [made[i][0]["latents"] for i in range(len(made))]
    assert not np.array_equal(first, second)


def test_a_batch_does_not_depend_on_those_read_before(dataset):
    made, in_order = batches(dataset, samples_per_epoch=6)
    fresh = LatentDataset(dataset, num_frames=4, samples_per_epoch=6)
    np.testing.assert_array_equal(fresh[4][0]["latents"], in_order[4])


def test_every_clip_comes_once_a_turn_and_every_window_in_time(dataset):
    made = LatentDataset(dataset, num_frames=4, samples_per_epoch=200)
    contexts = [float(made[i][0]["context"][0, 0, 0]) for i in range(200)]
    assert len(set(contexts)) == 2
    for turn in range(100):
        assert contexts[2 * turn] != contexts[2 * turn + 1]
    starts = {made[i][0]["latents"].tobytes() for i in range(200)}
    assert len(starts) == (6 - 4 + 1) + (9 - 4 + 1)


@pytest.mark.parametrize("batch_size", [0, 3])
def test_an_epoch_without_one_batch_is_refused(dataset, batch_size):
    with pytest.raises(ValueError, match=f"Received: {batch_size}"):
        LatentDataset(dataset, batch_size=batch_size, num_frames=4)


class Reads(keras.Model):
    """Trains nothing, and keeps which latents came."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), name="scale")
        self.built = True

    def call(self, inputs):
        return ops.sum(inputs["latents"] * self.scale)

    def compute_loss(self, x=None, y=None, y_pred=None, **options):
        return y_pred


def read_by_fit(dataset, monkeypatch, **options):
    """What `fit` reads of each epoch, in its order."""
    windows = LatentDataset(dataset, batch_size=2, num_frames=4, samples_per_epoch=10)
    read = []
    batch = windows._loader.batch
    monkeypatch.setattr(
        windows._loader, "batch", lambda step: read.append(step) or batch(step)
    )
    model = Reads()
    model.compile(optimizer="sgd")
    model.fit(windows, verbose=0, **options)
    # TensorFlow looks at some to learn their shapes.
    return read[-5 * (options["epochs"] - options.get("initial_epoch", 0)) :], windows


@pytest.mark.parametrize("shuffle", [True, False])
def test_fit_reads_each_window_once_an_epoch_in_the_order_of_the_seed(
    dataset, monkeypatch, shuffle
):
    read, windows = read_by_fit(dataset, monkeypatch, epochs=3, shuffle=shuffle)
    assert read == list(range(15))
    assert windows.epoch == 3


def test_fit_goes_on_at_the_epoch_that_is_set(dataset, monkeypatch):
    windows = LatentDataset(dataset, num_frames=4, samples_per_epoch=6)
    windows.epoch = 2
    expected = windows._loader.batch(12)["latents"]
    windows.on_epoch_end()
    windows.on_epoch_begin()
    np.testing.assert_array_equal(windows[3][0]["latents"], expected)


def test_there_is_no_batch_beyond_the_last(dataset):
    windows = LatentDataset(dataset, num_frames=4)
    with pytest.raises(IndexError, match="from 0 to 1. Received: 2"):
        windows[2]
