"""Evaluations as a table, as data and as a page."""

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
    BAR,
    HINT_BAR,
    SPLITS,
    Evaluation,
    Result,
    failures,
)
from keras_makeavid.moving_shapes.world import MOTIONS
from keras_makeavid.pages import Markup, element, page, picture, table
from keras_makeavid.video import encode_video

_EXAMPLES = 12  # Of those that are right, and of those that are wrong.
_RATES = (*ATTRIBUTES, "all")


class Gallery:
    """Moving pictures of some videos, for a page: at `fps` frames a second.

    Example:
        ```python
        gallery, clips = Gallery(), MotionClips(seed=1)
        evaluate([clips.clip(index) for index in range(6)], on_result=gallery.add)
        len(gallery.examples())  # 8: six pictures, "Wrong" and "Right"
        ```
    """

    def __init__(self, fps: float = 8):
        self._fps = fps
        self._shown: dict[str, dict[str, Markup]] = {"Wrong": {}, "Right": {}}

    def add(self, result: Result, frames: np.ndarray) -> None:
        """Take in a video, as `evaluate` gives it."""
        measured = vars(result.measured)
        found = ", ".join(f"{name} {measured[name]}" for name in result.wrong)
        text = f"{result.caption}: {found}" if found else result.caption
        shown = self._shown["Wrong" if found else "Right"]
        if text not in shown and len(shown) < _EXAMPLES:
            shown[text] = picture(encode_video(".webp", frames, self._fps), text)

    def examples(self) -> list[Markup]:
        """Videos that do not show what they should, and some that do, for a page."""
        shown = []
        for name, videos in self._shown.items():
            shown += [element("h2", name), *videos.values()]
        return shown


def markdown_table(evaluation: Evaluation) -> str:
    """Lay out rates in Markdown: of triples seen, held out, and shuffled captions."""
    head, *rows = _rates_table(evaluation)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"|{' | '.join(head)} |", "|---" * len(head) + "|", *lines])


def _rates_table(evaluation):
    parts = _parts(evaluation)
    rows = [["", *(name.replace("_", "-") for name in parts)]]
    rows += [["videos", *(str(len(part.results)) for part in parts.values())]]
    for name in _RATES:
        rates = (_rate(part, name, i) for i, part in enumerate(parts.values()))
        rows.append([name, *rates])
    means = {"last_shape": "shape in the last quarter of frames, %"}
    means["flicker"] = "flicker, levels of 255"
    if not math.isnan(evaluation.hint_psnr):
        means["hint_psnr"] = "first frame to hint, dB"
    for name, label in means.items():
        values = (getattr(parts[split], name) for split in SPLITS)
        rows.append([label, *map(_number, values), ""])
    return rows


def write_report(
    folder: StrPath,
    evaluation: Evaluation,
    gallery: Gallery,
    settings: Mapping[str, Any],
) -> list[Path]:
    """Write an evaluation into a folder, made if it is missing, and return its files.

    They are `evaluation.json` with every video's measurement and the `settings`, and
    `evaluation.html` with the rates, which motions are taken for which, and examples.
    """
    folder = existing_parent(folder)
    folder.mkdir(exist_ok=True)
    data, text = folder / "evaluation.json", folder / "evaluation.html"
    write_json(data, _as_data(evaluation, settings))
    with written_aside(text) as aside:
        aside.write_text(_as_page(evaluation, settings, gallery), encoding="utf-8")
    return [data, text]


def _parts(evaluation):
    parts = {split: evaluation.of_split(split) for split in SPLITS}
    return {**parts, "shuffled captions": evaluation.shuffled()}


def _as_page(evaluation, settings, gallery):
    head, *rows = _rates_table(evaluation)
    below = [f"Below the bar: {text}" for text in failures(evaluation)]
    told = "; ".join(f"{name}: {value}" for name, value in settings.items())
    return page(
        "Evaluation",
        element("p", told),
        table(head, ([element("td", cell) for cell in row] for row in rows)),
        *(element("p", sentence) for sentence in below or ["All reach the bar."]),
        element("h2", "Motions: said (rows) and seen (columns)"),
        _confusion(evaluation.results),
        *gallery.examples(),
    )


def _confusion(results):
    counts = Counter((r.description.motion, r.measured.motion) for r in results)
    names = [name for name in (*MOTIONS, None) if any(name in pair for pair in counts)]

    def row(said):
        yield element("th", said)
        total = sum(counts[said, seen] for seen in names)
        for seen in names:
            count, is_right = counts[said, seen], seen == said
            colour = "84 162 75" if is_right else "228 87 86"
            shade = f"background: rgb({colour} / {count / total:.2f})"
            yield element("td", count or "", style=shade)

    rows = (row(said) for said in names if any(said == pair[0] for pair in counts))
    return table(["", *(name or "no name" for name in names)], rows)


def _as_data(evaluation, settings):
    rates = {
        split: {
            "videos": len(part.results),
            **{name: _finite(part.rate(name)) for name in _RATES},
            "last_shape": _finite(part.last_shape),
            "flicker": _finite(part.flicker),
            "hint_psnr": _finite(part.hint_psnr),
        }
        for split, part in _parts(evaluation).items()
    }
    told = ("caption", "seed", "split", "wrong", "hint_psnr")
    videos = [
        {**{name: getattr(result, name) for name in told}, **asdict(result.measured)}
        for result in evaluation.results
    ]
    return {
        "settings": dict(settings),
        "rates": rates,
        "thresholds": BAR | {"hint_psnr": HINT_BAR},
        "failures": failures(evaluation),
        "videos": videos,
    }


def _rate(part, name, number):
    if not part.results:
        return "none"
    # Nothing is asked of the control.
    bar = [f" (at least {least:.0%})" for least in BAR.get(name, ())] + [""] * 3
    return f"{part.rate(name):.1%}{bar[number]}"


def _number(value):
    return "none" if math.isnan(value) else f"{value:.1f}"


def _finite(value):
    return value if math.isfinite(value) else None
