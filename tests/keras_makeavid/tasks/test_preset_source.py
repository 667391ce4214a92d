"""Checkpoints of Stable Diffusion are converted once, where a preset is asked for."""

import os
import shutil

import numpy as np
import pytest
from keras import ops

import weights_tools
from keras_makeavid import TextToVideo
from keras_makeavid.tasks.preset_source import as_preset, cache_folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return cache_folder()


@pytest.fixture(scope="module")
def pipeline(preset, tmp_path_factory):
    """A folder in diffusers' layout."""
    folder = tmp_path_factory.mktemp("pipelines") / "tiny"
    weights_tools.convert(preset, folder, layout="diffusers")
    return folder


@pytest.fixture
def conversions(monkeypatch):
    """Sources that were converted."""
    sources = []
    convert = weights_tools.convert

    def counted(source, *arguments, **options):
        sources.append(str(source))
        return convert(source, *arguments, **options)

    monkeypatch.setattr(weights_tools, "convert", counted)
    return sources


def test_a_diffusers_folder_is_converted_once(
    pipeline, task, cache, conversions, capsys
):
    first = TextToVideo.from_preset(str(pipeline))
    assert conversions == [str(pipeline)]
    said = capsys.readouterr().err
    assert "is converted once" in said and " GB" in said
    second = TextToVideo.from_preset(pipeline)
    assert len(conversions) == 1 and not capsys.readouterr().err
    (folder,) = cache.iterdir()
    assert as_preset(pipeline) == str(folder)
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (one, other)))
    # Its temporal parts are new, and the rest is what was converted.
    for one, other in zip(first.vae.weights, task.vae.weights, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (one, other)))
    assert first.backbone.in_channels == 9


def test_what_has_changed_is_converted_anew(pipeline, conversions, tmp_path):
    source = shutil.copytree(pipeline, tmp_path / "source")
    first = as_preset(source)
    weights = next((source / "unet").glob("*.safetensors"))
    os.utime(weights, ns=(1, 1))
    assert as_preset(source) != first
    assert len(conversions) == 2


def test_a_damaged_conversion_is_made_again(pipeline, conversions, cache):
    folder = as_preset(pipeline)
    weights = cache / folder / "model.weights.h5"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    assert as_preset(pipeline) == folder
    assert weights.read_bytes() == content
    (cache / folder / "converted.json").unlink()
    as_preset(pipeline)
    assert len(conversions) == 3


def test_one_that_fails_leaves_nothing(pipeline, cache, tmp_path):
    source = shutil.copytree(pipeline, tmp_path / "source")
    weights = next((source / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="safetensors"):
        TextToVideo.from_preset(str(source))
    assert not list(cache.iterdir())


def test_a_repository_of_the_hub_is_converted_at_its_commit(
    pipeline, conversions, cache, tmp_path, monkeypatch
):
    commit = "a" * 40
    repository = tmp_path / "hub" / "models--some--one"
    shutil.copytree(pipeline, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = as_preset("hf://some/one")
    assert conversions == [f"hf://some/one@{commit}"]
    assert as_preset("hf://some/one") == found == as_preset(f"hf://some/one@{commit}")
    assert len(conversions) == 1


def test_presets_are_left_as_they_are(preset, conversions):
    for name in (str(preset), "makeavid_motions_small"):
        assert as_preset(name) == name
    assert not conversions


def test_what_is_not_there_is_kerashub_s_error(tmp_path):
    with pytest.raises(ValueError, match="Unknown preset identifier"):
        TextToVideo.from_preset(str(tmp_path / "nothing"))
