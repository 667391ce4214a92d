"""The picture that a visitor paints a mask on, as bounded as other uploads.

Gradio writes a stub of types beside the file of such a class: it has a file of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs, EditorDataBlobs

from keras_makeavid.app.handlers import MAX_PICTURE_BYTES

# Of those that the browser sent, and that no request has taken yet.
_MAX_WAITING = 16
# The page has a single one.
_MAX_LAYERS = 4


class Painting(gr.ImageEditor):
    """Gradio's editor, which takes what a browser sends within bounds."""

    # Gradio's word for a class that shows what its base class shows.
    is_template = True

    @server
    def accept_blobs(self, data: AcceptBlobs) -> None:
        """Keep a picture that the browser sends ahead of a request."""
        said, content = data.data, data.files[0][1]
        text = str(said["index"])
        index = int(text) if text.isdecimal() else 0
        if len(content) > MAX_PICTURE_BYTES or index >= _MAX_LAYERS:
            raise gr.Error("The picture is too large.", print_exception=False)
        while len(self.blob_storage) >= _MAX_WAITING:
            self.blob_storage.pop(next(iter(self.blob_storage)), None)
        kept = self.blob_storage.setdefault(
            str(said["id"]), EditorDataBlobs(background=None, layers=[], composite=None)
        )
        if said["type"] == "layer":
            kept.layers += [None] * (index + 1 - len(kept.layers))
            kept.layers[index] = content
        elif said["type"] == "background":
            kept.background = content

    def taken(self, payload: Any, folder: Path) -> tuple[Path | None, list[Path]]:
        """The picture and its layers, of what a request says, as files."""
        if not isinstance(payload, dict):
            return None, []
        blobs = self.blob_storage.pop(str(payload.get("id")), None)
        if blobs is None:
            layers = [path_of(layer) for layer in payload.get("layers") or []]
            return path_of(payload.get("background")), [p for p in layers if p]
        if blobs.background is None:
            return None, []
        contents = [blobs.background, *(each for each in blobs.layers if each)]
        files = [folder / f"{number}.png" for number in range(len(contents))]
        for path, content in zip(files, contents, strict=True):
            path.write_bytes(content)
        return files[0], files[1:]


def path_of(payload: Any) -> Path | None:
    """The file of what a request says of an upload.

    Gradio has made sure that it lies among the uploads.
    """
    path = payload.get("path") if isinstance(payload, dict) else None
    return None if path is None else Path(path)
