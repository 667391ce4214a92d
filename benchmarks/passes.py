"""Seconds a video against what videos show, for ways to make fewer passes of the UNet.

    KERAS_BACKEND=jax python benchmarks/passes.py --out docs/passes.png

prints a table of the model in the box: steps x scheduler x guidance x cache x interval,
and those of its distilled weights. The score is the share of videos
that show all that their prompts say (`makeavid evaluate`). The clock runs while latents
are sampled: not while they are decoded, nor while programs compile, for every setting
is called once before. Then each prompt and seed goes through all settings before the
next one comes, in an order drawn anew: a machine that slows down slows down all. The
first row is what the model does by default, the last line the fastest setting within
2 points of the best. `--out` draws it (`pip install matplotlib`).
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import time
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from keras_makeavid import TextToVideo, moving_shapes
from keras_makeavid.presets import DEFAULT_PRESET
from keras_makeavid.progress import progress_bar

POINTS = 2.0
_SHOWN = ("colour", "shape", "motion", "all")
_HEADER = (
    "| steps | scheduler | guidance | at noise levels | cache interval | distilled "
    "| s a video | times as fast | colour | shape | motion | all |"
)


class Setting(NamedTuple):
    """Arguments of `generate`, and whether the weights are the distilled ones."""

    steps: int
    scheduler: str
    guidance: float
    interval: tuple[float, float] = (0.0, 1.0)
    cache: int = 1
    distilled: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """They, as `generate` names them."""
        return {
            "num_steps": self.steps,
            "scheduler": self.scheduler,
            "guidance_scale": self.guidance,
            "guidance_interval": self.interval,
            "cache_interval": self.cache,
        }

    @property
    def kind(self) -> str:
        """What it does with guidance."""
        if self.distilled:
            return "distilled"
        if self.guidance == 1:
            return "without guidance"
        return "guidance" if self.interval == (0, 1) else "guidance at some levels"


class Measured(NamedTuple):
    """A setting, its median seconds a video, and the evaluation of its videos."""

    setting: Setting
    seconds: float
    evaluation: moving_shapes.Evaluation

    @property
    def score(self) -> float:
        """Percent of videos that show all that was asked for."""
        return 100 * self.evaluation.rate("all")


def settings_of(options: argparse.Namespace, default: Setting) -> list[Setting]:
    """All settings that differ: the default first, no interval without guidance."""
    axes = (options.steps, options.schedulers, options.guidance)
    found = {default: None}
    for interval, cache in itertools.product(options.intervals, options.caches):
        for steps, scheduler, guidance in itertools.product(*axes):
            scale = default.guidance if guidance is None else guidance
            levels = (0.0, 1.0) if scale == 1 else interval
            # Steps that are no more than the interval pass the whole UNet once.
            if cache < steps or cache == 1:
                found[Setting(steps, scheduler, scale, levels, cache)] = None
    for steps in options.distilled_steps:
        found[Setting(steps, "lcm", 1.0, distilled=True)] = None
    return list(found)


def measure(
    tasks: dict[bool, TextToVideo],
    settings: list[Setting],
    count: int,
    seeds: int,
) -> list[Measured]:
    """Time and evaluate settings, in turns.

    Args:
        tasks: The model, and the distilled one at `True`.
        settings: What to measure.
        count: Prompts of each kind.
        seeds: Videos of each prompt.
    """
    prompts = moving_shapes.default_prompts(count)
    videos = [prompt for prompt in prompts for _ in range(seeds)]
    seconds: dict[Setting, list[float]] = {setting: [] for setting in settings}
    results: dict[Setting, list[Any]] = {setting: [] for setting in settings}
    rng = np.random.default_rng(0)
    with progress_bar(len(settings) * (len(videos) + 1), "passes", unit="video") as bar:
        for setting in settings:
            timed(tasks[setting.distilled], setting, videos[0], 0)
            bar.update(1)
        for seed, prompt in enumerate(videos):
            for number in rng.permutation(len(settings)):
                setting = settings[number]
                task = tasks[setting.distilled]
                latents, took = timed(task, setting, prompt, seed)
                seconds[setting].append(took)
                frames = task.vae.decode_video(latents)[0]
                shown = moving_shapes.evaluate([(frames, prompt)])
                results[setting].extend(shown.results)
                bar.update(1)
    return [
        Measured(
            setting,
            float(np.median(seconds[setting])),
            moving_shapes.Evaluation(tuple(results[setting])),
        )
        for setting in settings
    ]


def timed(
    task: TextToVideo, setting: Setting, prompt: str, seed: int
) -> tuple[np.ndarray, float]:
    """Latents `(1, F, h, w, C)` of a video, and the seconds that they took."""
    start = time.perf_counter()
    latents = task.generate(prompt, seed=seed, output="latents", **setting.arguments)
    return latents, time.perf_counter() - start


def recommended(measured: list[Measured]) -> Measured:
    """The fastest whose score is within `POINTS` of the best."""
    best = max(row.score for row in measured)
    return min(
        (row for row in measured if row.score >= best - POINTS),
        key=lambda row: row.seconds,
    )


def table_lines(measured: list[Measured]) -> list[str]:
    """The default and then all others, the fastest first, in Markdown."""
    default, *others = measured
    lines = [_HEADER, "|---" * _HEADER.count(" | ") + "|---|"]
    for row in (default, *sorted(others, key=lambda row: row.seconds)):
        setting = row.setting
        low, high = setting.interval
        cells = [
            str(setting.steps),
            setting.scheduler,
            f"{setting.guidance:g}",
            "" if setting.guidance == 1 else f"{low:g} to {high:g}",
            str(setting.cache),
            "yes" if setting.distilled else "",
            f"{row.seconds:.3g}",
            f"{default.seconds / row.seconds:.1f}",
            *(f"{row.evaluation.rate(name):.1%}" for name in _SHOWN),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def named(setting: Setting) -> str:
    """A setting in words."""
    words = [f"{setting.steps} steps of {setting.scheduler}"]
    guided = setting.guidance != 1
    words.append(f"guidance {setting.guidance:g}" if guided else "no guidance")
    if setting.interval != (0, 1):
        words[-1] += f" at {setting.interval[0]:g} to {setting.interval[1]:g}"
    words += [f"cache {setting.cache}"] if setting.cache > 1 else []
    words += ["distilled"] if setting.distilled else []
    return ", ".join(words)


def draw(measured: list[Measured], path: str) -> None:
    """Draw scores over seconds a video; hollow points have a cache.

    Args:
        measured: Of `measure`, the default first.
        path: Of the picture.
    """
    from matplotlib import pyplot, ticker

    figure, axis = pyplot.subplots(figsize=(8, 5.2), layout="constrained")
    kinds = list(dict.fromkeys(row.setting.kind for row in measured))
    groups: dict[tuple[str, bool], list[Measured]] = {}
    for row in measured:
        groups.setdefault((row.setting.kind, row.setting.cache > 1), []).append(row)
    for (kind, cached), rows in sorted(groups.items()):
        colour = f"C{kinds.index(kind)}"
        axis.scatter(
            [row.seconds for row in rows],
            [row.score for row in rows],
            label=f"{kind}, cache" if cached else kind,
            edgecolors=colour,
            facecolors="none" if cached else colour,
        )
    axis.axhline(max(row.score for row in measured) - POINTS, color="0.8", zorder=0)
    marks = {"default": measured[0], "recommended": recommended(measured)}
    for shape, (word, row) in zip("sD", marks.items(), strict=True):
        axis.scatter(
            row.seconds,
            row.score,
            170,
            marker=shape,
            facecolors="none",
            edgecolors="black",
            label=f"{word}: {named(row.setting)}",
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    axis.set_xlabel("seconds a video, sampling alone")
    axis.set_ylabel("videos that show all that was asked for, %")
    figure.legend(fontsize=8, loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=110)


def _interval(text: str) -> tuple[float, float]:
    low, high = map(float, text.split(","))
    return low, high


def main() -> None:
    """Measure, print the table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=12, help="prompts of each kind")
    parser.add_argument("--seeds", type=int, default=2, help="videos of each prompt")
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 10, 5])
    parser.add_argument("--schedulers", nargs="+", default=["dpm++2m", "ddim"])
    parser.add_argument(
        "--guidance",
        type=float,
        nargs="+",
        default=[None, 1.0],
        help="the preset's and none, if not given",
    )
    parser.add_argument("--caches", type=int, nargs="+", default=[1, 3])
    parser.add_argument(
        "--intervals",
        type=_interval,
        nargs="+",
        default=[(0.0, 1.0), (0.8, 1.0)],
        metavar="LOW,HIGH",
    )
    parser.add_argument("--distilled-steps", type=int, nargs="+", default=[8, 4, 2, 1])
    parser.add_argument("--out", help="picture to write")
    options = parser.parse_args()
    if options.out is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error("--out needs matplotlib: pip install matplotlib")
    tasks = {
        distilled: TextToVideo.from_preset(DEFAULT_PRESET, few_steps=distilled)
        for distilled in (False, True)
    }
    usual = tasks[False]
    settings = settings_of(
        options, Setting(usual.num_steps, usual.scheduler, float(usual.guidance_scale))
    )
    measured = measure(tasks, settings, options.count, options.seeds)
    print("\n".join(table_lines(measured)))
    fastest = recommended(measured)
    print(
        f"\nThe fastest within {POINTS:g} points of the best: {named(fastest.setting)} "
        f"({fastest.seconds:.3g} s a video, {fastest.score:.1f}%)"
    )
    if options.out is not None:
        draw(measured, options.out)


if __name__ == "__main__":
    main()
