"""What evaluated videos look like, in one picture."""

from __future__ import annotations

import numpy as np

from keras_makeavid.evaluation.evaluation import Result
from keras_makeavid.video import contact_sheet
from keras_makeavid.video.opencv import load_cv2

_FRAMES = 8
_ROW_WIDTH = 548
_LABEL_HEIGHT = 16
# OpenCV draws no sizes between.
_FONT_SIZES = (0.38, 0.34, 0.30, 0.26)
_RIGHT, _WRONG = (0, 0, 0), (200, 0, 0)


class Gallery:
    """A picture with a row for the first video of each caption.

    Args:
        max_rows: most rows; what comes later is left out.

    Example:
    ```python
    gallery = Gallery()
    clips = MotionClips(seed=1)
    evaluate([clips.clip(index) for index in range(6)], on_result=gallery.add)
    gallery.picture().shape  # (264, 1096, 3)
    ```
    """

    def __init__(self, max_rows: int = 60):
        self._max_rows = max_rows
        self._rows: dict[str, np.ndarray] = {}

    def add(self, result: Result, frames: np.ndarray) -> None:
        """Take in a video, as `evaluate` gives it.

        Args:
            result: what was measured; what is wrong of it is written in red.
            frames: uint8 `(F, H, W, 3)`.
        """
        if result.caption not in self._rows and len(self._rows) < self._max_rows:
            self._rows[result.caption] = _row(result, frames)

    def picture(self) -> np.ndarray:
        """All rows, in two columns.

        Returns:
            uint8 `(H, W, 3)`, RGB.

        Raises:
            ValueError: if there are none.
        """
        if not self._rows:
            raise ValueError("There are no videos in the gallery.")
        rows = list(self._rows.values())
        height = max(len(row) for row in rows)
        rows += [_blank(0)] * (len(rows) % 2)
        even = [np.concatenate([row, _blank(height - len(row))]) for row in rows]
        columns = [even[: len(even) // 2], even[len(even) // 2 :]]
        return np.hstack([np.concatenate(column) for column in columns])


def _row(result, frames):
    shown = np.linspace(0, len(frames) - 1, min(_FRAMES, len(frames))).round()
    sheet = contact_sheet(frames[shown.astype(int)], _FRAMES, max_width=_ROW_WIDTH)
    text, colour = result.caption, _RIGHT
    if result.wrong:
        found = (f"{name} {getattr(result.measured, name)}" for name in result.wrong)
        text, colour = f"{text}: {', '.join(found)}", _WRONG
    label = _blank(_LABEL_HEIGHT)
    cv2 = load_cv2()
    place, font = (4, _LABEL_HEIGHT - 4), cv2.FONT_HERSHEY_SIMPLEX
    for size in _FONT_SIZES:
        if cv2.getTextSize(text, font, size, 1)[0][0] <= _ROW_WIDTH - 8:
            break
    cv2.putText(label, text, place, font, size, colour, lineType=cv2.LINE_AA)
    padded = np.pad(
        sheet,
        [(0, 0), (0, _ROW_WIDTH - sheet.shape[1]), (0, 0)],
        constant_values=255,
    )
    return np.concatenate([label, padded])


def _blank(height):
    return np.full((height, _ROW_WIDTH, 3), 255, "uint8")
