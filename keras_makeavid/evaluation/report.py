"""Evaluations as a table, as data and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keras_makeavid.evaluation.evaluation import ATTRIBUTES, Evaluation
from keras_makeavid.evaluation.gallery import Gallery
from keras_makeavid.evaluation.thresholds import SPLITS, Thresholds
from keras_makeavid.files import StrPath, existing_parent, written_aside
from keras_makeavid.video import write_image


def markdown_table(evaluation: Evaluation, thresholds: Thresholds) -> str:
    """The rates, beside what they must be at least.

    Args:
        evaluation: of videos.
        thresholds: the bar.

    Returns:
        A table in Markdown: of seen triples, of held-out ones, and of all videos with
        their captions shuffled.

    Example:
    ```python
    evaluation = evaluate(MotionClips(seed=1).clip(index) for index in range(8))
    print(markdown_table(evaluation, Thresholds()))
    ```
    """
    parts = _parts(evaluation)
    lines = [
        "| | " + " | ".join(name.replace("_", "-") for name in parts) + " |",
        "|---|" + "---|" * len(parts),
        _line("videos", [str(len(part.results)) for part in parts.values()]),
    ]
    for name in (*ATTRIBUTES, "all"):
        cells = [_rate(part, name, split, thresholds) for split, part in parts.items()]
        lines.append(_line(name, cells))
    measured = [parts[split] for split in SPLITS]
    lines.append(
        _line("flicker, levels of 255", [_number(p.flicker) for p in measured] + [""])
    )
    if not math.isnan(evaluation.hint_psnr):
        agreements = [_number(part.hint_psnr) for part in measured]
        lines.append(_line("first frame to hint, dB", [*agreements, ""]))
    return "\n".join(lines)


def write_report(
    folder: StrPath,
    evaluation: Evaluation,
    thresholds: Thresholds,
    gallery: Gallery,
    settings: Mapping[str, Any],
) -> list[Path]:
    """Write an evaluation down.

    Args:
        folder: where to; made if it is missing.
        evaluation: of videos.
        thresholds: the bar.
        gallery: of the videos.
        settings: what the model is and how it was used, as JSON takes it.

    Returns:
        The files: `evaluation.json` with every video's measurement, `evaluation.md`
        with the table, and `gallery.png`.

    Raises:
        FileNotFoundError: if the folder that `folder` is in is missing.

    Example:
    ```python
    gallery, clips = Gallery(), MotionClips(seed=1)
    evaluation = evaluate([clips.clip(0), clips.clip(1)], on_result=gallery.add)
    write_report("report", evaluation, Thresholds(), gallery, {"preset": "true clips"})
    ```
    """
    folder = existing_parent(folder)
    folder.mkdir(exist_ok=True)
    failures = thresholds.failures(evaluation)
    files = {
        "evaluation.json": _as_json(evaluation, thresholds, failures, settings),
        "evaluation.md": _as_markdown(evaluation, thresholds, failures, settings),
    }
    for name, text in files.items():
        with written_aside(folder / name) as aside:
            aside.write_text(text, encoding="utf-8")
    write_image(folder / "gallery.png", gallery.picture())
    return [folder / name for name in (*files, "gallery.png")]


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


def _as_json(evaluation, thresholds, failures, settings):
    rates = {
        split: {
            "videos": len(part.results),
            **{name: _finite(part.rate(name)) for name in (*ATTRIBUTES, "all")},
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
    content = {
        "settings": dict(settings),
        "rates": rates,
        "thresholds": bar,
        "failures": failures,
        "videos": videos,
    }
    return json.dumps(content, indent=1, allow_nan=False)


def _line(name, cells):
    return f"| {name} | {' | '.join(cells)} |"


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
