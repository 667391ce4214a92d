import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from keras_makeavid.data import LatentClip, ShardedReader
from keras_makeavid.data.sharded import ShardedWriter

# Bytes of a clip of `made`: 4 x 2 x 3 x 4 and 5 x 6 numbers.
CLIP_BYTES = 4 * (96 + 30)


def made(clip_id, seed=None, **metadata):
    rng = np.random.default_rng(ord(clip_id[0]) if seed is None else seed)
    return LatentClip(
        clip_id,
        rng.standard_normal((4, 2, 3, 4), "float32"),
        rng.standard_normal((5, 6), "float32"),
        metadata or {"caption": f"clip {clip_id}"},
    )


def write(folder, clips, clips_a_shard=2, **options):
    writer = ShardedWriter(folder, shard_bytes=clips_a_shard * CLIP_BYTES, **options)
    for clip in clips:
        writer.add(clip)
    writer.finish()


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def shards(folder):
    """Names of the clips in each shard."""
    return {
        path.name: sorted({name.split("/")[0] for name in load_file(path)})
        for path in sorted(folder.glob("*.safetensors"))
    }


def assert_holds(folder, clips):
    dataset = ShardedReader(folder)
    assert dataset.ids == [clip.id for clip in clips]
    for index, clip in enumerate(clips):
        read = dataset.check(index)
        np.testing.assert_array_equal(read.latents, clip.latents)
        np.testing.assert_array_equal(read.context, clip.context)
        assert read.metadata == clip.metadata


def test_what_is_written_is_read(tmp_path):
    clips = [made(name) for name in "abcde"]
    write(tmp_path, clips)
    assert_holds(tmp_path, clips)


def test_few_files_hold_many_clips_in_their_order(tmp_path):
    write(tmp_path, [made(name) for name in "badce"])
    assert shards(tmp_path) == {
        "clips-00000.safetensors": ["a", "b"],
        "clips-00001.safetensors": ["c", "d"],
        "clips-00002.safetensors": ["e"],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *shards(tmp_path),
        "failed_id_list.json",
        "index.json",
    ]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_have_the_mode_that_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        ShardedWriter(tmp_path).add(made("a"))
        write(tmp_path, [made("b")], clips_a_shard=1)
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} >= {".staged", tmp_path.name}
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask, path


def test_half_precision_takes_half_of_the_bytes(tmp_path):
    write(tmp_path, [made("a")], half=True)
    dataset = ShardedReader(tmp_path)
    assert dataset.latents(0).dtype == np.float16
    assert dataset.context(0).dtype == np.float16
    np.testing.assert_array_equal(dataset.latents(0), made("a").latents.astype("f2"))
    dataset.check(0)


def test_any_memory_layout_is_written_as_the_numbers_that_it_holds(tmp_path):
    clip = made("a")
    turned = np.asfortranarray(clip.latents)
    write(tmp_path, [LatentClip("a", turned, clip.context[:, ::-1])])
    dataset = ShardedReader(tmp_path)
    np.testing.assert_array_equal(dataset.latents(0), clip.latents)
    np.testing.assert_array_equal(dataset.context(0), clip.context[:, ::-1])


@pytest.mark.parametrize("stopped_after", range(5))
def test_a_run_that_was_stopped_leaves_the_same_files_when_it_went_on(
    tmp_path, stopped_after
):
    clips = [made(name) for name in "abcde"]
    write(tmp_path / "whole", clips)
    # As a kill leaves it: nothing is closed or finished.
    stopped = ShardedWriter(tmp_path / "stopped", shard_bytes=2 * CLIP_BYTES)
    for clip in clips[:stopped_after]:
        stopped.add(clip)

    writer = ShardedWriter(tmp_path / "stopped", shard_bytes=2 * CLIP_BYTES)
    assert sorted(writer.stored) == [clip.id for clip in clips[:stopped_after]]
    for clip in clips:
        if writer.stored.get(clip.id) == clip.metadata:
            writer.keep(clip.id)
        else:
            writer.add(clip)
    writer.finish()
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_clips_that_were_packed_when_the_run_was_stopped_are_not_packed_again(tmp_path):
    clips = [made(name) for name in "abc"]
    for name in ("whole", "stopped"):
        write(tmp_path / name, clips)
    # As if the end had come before the clip's own file was removed.
    ShardedWriter(tmp_path / "stopped").add(clips[1])
    writer = ShardedWriter(tmp_path / "stopped", shard_bytes=2 * CLIP_BYTES)
    writer.keep("b")
    writer.finish()
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_a_second_run_makes_files_of_its_own(tmp_path):
    clips = [made(name) for name in "abcdefg"]
    for first, last in ((0, 3), (3, 3), (3, 7)):
        write(tmp_path, clips[first:last])
    assert [len(names) for names in shards(tmp_path).values()] == [2, 1, 2, 2]
    assert_holds(tmp_path, clips)


def test_a_run_that_adds_nothing_changes_nothing(tmp_path):
    write(tmp_path, [made(name) for name in "abc"])
    before = contents(tmp_path)
    write(tmp_path, [])
    assert contents(tmp_path) == before


def test_a_clip_can_be_replaced_and_removed(tmp_path):
    clips = [made(name) for name in "abcde"]
    write(tmp_path, clips)
    clips[0] = made("a", seed=0, caption="another")
    write(tmp_path, [clips[0]])
    assert_holds(tmp_path, clips)
    writer = ShardedWriter(tmp_path, shard_bytes=2 * CLIP_BYTES)
    for clip_id in "bcdx":
        writer.remove(clip_id)
    writer.finish()
    assert_holds(tmp_path, [clips[0], clips[4]])
    # Files without any clip of the index go.
    assert list(shards(tmp_path).values()) == [["e"], ["a"]]


def test_a_clip_that_is_written_again_is_off_the_list_of_failed_ones(tmp_path):
    write(tmp_path, [made(name) for name in "abc"])
    (tmp_path / "failed_id_list.json").write_text('["a", "c"]')
    assert ShardedReader(tmp_path).ids == ["b"]
    write(tmp_path, [made("a", seed=0)])
    assert json.loads((tmp_path / "failed_id_list.json").read_text()) == ["c"]
    assert ShardedReader(tmp_path).ids == ["a", "b"]


def test_a_staged_file_that_lost_its_end_is_not_stored(tmp_path):
    ShardedWriter(tmp_path).add(made("a"))
    path = tmp_path / ".staged" / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    assert ShardedWriter(tmp_path).stored == {}


def test_clips_of_the_other_precision_are_not_stored(tmp_path):
    write(tmp_path, [made("a")])
    assert ShardedWriter(tmp_path).stored == {"a": {"caption": "clip a"}}
    assert ShardedWriter(tmp_path, half=True).stored == {}
    write(tmp_path, [made("a")], half=True)
    assert ShardedReader(tmp_path).latents(0).dtype == np.float16


def test_shards_of_other_names_are_read_and_continued(tmp_path):
    write(tmp_path, [made("a")])
    (tmp_path / "clips-00000.safetensors").rename(tmp_path / "mine.safetensors")
    index = tmp_path / "index.json"
    index.write_text(index.read_text().replace("clips-00000", "mine"))
    write(tmp_path, [made("b")])
    assert ShardedReader(tmp_path).ids == ["a", "b"]


WRITE_ALL = """
import sys
from pathlib import Path
import numpy as np
from keras_makeavid.data.reader import LatentClip
from keras_makeavid.data.sharded import ShardedWriter

writer = ShardedWriter(Path(sys.argv[1]), shard_bytes=200_000)
for number in range(60):
    clip_id, metadata = f"clip{number}", {"caption": str(number)}
    if writer.stored.get(clip_id) == metadata:
        writer.keep(clip_id)
    else:
        latents = np.full((8, 16, 16, 4), number, "float32")
        context = np.full((5, 6), number, "float32")
        print("adds", flush=True)
        sys.stdin.readline()
        writer.add(LatentClip(clip_id, latents, context, metadata))
writer.finish()
"""


def test_a_run_that_is_killed_again_and_again_leaves_the_same_files_in_the_end(
    tmp_path,
):
    def start(folder):
        command = [sys.executable, "-c", WRITE_ALL, str(folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen(command, **pipes, bufsize=0)

    random = np.random.default_rng(0)
    for _ in range(12):
        with start(tmp_path / "killed") as process:
            for _ in range(random.integers(1, 7)):
                process.stdout.readline()
                process.stdin.write(b"\n")
            # While it writes a clip, or packs a shard.
            time.sleep(random.uniform(0, 0.003))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        if (tmp_path / "killed" / "index.json").is_file():
            # What is there already can be read at any moment.
            dataset = ShardedReader(tmp_path / "killed")
            for index in range(len(dataset)):
                dataset.check(index)
    for name in ("killed", "whole"):
        with start(tmp_path / name) as process:
            process.communicate()
        assert process.returncode == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
