import json
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from keras_makeavid.data import LatentClip, ShardedReader, ShardedWriter

SHARD = "clips-00000.safetensors"


def clip(clip_id, frames=6):
    rng = np.random.default_rng(frames)
    latents = rng.standard_normal((frames, 3, 5, 4), "float32")
    return LatentClip(
        clip_id, latents, rng.standard_normal((7, 8), "float32"), {"n": 1}
    )


@pytest.fixture
def folder(tmp_path):
    """Clips "a" of 6 frames and "b" of 9."""
    writer = ShardedWriter(tmp_path / "dataset")
    writer.add(clip("a"))
    writer.add(clip("b", 9))
    writer.finish()
    return tmp_path / "dataset"


def change_index(folder, change):
    path = folder / "index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def test_frames_are_those_that_were_written(folder):
    dataset = ShardedReader(folder)
    np.testing.assert_array_equal(dataset.latents(1, 2, 6), clip("b", 9).latents[2:6])
    np.testing.assert_array_equal(dataset.context(1), clip("b", 9).context)
    assert dataset.ids == ["a", "b"]
    assert dataset.latents_shape(0) == (6, 3, 5, 4)
    assert dataset.context_shape(0) == (7, 8)
    assert dataset.metadata(0) == {"n": 1}


def test_failed_ids_are_left_out(folder):
    (folder / "failed_id_list.json").write_text('["a", "unknown"]')
    dataset = ShardedReader(folder)
    assert dataset.ids == ["b"]
    np.testing.assert_array_equal(dataset.latents(0), clip("b", 9).latents)


def test_a_copy_in_another_process_reads_the_same(folder):
    dataset = ShardedReader(folder)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.latents(1, 2, 4), dataset.latents(1, 2, 4))


def test_a_window_reads_its_own_bytes_only(folder):
    # A gigabyte of holes: reading it whole would show in time and memory.
    frames = 4_500_000
    header = json.dumps(
        {
            "a/latents": {
                "dtype": "F32",
                "shape": [frames, 3, 5, 4],
                "data_offsets": [0, frames * 240],
            },
            "a/context": {
                "dtype": "F32",
                "shape": [7, 8],
                "data_offsets": [frames * 240, frames * 240 + 224],
            },
        }
    ).encode()
    with (folder / SHARD).open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + frames * 240 + 224)
        file.seek(8 + len(header) + 4_000_000 * 240)
        file.write(np.full(60, 2.0, "float32").tobytes())
    change_index(folder, lambda index: index["clips"].pop())
    change_index(
        folder,
        lambda index: index["clips"][0]["latents"].update(shape=[frames, 3, 5, 4]),
    )
    latents = ShardedReader(folder).latents(0, 4_000_000, 4_000_001)
    np.testing.assert_array_equal(latents, np.full((1, 3, 5, 4), 2.0))


@pytest.mark.parametrize("start", [-1, 6, 5])
def test_frames_outside_of_the_clip_are_refused(folder, start):
    with pytest.raises(ValueError, match="Clip a has the frames 0 to 6"):
        ShardedReader(folder).latents(0, start, start + 2)


def of_clip(**changes):
    return lambda index: index["clips"][0].update(changes)


def of_tensor(name, **changes):
    return lambda index: index["clips"][0][name].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.update(format="zip"), "no index of a latent dataset"),
        (lambda i: i.update(version=2), r"that this version reads: .*2.*`\$\.version`"),
        (lambda i: i.update(clips={}), r"`array`, got `object` - at `\$\.clips`"),
        (lambda i: i["clips"].append(3), r"`object`, got `int` - at `\$\.clips\[2\]`"),
        (lambda i: i["clips"].append(i["clips"][0]), "two clips of one id"),
        (of_clip(id="../a"), r"Expected .* at `\$\.clips\[0\]\.id`"),
        (of_clip(id="c"), "Clip c: .* has no tensor c/latents"),
        (of_clip(shard="../x.safetensors"), r"Expected .* at `\$\.clips\[0\]\.shard`"),
        (of_clip(shard="/x.safetensors"), r"Expected .* at `\$\.clips\[0\]\.shard`"),
        (of_clip(shard="a/x.safetensors"), r"Expected .* at `\$\.clips\[0\]\.shard`"),
        (of_clip(shard="x.safetensors\n"), r"Expected .* at `\$\.clips\[0\]\.shard`"),
        (of_clip(shard="x.npy"), r"Expected .* at `\$\.clips\[0\]\.shard`"),
        (of_clip(shard=None), r"Expected .* at `\$\.clips\[0\]\.shard`"),
        (of_clip(metadata=[]), r"Expected `object`.* at `\$\.clips\[0\]\.metadata`"),
        (of_clip(latents=[]), r"Expected `object`.* at `\$\.clips\[0\]\.latents`"),
        (of_tensor("context", dtype="int8"), r"\[0\]\.context\.dtype`"),
        (of_tensor("context", dtype=["float32"]), r"\[0\]\.context\.dtype`"),
        (of_tensor("latents", shape=[6, 4]), "of length 4"),
        (
            of_tensor("context", shape=[7, -8]),
            r"`int` >= 1 - at `\$\.clips\[0\]\.context",
        ),
        (of_tensor("context", shape=[7, 8.0]), "Expected `int`, got `float`"),
        (of_tensor("context", shape=[7, True]), "Expected `int`, got `bool`"),
        (of_tensor("context", sha256="x"), r"\[0\]\.context\.sha256`"),
        (
            of_tensor("latents", shape=[7, 3, 5, 4]),
            "Clip a: .* is float32 .6, 3",
        ),
        (of_tensor("latents", dtype="float16"), "Clip a: .* is float32"),
    ],
)
def test_a_malformed_index_is_refused_and_the_clip_named(folder, change, message):
    change_index(folder, change)
    with pytest.raises(ValueError, match=message):
        ShardedReader(folder)


def test_what_is_no_index_at_all_is_refused(folder):
    for content in ("[]", "{", "3"):
        (folder / "index.json").write_text(content)
        with pytest.raises(ValueError, match=r"index\.json is no"):
            ShardedReader(folder)
    (folder / "index.json").unlink()
    with pytest.raises(FileNotFoundError, match="no latent dataset"):
        ShardedReader(folder)


def test_other_dtypes_in_a_shard_are_refused(folder):
    tensors = {**load_file(folder / SHARD), "c/latents": np.arange(3)}
    save_file(tensors, folder / SHARD)
    with pytest.raises(ValueError, match="c/latents must be F32 or F16. Received: I64"):
        ShardedReader(folder)


def test_a_missing_shard_is_named(folder):
    (folder / SHARD).unlink()
    with pytest.raises(ValueError, match=f"2 clips are .*The dataset lacks .*{SHARD}"):
        ShardedReader(folder)


def test_a_shard_that_is_a_pointer_of_git_lfs_says_so(folder):
    (folder / SHARD).write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid 12\n"
    )
    with pytest.raises(ValueError, match=f"{SHARD} is a pointer of Git LFS"):
        ShardedReader(folder)


@pytest.mark.parametrize("size", [0, 5, 100, -8])
def test_a_shard_that_lost_its_end_is_refused(folder, size):
    path = folder / SHARD
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=f"{SHARD} is damaged"):
        ShardedReader(folder)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    derandomize=True,
)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 300), st.sampled_from(b'{}[]",:-09eF/\x00\xff')),
        min_size=1,
        max_size=4,
    )
)
def test_any_damage_to_a_shards_header_is_a_value_error_or_harmless(folder, changes):
    path = folder / SHARD
    whole = path.read_bytes()
    content = bytearray(whole)
    for position, byte in changes:
        content[position] = byte
    path.write_bytes(content)
    try:
        dataset = ShardedReader(folder)
        assert dataset.latents(1).shape == (9, 3, 5, 4)
    except ValueError:
        pass
    finally:
        path.write_bytes(whole)


def test_checking_finds_bytes_that_are_not_those_that_were_written(folder):
    tensors = load_file(folder / SHARD)
    tensors["b/latents"][4, 0, 0, 0] += 1
    save_file(tensors, folder / SHARD)
    dataset = ShardedReader(folder)
    dataset.check(0)
    with pytest.raises(ValueError, match=f"Clip b: the latents in {SHARD} are not"):
        dataset.check(1)


def test_checking_finds_numbers_that_are_not_finite(tmp_path):
    damaged = clip("a")
    damaged.context[3, 3] = np.nan
    writer = ShardedWriter(tmp_path)
    writer.add(damaged)
    writer.finish()
    with pytest.raises(ValueError, match="Clip a: the text states hold .* not finite"):
        ShardedReader(tmp_path).check(0)
