"""Names in the published dataset layout (spec section 7)."""

from __future__ import annotations

import os
from pathlib import Path

from keras_makeavid.data.json_files import read_id_list


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
        """The ids of `id_list.json`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is malformed.
        """
        if not self.id_list.is_file():
            raise FileNotFoundError(
                f"{self.root} is no latent dataset: it has no {self.id_list}"
            )
        return read_id_list(self.id_list)
