"""Evaluations as a table, as data and as a picture."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.files import StrPath, existing_parent, written_aside
from keras_makeavid.json_files import write_json
from keras_makeavid.moving_shapes.evaluation import (
    ATTRIBUTES,
    SPLITS,
    Evaluation,
    Result,
    Thresholds,
)
from keras_makeavid.video import contact_sheet, write_image
from keras_makeavid.video.opencv import load_cv2

_FRAMES = 8
_ROW_WIDTH = 548
_LABEL_HEIGHT = 16
# OpenCV draws no sizes between.
_FONT_SIZES = (0.38, 0.34, 0.30, 0.26)
_RIGHT, _WRONG = (0, 0, 0), (200, 0, 0)
_RATES = (*ATTRIBUTES, "all")


class Gallery:
    """A picture with a row for the first video of each caption, `max_rows` at most.

    Example:
        ```python
        gallery, clips = Gallery(), MotionClips(seed=1)
        evaluate([clips.clip(index) for index in range(6)], on_result=gallery.add)
        gallery.picture().shape  # (264, 1096, 3)
        ```
    """

    def __init__(self, max_rows: int = 60):
        self._max_rows = max_rows
        self._rows: dict[str, np.ndarray] = {}

    def add(self, result: Result, frames: np.ndarray) -> None:
        """Take in a video, as `evaluate` gives it; what is wrong is written in red."""
        if result.caption in self._rows or len(self._rows) >= self._max_rows:
            return
        sheet = contact_sheet(frames, _FRAMES, max_width=_ROW_WIDTH, max_frames=_FRAMES)
        row = np.concatenate([_label(result), _blank(len(sheet))])
        row[_LABEL_HEIGHT:, : sheet.shape[1]] = sheet
        self._rows[result.caption] = row

    def picture(self) -> np.ndarray:
        """All rows in two columns: uint8 `(H, W, 3)`, RGB; one at least."""
        if not self._rows:
            raise ValueError("There are no videos in the gallery.")
        rows = list(self._rows.values())
        height = max(len(row) for row in rows)
        rows += [_blank(0)] * (len(rows) % 2)
        even = [np.concatenate([row, _blank(height - len(row))]) for row in rows]
        columns = [even[: len(even) // 2], even[len(even) // 2 :]]
        return np.hstack([np.concatenate(column) for column in columns])


def _label(result):
    text, colour = result.caption, _RIGHT
    if result.wrong:
        found = (f"{name} {getattr(result.measured, name)}" for name in result.wrong)
        text, colour = f"{text}: {', '.join(found)}", _WRONG
    cv2 = load_cv2()
    label = _blank(_LABEL_HEIGHT)
    place, font = (4, _LABEL_HEIGHT - 4), cv2.FONT_HERSHEY_SIMPLEX
    for size in _FONT_SIZES:
        if cv2.getTextSize(text, font, size, 1)[0][0] <= _ROW_WIDTH - 8:
            break
    return cv2.putText(label, text, place, font, size, colour, lineType=cv2.LINE_AA)


def _blank(height):
    return np.full((height, _ROW_WIDTH, 3), 255, "uint8")


def markdown_table(evaluation: Evaluation, thresholds: Thresholds) -> str:
    """Lay out rates in Markdown: of triples seen, held out, and shuffled captions."""
    parts = _parts(evaluation)
    measured = [parts[split] for split in SPLITS]
    rows = [["videos", *(str(len(part.results)) for part in parts.values())]]
    for name in _RATES:
        rates = [_rate(part, name, split, thresholds) for split, part in parts.items()]
        rows.append([name, *rates])
    flickers = [_number(part.flicker) for part in measured]
    rows.append(["flicker, levels of 255", *flickers, ""])
    if not math.isnan(evaluation.hint_psnr):
        agreements = [_number(part.hint_psnr) for part in measured]
        rows.append(["first frame to hint, dB", *agreements, ""])
    names = (name.replace("_", "-") for name in parts)
    head = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(parts)]
    return "\n".join(head + [f"| {' | '.join(row)} |" for row in rows])


def write_report(
    folder: StrPath,
    evaluation: Evaluation,
    thresholds: Thresholds,
    gallery: Gallery,
    settings: Mapping[str, Any],
) -> list[Path]:
    """Write an evaluation into a folder, made if it is missing, and return its files.

    They are `evaluation.json` with every video's measurement and the `settings`,
    `evaluation.md` with the table, and `gallery.png`.
    """
    folder = existing_parent(folder)
    folder.mkdir(exist_ok=True)
    names = ("evaluation.json", "evaluation.md", "gallery.png")
    data, text, picture = (folder / name for name in names)
    failures = thresholds.failures(evaluation)
    write_json(data, _as_data(evaluation, thresholds, failures, settings))
    with written_aside(text) as aside:
        aside.write_text(
            _as_markdown(evaluation, thresholds, failures, settings), encoding="utf-8"
        )
    write_image(picture, gallery.picture())
    return [data, text, picture]


def _parts(evaluation):
    parts = {split: evaluation.of_split(split) for split in SPLITS}
    return {**parts, "shuffled captions": evaluation.shuffled()}


def _as_markdown(evaluation, thresholds, failures, settings):
    verdict = "\n".join(f"- {failure}" for failure in failures)
    return "\n\n".join(
        [
            "# Evaluation",
            "\n".join(f"- {name}: {value}" for name, value in settings.items()),
            markdown_table(evaluation, thresholds),
            f"Below the bar:\n\n{verdict}" if failures else "All reach the bar.",
            "![The videos](gallery.png)\n",
        ]
    )


def _as_data(evaluation, thresholds, failures, settings):
    rates = {
        split: {
            "videos": len(part.results),
            **{name: _finite(part.rate(name)) for name in _RATES},
            "flicker": _finite(part.flicker),
            "hint_psnr": _finite(part.hint_psnr),
        }
        for split, part in _parts(evaluation).items()
    }
    videos = [
        {
            "caption": result.caption,
            "seed": result.seed,
            "split": result.split,
            "wrong": result.wrong,
            "hint_psnr": result.hint_psnr,
            **asdict(result.measured),
        }
        for result in evaluation.results
    ]
    bar = {
        name: list(value) if name in ATTRIBUTES else _finite(value)
        for name, value in asdict(thresholds).items()
    }
    told = {"settings": dict(settings), "rates": rates, "thresholds": bar}
    return {**told, "failures": failures, "videos": videos}


def _rate(part, name, split, thresholds):
    if not part.results:
        return "none"
    cell = f"{part.rate(name):.1%}"
    least = thresholds.rate(name, split) if name != "all" and split in SPLITS else 0
    return f"{cell} (at least {least:.0%})" if least else cell


def _number(value):
    return "none" if math.isnan(value) else f"{value:.1f}"


def _finite(value):
    return value if math.isfinite(value) else None
