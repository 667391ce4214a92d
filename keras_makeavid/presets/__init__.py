"""What a preset is, and the trained models that come with the package."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from keras_makeavid.files import StrPath

# KerasHub writes one of these: of a task, of one model, and of one in several files.
_MARKERS = ("task.json", "model.weights.h5", "model.weights.json")
# An adapter that distils the UNet; few presets have one.
FEW_STEPS_FILE = "few_steps.safetensors"
# What presets are in, of all that a repository may have.
PRESET_FILES = ("*.json", "*.weights.h5", "assets/*", FEW_STEPS_FILE)
HUB_PREFIX = "hf://"
_HUB_HANDLE = re.compile(rf"{HUB_PREFIX}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")

DEFAULT_PRESET = "makeavid_motions_small"

# In KerasHub's form, where a handle may be a folder.
PRESETS = {
    DEFAULT_PRESET: {
        "metadata": {
            "description": (
                "Small text-to-video model of moving shapes and dancing figures: 16 "
                "frames of 64 x 64 pixels. Its repository has MODEL_CARD.md."
            ),
            "params": 8_782_787,
            "path": "unet_pseudo3d",
        },
        "kaggle_handle": str(Path(__file__).parent / DEFAULT_PRESET),
    },
}


def is_preset(folder: StrPath) -> bool:
    """Whether a folder is one that KerasHub saved a preset to."""
    return any(Path(folder, name).is_file() for name in _MARKERS)


def repository_of(handle: str) -> tuple[str, str | None]:
    """Repository (`owner/name`) and revision, if given, of a handle of the hub."""
    match = _HUB_HANDLE.fullmatch(handle)
    if match is None:
        raise ValueError(
            "A handle of the hub must be hf://owner/name or hf://owner/name@revision. "
            f"Received: {handle!r}"
        )
    return match[1], match[2]


def snapshot(
    handle: str, patterns: Sequence[str] = PRESET_FILES, ignored: Sequence[str] = ()
) -> Path:
    """Fetch files of a repository, all of one commit, through the hub's cache."""
    # Those who load from a folder do not wait for it.
    import huggingface_hub
    from huggingface_hub import errors

    repository, revision = repository_of(handle)
    try:
        path = huggingface_hub.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=list(ignored),
        )
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        raise FileNotFoundError(f"{handle}: {error}") from error
    return Path(path)


def preset_folder(name: StrPath) -> str:
    """The folder of a preset of the package or the hub; any other name as it is."""
    name = os.fspath(name)
    if name.startswith(HUB_PREFIX):
        return str(snapshot(name))
    return str(PRESETS[name]["kaggle_handle"]) if name in PRESETS else name
