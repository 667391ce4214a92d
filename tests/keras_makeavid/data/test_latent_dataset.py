import numpy as np
import pytest

from keras_makeavid.data import LatentDataset
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.training import AdamW, VideoDiffusion


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
    one.on_epoch_end()
    two.on_epoch_end()
    np.testing.assert_array_equal(one[5][0]["latents"], two[5][0]["latents"])


def test_another_epoch_gives_other_windows(dataset):
    made, first = batches(dataset, samples_per_epoch=8)
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


class LoggedDataset(LatentDataset):
    """Keeps which batches were read, and in which epoch."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.read, self.epoch = [], 0

    def __getitem__(self, index):
        self.read.append((self.epoch, index))
        return super().__getitem__(index)

    def on_epoch_end(self):
        super().on_epoch_end()
        self.epoch += 1


@pytest.mark.slow
def test_fit_takes_it_epoch_after_epoch_and_batch_after_batch(dataset):
    # Latents of 3 x 5 pixels fit a UNet of one level.
    unet = UNetPseudo3D(
        block_channels=(8,),
        attention_levels=(False,),
        layers_per_block=1,
        num_heads=2,
        context_dim=8,
        groups=4,
    )
    model = VideoDiffusion(unet, trainable="all", seed=0)
    model.compile(optimizer=AdamW())
    windows = LoggedDataset(dataset, batch_size=2, num_frames=4, samples_per_epoch=6)
    history = model.fit(windows, epochs=2, verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"]).all()
    # Keras may have looked at the dataset in an epoch of its own before.
    last = windows.read[-1][0]
    assert windows.read[-6:] == [
        (epoch, index) for epoch in (last - 1, last) for index in range(3)
    ]
