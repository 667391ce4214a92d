import json

import numpy as np
import pytest

from keras_makeavid.data import LatentClip, check_dataset, open_dataset, open_writer

LAYOUTS = ("sharded", "published")


def made(clip_id, value=1.0):
    latents = np.full((4, 2, 3, 4), value, "float32")
    return LatentClip(clip_id, latents, latents[0, 0], {"caption": clip_id})


@pytest.fixture(params=LAYOUTS)
def folder(request, tmp_path):
    """Clips "a", "b" and "c" in either layout."""
    writer = open_writer(tmp_path / "dataset", request.param)
    for clip_id in "abc":
        writer.add(made(clip_id))
    writer.finish()
    return tmp_path / "dataset"


def reopened(folder):
    return open_writer(folder, LAYOUTS[(folder / "data").is_dir()])


def failed(folder):
    path = open_dataset(folder).failed_id_list
    return json.loads(path.read_text())


def test_what_is_written_is_stored_and_read(folder):
    assert reopened(folder).stored == {i: {"caption": i} for i in "abc"}
    dataset = open_dataset(folder)
    assert dataset.ids == ["a", "b", "c"]
    np.testing.assert_array_equal(dataset.latents(1), made("b").latents)


def test_a_clip_can_be_replaced_removed_and_added(folder):
    writer = reopened(folder)
    writer.add(made("a", 2.0))
    writer.remove("b")
    writer.add(made("d"))
    writer.finish()
    dataset = open_dataset(folder)
    assert dataset.ids == ["a", "c", "d"]
    assert dataset.latents(0)[0, 0, 0, 0] == 2.0
    assert check_dataset(folder) == {}


def test_a_whole_clip_that_the_user_leaves_out_stays_stored_and_left_out(folder):
    open_dataset(folder).failed_id_list.write_text('["b"]')
    writer = reopened(folder)
    assert set(writer.stored) == set("abc")
    writer.keep("b")
    writer.finish()
    assert failed(folder) == ["b"]
    assert open_dataset(folder).ids == ["a", "c"]


def test_a_damaged_clip_that_was_left_out_can_be_written_again(folder):
    writer = reopened(folder)
    writer.add(made("b", np.nan))
    writer.finish()
    assert list(check_dataset(folder, leave_out=True)) == ["b"]
    writer = reopened(folder)
    assert set(writer.stored) == set("ac")
    writer.add(made("b"))
    writer.finish()
    assert failed(folder) == []
    assert set(open_dataset(folder).ids) == set("abc")
    assert check_dataset(folder) == {}


def test_a_layout_that_is_unknown_is_refused(tmp_path):
    with pytest.raises(ValueError, match="layout must be one of .* Received: 'zip'"):
        open_writer(tmp_path, "zip")


def test_a_folder_where_a_run_of_the_other_layout_was_stopped_is_refused(tmp_path):
    for layout, other in (LAYOUTS, LAYOUTS[::-1]):
        open_writer(tmp_path / layout, layout).add(made("a"))
        with pytest.raises(ValueError, match=f"dataset of the {layout} layout already"):
            open_writer(tmp_path / layout, other)
