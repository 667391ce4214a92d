"""Names in the published dataset layout (spec section 7)."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from keras_makeavid.files import written_aside

# An id becomes part of file names: nothing in it may leave the folder.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


class PublishedLayout:
    """Paths of the datasets `TempoFunk/tempofunk-sdance` and `TempoFunk/small`.

    Args:
        root: folder that holds `data/`.

    Example:
        ```python
        PublishedLayout("dataset").video("1009163000")
        ```
    """

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root)
        self.data = self.root / "data"
        self.id_list = self.data / "id_list.json"
        self.failed_id_list = self.data / "failed_id_list.json"

    def video(self, clip_id: str) -> Path:
        """Latents: float32 `(F, 4, H, W)`, not scaled."""
        return self.data / "videos" / f"{clip_id}.npy"

    def prompt(self, clip_id: str) -> Path:
        """Text states: float32 `(1, L, D)`."""
        return self.data / "prompts" / f"{clip_id}.npy"

    def metadata(self, clip_id: str) -> Path:
        """Caption and origin."""
        return self.data / "metadata" / f"{clip_id}.json"

    def read_ids(self) -> list[str]:
        """The ids of `id_list.json` without those of `failed_id_list.json`.

        Raises:
            FileNotFoundError: if there is no `id_list.json`.
            ValueError: if a list is malformed.
        """
        if not self.id_list.is_file():
            raise FileNotFoundError(
                f"{self.root} is no latent dataset: it has no {self.id_list}"
            )
        failed = (
            set(_read_id_list(self.failed_id_list))
            if self.failed_id_list.is_file()
            else set()
        )
        return [i for i in _read_id_list(self.id_list) if i not in failed]


def write_json(path: Path, value) -> None:
    """Write a JSON file, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _read_id_list(path):
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(ids, list):
        raise ValueError(f"{path} must hold a list of ids. Received: {ids!r:.80}")
    for clip_id in ids:
        if not isinstance(clip_id, str) or not _ID.fullmatch(clip_id):
            raise ValueError(
                f"{path}: an id is made of letters, digits, '_', '-' and '.'. "
                f"Received: {clip_id!r}"
            )
    return ids
