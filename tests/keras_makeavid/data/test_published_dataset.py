import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_makeavid.data import PublishedDataset


def stored(dataset, clip_id):
    return np.load(dataset / "data" / "videos" / f"{clip_id}.npy")


def test_frames_are_channels_last_and_not_scaled(dataset):
    latents = PublishedDataset(dataset).latents(1, start=3, stop=7)
    np.testing.assert_array_equal(
        latents, np.moveaxis(stored(dataset, "2")[3:7], 1, -1)
    )


def test_text_states_have_no_batch_axis(dataset):
    prompt = np.load(dataset / "data" / "prompts" / "2.npy")
    np.testing.assert_array_equal(PublishedDataset(dataset).context(1), prompt[0])


def test_failed_ids_are_left_out(dataset):
    published = PublishedDataset(dataset)
    assert published.ids == ["1", "2"]
    assert len(published) == 2
    assert [published.latents_shape(i) for i in range(2)] == [
        (6, 3, 5, 4),
        (9, 3, 5, 4),
    ]
    assert published.context_shape(0) == (7, 8)


def test_metadata_are_those_of_the_clip_or_none(dataset):
    path = dataset / "data" / "metadata" / "2.json"
    path.write_text('{"caption": "a cat"}')
    published = PublishedDataset(dataset)
    assert published.metadata(0) == {}
    assert published.metadata(1) == {"caption": "a cat"}
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"2\.json must hold an object"):
        published.metadata(1)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 7), (2, 2), (6, None)])
def test_frames_outside_of_the_clip_are_refused(dataset, start, stop):
    with pytest.raises(ValueError, match="Clip 1 has the frames 0 to 6"):
        PublishedDataset(dataset).latents(0, start, stop)


def test_a_window_reads_its_own_bytes_only(dataset):
    # Over a gigabyte of holes: reading or checking it whole would show.
    path = dataset / "data" / "videos" / "1.npy"
    clip = np.lib.format.open_memmap(
        path, mode="w+", dtype="float32", shape=(5_000_000, 4, 3, 5)
    )
    clip[4_000_000] = 2.0
    clip.flush()
    latents = PublishedDataset(dataset).latents(0, 4_000_000, 4_000_001)
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
    elif kind == "in Fortran order":
        np.save(path, np.asfortranarray(np.zeros((6, 4, 3, 5), "float32")))
    elif kind == "of another rank":
        np.save(path, np.zeros((6, 4, 3), "float32"))


@pytest.mark.parametrize(
    "kind",
    [
        "truncated",
        "cut in the header",
        "empty",
        "pickled",
        "integers",
        "a zip archive",
        "in Fortran order",
        "of another rank",
    ],
)
def test_a_damaged_clip_is_refused_by_name(dataset, kind):
    damage(dataset / "data" / "videos" / "2.npy", kind)
    with pytest.raises(ValueError, match=r"2\.npy|Clip 2"):
        PublishedDataset(dataset)


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
        published = PublishedDataset(dataset)
    except ValueError as error:
        assert "4" in str(error)
    else:
        assert published.latents(0).shape == (9, 3, 5, 4)
        assert published.context(0).shape == published.context_shape(0)


def test_a_missing_file_is_named(dataset):
    (dataset / "data" / "prompts" / "2.npy").unlink()
    with pytest.raises(ValueError, match=r"lacks .*prompts.*2\.npy"):
        PublishedDataset(dataset)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no latent dataset"):
        PublishedDataset(tmp_path)


@pytest.mark.parametrize("ids", [["../1"], ["a/b"], [".."], [""], [3], {"1": 2}])
def test_an_id_cannot_leave_the_folder(dataset, ids):
    (dataset / "data" / "id_list.json").write_text(json.dumps(ids))
    with pytest.raises(ValueError, match=r"id_list\.json"):
        PublishedDataset(dataset)


def test_a_list_that_is_no_json_is_refused(dataset):
    (dataset / "data" / "id_list.json").write_text("[1,")
    with pytest.raises(ValueError, match="not a JSON file"):
        PublishedDataset(dataset)
