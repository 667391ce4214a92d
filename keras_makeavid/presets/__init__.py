"""What a preset is, and the trained models that come with the package."""

import re
from pathlib import Path

# KerasHub writes one of these: of a task, of one model, and of one in several files.
_MARKERS = ("task.json", "model.weights.h5", "model.weights.json")
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


def is_preset(source: str | Path) -> bool:
    """Whether a folder, or a repository of the hub, is one that KerasHub saved."""
    if isinstance(source, str) and source.startswith(HUB_PREFIX):
        from keras_hub.src.utils.preset_utils import check_file_exists

        # KerasHub knows no revisions.
        return "@" not in source and any(
            check_file_exists(source, name) for name in _MARKERS
        )
    return any(Path(source, name).is_file() for name in _MARKERS)


def repository_of(handle: str) -> tuple[str, str | None]:
    """Repository (`owner/name`) and revision, if given, of a handle of the hub."""
    match = _HUB_HANDLE.fullmatch(handle)
    if match is None:
        raise ValueError(
            "A handle of the hub must be hf://owner/name or hf://owner/name@revision. "
            f"Received: {handle!r}"
        )
    return match[1], match[2]


def preset_folder(name: str) -> str:
    """The folder of a preset of the package; any other name as it is."""
    return str(PRESETS[name]["kaggle_handle"]) if name in PRESETS else name
