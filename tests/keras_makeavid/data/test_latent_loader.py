import itertools
import subprocess
import sys

import numpy as np
import pytest

from keras_makeavid.data import LatentLoader, convert_dataset, open_dataset


def taken(loader, count, start_step=0):
    batches = loader.batches(start_step)
    result = list(itertools.islice(batches, count))
    batches.close()
    return result


def assert_equal(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_batches_are_half_precision_dicts(dataset):
    batch = LatentLoader(dataset, batch_size=2, num_frames=4).batch(0)
    assert batch["latents"].shape == (2, 4, 3, 5, 4)
    assert batch["context"].shape == (2, 7, 8)
    assert {array.dtype for array in batch.values()} == {np.dtype("float16")}


def test_a_batch_holds_windows_of_the_clips_as_they_are_stored(dataset):
    loader = LatentLoader(dataset, num_frames=4)
    stored = [np.load(dataset / "data/videos" / f"{i}.npy") for i in (1, 2)]
    windows = {
        np.moveaxis(clip[start : start + 4], 1, -1).astype("float16").tobytes()
        for clip in stored
        for start in range(len(clip) - 3)
    }
    seen = {loader.batch(step)["latents"].tobytes() for step in range(100)}
    assert seen == windows


def test_prefetched_batches_are_those_of_random_access(dataset):
    loader = LatentLoader(dataset, num_frames=4, samples_per_epoch=7)
    assert_equal(taken(loader, 20), [loader.batch(step) for step in range(20)])


def test_another_start_in_the_middle_of_an_epoch_gives_the_same_batches(dataset):
    options = {"num_frames": 4, "samples_per_epoch": 10, "batch_size": 2}
    whole = taken(LatentLoader(dataset, **options), 12)
    assert_equal(taken(LatentLoader(dataset, **options), 5, start_step=7), whole[7:])


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_the_depth_of_prefetching_changes_nothing(dataset, prefetch):
    expected = taken(LatentLoader(dataset, num_frames=4), 9)
    loader = LatentLoader(dataset, num_frames=4, prefetch=prefetch)
    assert_equal(taken(loader, 9), expected)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_the_number_of_worker_processes_changes_nothing(dataset, num_workers):
    expected = taken(LatentLoader(dataset, num_frames=4), 10, start_step=3)
    loader = LatentLoader(dataset, num_frames=4, num_workers=num_workers)
    assert_equal(taken(loader, 10, start_step=3), expected)


def test_the_shards_batches_in_their_order_are_the_whole_batch(dataset):
    options = {"num_frames": 4, "batch_size": 6, "samples_per_epoch": 12}
    whole = LatentLoader(dataset, **options)
    shards = [
        LatentLoader(dataset, **options, shard_index=i, shard_count=3) for i in range(3)
    ]
    for step in range(4):
        parts = [shard.batch(step)["latents"] for shard in shards]
        assert [len(part) for part in parts] == [2, 2, 2]
        np.testing.assert_array_equal(
            np.concatenate(parts), whole.batch(step)["latents"]
        )


def test_an_epoch_is_as_many_whole_batches_as_its_samples_fill(dataset):
    assert LatentLoader(dataset, num_frames=4).steps_per_epoch == 2
    loader = LatentLoader(dataset, num_frames=4, batch_size=3, samples_per_epoch=11)
    assert loader.steps_per_epoch == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, r"batch_size .* samples of an epoch \(2\). Received: 0"),
        ({"batch_size": 3}, "Received: 3"),
        ({"samples_per_epoch": 0}, r"samples of an epoch \(0\)"),
        ({"batch_size": 2, "shard_count": 3}, "multiple of shard_count"),
        ({"shard_count": 0}, "multiple of shard_count"),
        ({"shard_index": 1}, "shard_index must be from 0 to 0. Received: 1"),
        ({"num_workers": -1}, "num_workers must be at least 0. Received: -1"),
        ({"prefetch": -1}, "prefetch must be at least 0. Received: -1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(dataset, arguments, message):
    with pytest.raises(ValueError, match=message):
        LatentLoader(dataset, num_frames=4, **arguments)


def test_a_negative_start_is_refused(dataset):
    with pytest.raises(ValueError, match="start_step must be at least 0"):
        next(LatentLoader(dataset, num_frames=4).batches(-1))


def test_importing_the_loader_imports_no_grain():
    program = (
        "import sys; from keras_makeavid.data import LatentLoader; "
        "assert 'grain' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_clips_shorter_than_a_window_are_refused_by_name(dataset):
    with pytest.raises(ValueError, match=r"1 clips are shorter than 8 frames: 1 \(6\)"):
        LatentLoader(dataset, num_frames=8)


def test_clips_of_different_sizes_are_refused_by_name(dataset):
    path = dataset / "data" / "videos" / "2.npy"
    np.save(path, np.zeros((6, 4, 2, 2), "float32"))
    with pytest.raises(ValueError, match=r"of one size.*\(3, 5, 4\).*'1'.*'2'"):
        LatentLoader(dataset, num_frames=4)


def test_a_dataset_without_clips_is_refused(dataset):
    (dataset / "data" / "id_list.json").write_text("[]")
    with pytest.raises(ValueError, match="lists no clips"):
        LatentLoader(dataset, num_frames=4)


def test_stored_numbers_may_be_of_any_float_type(dataset):
    for clip_id, dtype in (("1", "float16"), ("2", ">f8")):
        path = dataset / "data" / "videos" / f"{clip_id}.npy"
        np.save(path, np.full((6, 4, 3, 5), 2.0, dtype))
    batch = LatentLoader(dataset, num_frames=4, batch_size=2).batch(0)
    np.testing.assert_array_equal(batch["latents"], 2.0)


def test_both_layouts_give_the_same_batches(dataset, tmp_path):
    convert_dataset(dataset, tmp_path / "sharded")
    assert_equal(
        taken(LatentLoader(tmp_path / "sharded", num_frames=4), 9),
        taken(LatentLoader(open_dataset(dataset), num_frames=4), 9),
    )


def test_worker_processes_read_shards_too(dataset, tmp_path):
    convert_dataset(dataset, tmp_path / "sharded", half=True)
    loader = LatentLoader(tmp_path / "sharded", num_frames=4, num_workers=2)
    assert_equal(taken(loader, 4), [loader.batch(step) for step in range(4)])


def test_damage_that_happens_while_reading_stops_the_batches_by_name(dataset):
    loader = LatentLoader(dataset, num_frames=4)
    (dataset / "data" / "videos" / "2.npy").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"2\.npy has become shorter"):
        taken(loader, 2)
