import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_makeavid.data import LatentClip, PublishedReader
from keras_makeavid.data.published import write_published


def stored(dataset, clip_id):
    return np.load(dataset / "data" / "videos" / f"{clip_id}.npy")


def test_frames_are_channels_last_and_not_scaled(dataset):
    latents = PublishedReader(dataset).latents(1, start=3, stop=7)
    np.testing.assert_array_equal(
        latents, np.moveaxis(stored(dataset, "2")[3:7], 1, -1)
    )


def test_text_states_have_no_batch_axis(dataset):
    prompt = np.load(dataset / "data" / "prompts" / "2.npy")
    np.testing.assert_array_equal(PublishedReader(dataset).context(1), prompt[0])


def test_failed_ids_are_left_out(dataset):
    published = PublishedReader(dataset)
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
    published = PublishedReader(dataset)
    assert published.metadata(0) == {}
    assert published.metadata(1) == {"caption": "a cat"}
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"2\.json must hold a JSON object"):
        published.metadata(1)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 7), (2, 2), (6, None)])
def test_frames_outside_of_the_clip_are_refused(dataset, start, stop):
    with pytest.raises(ValueError, match="Clip 1 has the frames 0 to 6"):
        PublishedReader(dataset).latents(0, start, stop)


def test_a_window_reads_its_own_bytes_only(dataset):
    # Over a gigabyte of holes: reading or checking it whole would show.
    path = dataset / "data" / "videos" / "1.npy"
    clip = np.lib.format.open_memmap(
        path, mode="w+", dtype="float32", shape=(5_000_000, 4, 3, 5)
    )
    clip[4_000_000] = 2.0
    clip.flush()
    latents = PublishedReader(dataset).latents(0, 4_000_000, 4_000_001)
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
        PublishedReader(dataset)


def test_a_dataset_that_was_cloned_without_git_lfs_says_so(dataset):
    for path in (dataset / "data").rglob("2.npy"):
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid 12\n")
    with pytest.raises(
        ValueError, match=r"2\.npy is a pointer of Git LFS .*git lfs pull"
    ):
        PublishedReader(dataset)


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
        published = PublishedReader(dataset)
    except ValueError as error:
        assert "4" in str(error)
    else:
        assert published.latents(0).shape == (9, 3, 5, 4)
        assert published.context(0).shape == published.context_shape(0)


def test_a_missing_file_is_named(dataset):
    (dataset / "data" / "prompts" / "2.npy").unlink()
    with pytest.raises(ValueError, match=r"lacks .*prompts.*2\.npy"):
        PublishedReader(dataset)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no latent dataset"):
        PublishedReader(tmp_path)


@pytest.mark.parametrize(
    "clip_id",
    ["../x", "a/b", "a\\b", "..", ".hidden", "", "a b", "é", "a\n", "a" * 201, 7, None],
)
def test_an_id_that_is_no_plain_name_is_refused(dataset, clip_id):
    (dataset / "data" / "id_list.json").write_text(json.dumps(["1", clip_id]))
    with pytest.raises(ValueError, match=r"id_list\.json must hold a list of ids"):
        PublishedReader(dataset)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1,", r"id_list\.json is not JSON"),
        ("[" * 100_000, r"id_list\.json is not JSON"),
        ("\ufffd", r"id_list\.json is not JSON"),
        (
            '{"ids": []}',
            r"id_list\.json must hold .*`array`, got `object`",
        ),
        ('"1"', r"id_list\.json must hold a list of ids"),
    ],
    ids=["cut", "nested", "text", "object", "string"],
)
def test_a_list_that_is_malformed_is_named(dataset, content, message):
    (dataset / "data" / "id_list.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        PublishedReader(dataset)


def test_without_a_list_of_failed_clips_none_has_failed(dataset):
    (dataset / "data" / "failed_id_list.json").unlink()
    (dataset / "data" / "id_list.json").write_text('["2", "1"]')
    assert PublishedReader(dataset).ids == ["2", "1"]


def test_files_lie_where_the_published_datasets_have_them(tmp_path):
    latents = np.zeros((2, 3, 5, 4), "float32")
    write_published(tmp_path, [LatentClip("1009163000", latents, latents[0, 0])])
    files = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    assert [str(path.relative_to(tmp_path)) for path in files] == [
        "data/failed_id_list.json",
        "data/id_list.json",
        "data/metadata/1009163000.json",
        "data/prompts/1009163000.npy",
        "data/videos/1009163000.npy",
    ]
