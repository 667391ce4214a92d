import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_makeavid.data import LatentWindows


def stored(dataset, clip_id):
    return np.load(dataset / "data" / "videos" / f"{clip_id}.npy")


def test_a_window_is_scaled_and_channels_last(dataset):
    windows = LatentWindows(dataset, num_frames=4)
    latents, context = windows.window(1, start=3)
    expected = np.moveaxis(stored(dataset, "2")[3:7], 1, -1) * np.float32(0.18215)
    np.testing.assert_array_equal(latents, expected)
    prompt = np.load(dataset / "data" / "prompts" / "2.npy")
    np.testing.assert_array_equal(context, prompt[0])


def test_failed_ids_are_left_out(dataset):
    windows = LatentWindows(dataset, num_frames=4)
    assert windows.ids == ["1", "2"]
    assert len(windows) == 2
    assert [windows.clip_length(i) for i in range(2)] == [6, 9]


def test_short_clips_are_refused_by_name(dataset):
    with pytest.raises(ValueError, match=r"1 clips are shorter than 8 frames: 1 \(6\)"):
        LatentWindows(dataset, num_frames=8)


@pytest.mark.parametrize("start", [-1, 3])
def test_a_window_outside_of_the_clip_is_refused(dataset, start):
    with pytest.raises(ValueError, match=f"0 to 2. Received: start={start}"):
        LatentWindows(dataset, num_frames=4).window(0, start)


def test_a_window_reads_its_own_bytes_only(dataset):
    # Over a gigabyte of holes: reading or checking it whole would show.
    path = dataset / "data" / "videos" / "1.npy"
    clip = np.lib.format.open_memmap(
        path, mode="w+", dtype="float32", shape=(5_000_000, 4, 3, 5)
    )
    clip[4_000_000] = 2.0
    clip.flush()
    windows = LatentWindows(dataset, num_frames=1, scale=1.0)
    latents, _ = windows.window(0, start=4_000_000)
    np.testing.assert_array_equal(latents, 2.0)


def damage(path, kind):
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[:-8])
    elif kind == "cut in the header":
        path.write_bytes(content[:20])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pickled":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif kind == "integers":
        np.save(path, np.zeros((6, 4, 3, 5), "int32"))
    elif kind == "a zip archive":
        with path.open("wb") as file:
            np.savez(file, clip=np.zeros((6, 4, 3, 5), "float32"))
    elif kind == "of another rank":
        np.save(path, np.zeros((6, 4, 3), "float32"))
    elif kind == "of another size":
        np.save(path, np.zeros((6, 4, 2, 2), "float32"))


@pytest.mark.parametrize(
    "kind",
    [
        "truncated",
        "cut in the header",
        "empty",
        "pickled",
        "integers",
        "a zip archive",
        "of another rank",
        "of another size",
    ],
)
def test_a_damaged_clip_is_refused_by_name(dataset, kind):
    damage(dataset / "data" / "videos" / "2.npy", kind)
    with pytest.raises(ValueError, match=r"2\.npy|Clip 2|'2'"):
        LatentWindows(dataset, num_frames=4)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    derandomize=True,
)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 127), st.sampled_from(b"()[]{}',:-09eL\n\\\x00\xff")),
        min_size=1,
        max_size=4,
    )
)
def test_any_damage_to_a_header_is_a_value_error_or_harmless(dataset, changes):
    path = dataset / "data" / "prompts" / "2.npy"
    content = bytearray(path.read_bytes())
    for position, byte in changes:
        content[position] = byte
    path.with_name("4.npy").write_bytes(content)
    (dataset / "data" / "videos" / "4.npy").write_bytes(
        (dataset / "data" / "videos" / "2.npy").read_bytes()
    )
    (dataset / "data" / "id_list.json").write_text('["4"]')
    try:
        windows = LatentWindows(dataset, num_frames=4)
    except ValueError as error:
        assert "4" in str(error)
    else:
        latents, context = windows.window(0, 0)
        assert latents.shape == (4, 3, 5, 4)
        assert context.dtype == "float32"


def test_clips_may_be_of_any_float_type(dataset):
    for clip_id, dtype in (("1", "float16"), ("2", ">f8")):
        path = dataset / "data" / "videos" / f"{clip_id}.npy"
        np.save(path, np.full((6, 4, 3, 5), 2.0, dtype))
    windows = LatentWindows(dataset, num_frames=4, scale=0.5)
    for i in range(2):
        latents, _ = windows.window(i, start=0)
        assert latents.dtype == "float32"
        np.testing.assert_array_equal(latents, 1.0)


def test_a_missing_file_is_named(dataset):
    (dataset / "data" / "prompts" / "2.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"prompts.*2\.npy"):
        LatentWindows(dataset, num_frames=4)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no latent dataset"):
        LatentWindows(tmp_path)


@pytest.mark.parametrize("ids", [["../1"], ["a/b"], [".."], [""], [3], {"1": 2}])
def test_an_id_cannot_leave_the_folder(dataset, ids):
    (dataset / "data" / "id_list.json").write_text(json.dumps(ids))
    with pytest.raises(ValueError, match=r"id_list\.json"):
        LatentWindows(dataset, num_frames=4)


def test_a_list_that_is_no_json_is_refused(dataset):
    (dataset / "data" / "id_list.json").write_text("[1,")
    with pytest.raises(ValueError, match="not a JSON file"):
        LatentWindows(dataset, num_frames=4)
