"""Trained models that come with the package.

KerasHub's `from_preset` takes their names; nothing is imported or loaded before.
"""

from __future__ import annotations

from pathlib import Path

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


def preset_folder(name: str) -> str:
    """The folder of a preset of the package; any other name as it is."""
    return str(PRESETS[name]["kaggle_handle"]) if name in PRESETS else name
