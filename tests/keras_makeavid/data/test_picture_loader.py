import itertools

import numpy as np

from keras_makeavid.data import PictureLoader
from keras_makeavid.moving_shapes import MotionClips


def lengths(captions):
    return np.array([[len(text)] for text in captions])


def test_a_batch_is_the_source_s_pictures_and_captions():
    clips = MotionClips(seed=3, size=32)
    loader = PictureLoader(clips, lengths, batch_size=4, samples_per_epoch=8)
    batch = loader.batch(2)
    images, captions = clips.images(range(8, 12))
    assert batch["images"].dtype == "float32"
    np.testing.assert_array_equal(
        np.rint((batch["images"] + 1) * 127.5).astype("uint8"), images
    )
    assert (batch["images"].min(), batch["images"].max()) >= (-1, 0)
    assert batch["images"].max() <= 1
    np.testing.assert_array_equal(batch["token_ids"], lengths(captions))
    assert batch["token_ids"].dtype == "int32"


def test_without_a_tokenizer_there_are_only_images():
    loader = PictureLoader(MotionClips(), batch_size=2, samples_per_epoch=2)
    assert list(loader.batch(0)) == ["images"]


def test_a_moment_is_handed_to_the_source():
    clips = MotionClips(size=32)
    loader = PictureLoader(clips, moment=0.0, batch_size=2, samples_per_epoch=2)
    first = loader.batch(0)["images"]
    frames = clips.batch(range(2))[0][:, 0]
    np.testing.assert_array_equal(np.rint((first + 1) * 127.5).astype("uint8"), frames)


def test_read_ahead_batches_are_the_same():
    loader = PictureLoader(MotionClips(), lengths, batch_size=2, samples_per_epoch=2)
    batches = loader.batches(start_step=5)
    for step, batch in enumerate(itertools.islice(batches, 3), start=5):
        for name, values in loader.batch(step).items():
            np.testing.assert_array_equal(batch[name], values)
    batches.close()
