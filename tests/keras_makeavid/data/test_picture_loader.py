import itertools

import numpy as np
import pytest

from keras_makeavid.data import PictureFolder, PictureLoader
from keras_makeavid.moving_shapes import MotionClips
from keras_makeavid.video import write_image


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


@pytest.fixture
def folder(tmp_path):
    """Pictures of one colour each, 0 to 4, and a caption beside each."""
    for number, name in enumerate(("a.png", "b.png", "c.PNG", "in/d.png", "in/e.png")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write_image(path, np.full((8, 12, 3), number, "uint8"))
        path.with_suffix(".txt").write_text(f"picture {number}")
    (tmp_path / "._a.png").write_bytes(b"resource fork")
    return tmp_path


def numbers(images):
    return images[:, 0, 0, 0].tolist()


def test_a_folder_gives_each_picture_with_its_caption_once_a_pass(folder):
    pictures = PictureFolder(folder, 4, 6)
    assert len(pictures) == 5
    images, captions = pictures.images(range(10))
    assert (images.dtype, images.shape) == (np.uint8, (10, 4, 6, 3))
    seen = numbers(images)
    assert captions == [f"picture {number}" for number in seen]
    assert sorted(seen[:5]) == sorted(seen[5:]) == list(range(5))


def test_the_order_is_a_function_of_the_seed_and_the_number(folder):
    orders = {
        tuple(numbers(PictureFolder(folder, 4, 4, seed).images(range(5))[0]))
        for seed in range(20)
    }
    assert len(orders) > 5
    images, _ = PictureFolder(folder, 4, 4, seed=3).images([7])
    assert numbers(PictureFolder(folder, 4, 4, 3).images(range(8))[0])[7:] == (
        numbers(images)
    )


def test_an_epoch_is_one_of_each_picture_unless_told_otherwise(folder):
    pictures = PictureFolder(folder, 4, 4)
    assert PictureLoader(pictures, lengths, batch_size=2).steps_per_epoch == 2
    loader = PictureLoader(pictures, lengths, batch_size=2, samples_per_epoch=20)
    assert loader.steps_per_epoch == 10
    batch = loader.batch(9)
    assert batch["images"].shape == (2, 4, 4, 3)
    np.testing.assert_array_equal(batch["token_ids"], [[9], [9]])


def test_captions_are_asked_for_where_they_are_needed_only(folder):
    (folder / "a.txt").unlink()
    with pytest.raises(ValueError, match=r"1 files have no caption.*a\.png"):
        PictureFolder(folder, 4, 4)
    pictures = PictureFolder(folder, 4, 4, captioned=False)
    assert len(pictures) == 5
    assert set(pictures.images(range(5))[1]) == {""}


def test_a_table_of_captions_is_read(folder):
    (folder / "captions.csv").write_text("file,caption\na.png,one\nin\\d.png,two\n")
    assert sorted(PictureFolder(folder, 4, 4).images(range(2))[1]) == ["one", "two"]


def test_what_is_no_picture_is_named_at_once(folder):
    (folder / "b.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"b\.png is not a PNG"):
        PictureFolder(folder, 4, 4)


def test_a_folder_without_pictures_is_named(tmp_path):
    for captioned in (True, False):
        with pytest.raises(FileNotFoundError, match="no .*pictures"):
            PictureFolder(tmp_path, 4, 4, captioned=captioned)
