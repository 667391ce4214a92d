"""Evaluations as a table, as data, as a page and as a picture."""

import math
from collections import Counter
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
from keras_makeavid.moving_shapes.world import MOTIONS
from keras_makeavid.pages import Markup, element, page, picture, table
from keras_makeavid.video import contact_sheet, encode_video, write_image
from keras_makeavid.video.opencv import load_cv2

_FRAMES = 8
_EXAMPLES = 12  # Of those that are right, and of those that are wrong.
_ROW_WIDTH = 548
_LABEL_HEIGHT = 16
# OpenCV draws no sizes between.
_FONT_SIZES = (0.38, 0.34, 0.30, 0.26)
_RIGHT, _WRONG = (0, 0, 0), (200, 0, 0)
_RATES = (*ATTRIBUTES, "all")


class Gallery:
    """A picture with a row for the first video of each caption, `max_rows` at most.

    It keeps some videos as examples, at `fps` frames a second: right ones and wrong.

    Example:
        ```python
        gallery, clips = Gallery(), MotionClips(seed=1)
        evaluate([clips.clip(index) for index in range(6)], on_result=gallery.add)
        gallery.picture().shape  # (264, 1096, 3)
        ```
    """

    def __init__(self, max_rows: int = 60, fps: float = 8):
        self._max_rows, self._fps = max_rows, fps
        self._rows: dict[str, np.ndarray] = {}
        self._right: dict[str, Markup] = {}
        self._wrong: dict[str, Markup] = {}

    def add(self, result: Result, frames: np.ndarray) -> None:
        """Take in a video, as `evaluate` gives it; what is wrong is written in red."""
        text, examples = _said(result), self._wrong if result.wrong else self._right
        if text not in examples and len(examples) < _EXAMPLES:
            encoded = encode_video(".webp", frames, self._fps)
            examples[text] = picture(encoded, text)
        if result.caption in self._rows or len(self._rows) >= self._max_rows:
            return
        sheet = contact_sheet(frames, _FRAMES, max_width=_ROW_WIDTH, max_frames=_FRAMES)
        row = np.concatenate([_label(result), _blank(len(sheet))])
        row[_LABEL_HEIGHT:, : sheet.shape[1]] = sheet
        self._rows[result.caption] = row

    def examples(self) -> list[Markup]:
        """Videos that do not show what they should, and some that do, for a page."""
        wrong, right = element("h2", "Wrong"), element("h2", "Right")
        return [wrong, *self._wrong.values(), right, *self._right.values()]

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


def _said(result):
    found = [f"{name} {getattr(result.measured, name)}" for name in result.wrong]
    return ": ".join([result.caption, *([", ".join(found)] if found else [])])


def _label(result):
    text, colour = _said(result), _WRONG if result.wrong else _RIGHT
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
    head, *rows = _rates_table(evaluation, thresholds)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"|{' | '.join(head)} |", "|---" * len(head) + "|", *lines])


def _rates_table(evaluation, thresholds):
    parts = _parts(evaluation)
    measured = [parts[split] for split in SPLITS]
    rows = [["", *(name.replace("_", "-") for name in parts)]]
    rows += [["videos", *(str(len(part.results)) for part in parts.values())]]
    for name in _RATES:
        rates = [_rate(part, name, split, thresholds) for split, part in parts.items()]
        rows.append([name, *rates])
    flickers = [_number(part.flicker) for part in measured]
    rows.append(["flicker, levels of 255", *flickers, ""])
    if not math.isnan(evaluation.hint_psnr):
        agreements = [_number(part.hint_psnr) for part in measured]
        rows.append(["first frame to hint, dB", *agreements, ""])
    return rows


def write_report(
    folder: StrPath,
    evaluation: Evaluation,
    thresholds: Thresholds,
    gallery: Gallery,
    settings: Mapping[str, Any],
) -> list[Path]:
    """Write an evaluation into a folder, made if it is missing, and return its files.

    They are `evaluation.json` with every video's measurement and the `settings`,
    `evaluation.html` with the rates, which motions are taken for which, and examples,
    and `gallery.png`.
    """
    folder = existing_parent(folder)
    folder.mkdir(exist_ok=True)
    names = ("evaluation.json", "evaluation.html", "gallery.png")
    data, text, image = (folder / name for name in names)
    failures = thresholds.failures(evaluation)
    write_json(data, _as_data(evaluation, thresholds, failures, settings))
    with written_aside(text) as aside:
        told = _as_page(evaluation, thresholds, failures, settings, gallery)
        aside.write_text(told, encoding="utf-8")
    write_image(image, gallery.picture())
    return [data, text, image]


def _parts(evaluation):
    parts = {split: evaluation.of_split(split) for split in SPLITS}
    return {**parts, "shuffled captions": evaluation.shuffled()}


def _as_page(evaluation, thresholds, failures, settings, gallery):
    head, *rows = _rates_table(evaluation, thresholds)
    told = "; ".join(f"{name}: {value}" for name, value in settings.items())
    verdict = [f"Below the bar: {text}" for text in failures] or ["All reach the bar."]
    return page(
        "Evaluation",
        element("p", told),
        table(head, ([element("td", cell) for cell in row] for row in rows)),
        *(element("p", sentence) for sentence in verdict),
        element("h2", "Motions: said (rows) and seen (columns)"),
        _confusion(
            [(r.description.motion, r.measured.motion) for r in evaluation.results]
        ),
        *gallery.examples(),
    )


def _confusion(pairs):
    counts = Counter(pairs)
    names = [name for name in (*MOTIONS, None) if any(name in pair for pair in pairs)]

    def row(said):
        yield element("th", said)
        total = sum(counts[said, seen] for seen in names)
        for seen in names:
            count, colour = (
                counts[said, seen],
                "84 162 75" if seen == said else "228 87 86",
            )
            shade = f"background: rgb({colour} / {count / total:.2f})"
            yield element("td", count or "", style=shade)

    rows = (row(said) for said in names if any(said == pair[0] for pair in pairs))
    return table(["", *(name or "no name" for name in names)], rows)


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
