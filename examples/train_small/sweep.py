"""Compare settings of the video recipe by short trainings, one setting at a time.

    python examples/train_small/sweep.py runs/small

Begins with what run.py has made there: the model whose temporal parameters are
trained, and the clips. Each setting trains all of it by sweep.toml, 500 steps, and is
measured on 64 videos whose first frames are those of true clips, so that the temporal
part counts. It can be stopped at any moment: the same command goes on. Prints a table,
and leaves it as sweep/sweep.md.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from keras_makeavid.files import written_aside

HERE = Path(__file__).resolve().parent
MAKEAVID = [sys.executable, "-m", "keras_makeavid"]
RATE = "stage.all.learning_rate.peak"
VARIANTS = {
    "base": None,
    "min_snr": "loss.min_snr_gamma=5.0",
    "no_ema": "optimizer.ema=0.0",
    "low_rate": f"{RATE}=3e-4",
    "high_rate": f"{RATE}=3e-3",
    "no_dropout": "loss.caption_dropout=0.0",
}
MEASURES = ("motion", "shape", "colour")


def commands(name: str, setting: str | None, short: bool) -> dict[str, list]:
    """What trains and what measures one setting, by what it makes."""
    folder = f"sweep/{name}"
    train = [*MAKEAVID, "train", HERE / "sweep.toml", "--resume", "auto"]
    train += ["--set", f"run.folder={folder}"]
    train += ["--set", setting] if setting else []
    if short:
        train += ["--set", "stage.all.length=2 steps", "--set", "data.batch_size=2"]
        train += ["--set", "stage.all.learning_rate.warmup=1 steps"]
    evaluate = [*MAKEAVID, "evaluate", "--preset", f"{folder}/preset", "--hints"]
    evaluate += ["--out", f"{folder}/evaluation", "--count", "1" if short else "16"]
    evaluate += ["--seeds", "1" if short else "2"]
    evaluate += ["--steps", "2"] if short else []
    # What finish.py would give them.
    evaluate += ["--frames", "16", "--guidance", "2"]
    # So short a training reaches none.
    evaluate += ["--no-bar"]
    return {"preset": train, "evaluation/evaluation.html": evaluate}


def row(folder: Path, setting: str | None) -> str:
    """The line of the table of a setting that was measured."""
    found = json.loads((folder / "evaluation/evaluation.json").read_text())["videos"]
    rates = [
        f"{sum(measure not in video['wrong'] for video in found) / len(found):.0%}"
        for measure in MEASURES
    ]
    return f"| {f'`{setting}`' if setting else 'as it is'} | {' | '.join(rates)} |"


def main() -> int:
    """Train and measure what is not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where run.py has made its models")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--short", action="store_true", help="two updates, two videos")
    options = parser.parse_args()
    for needed in ("temporal/preset", "dataset"):
        if not (options.folder / needed).is_dir():
            parser.error(f"{options.folder / needed} is missing: run.py makes it")
    sweep = options.folder / "sweep"
    sweep.mkdir(exist_ok=True)
    for name in options.only:
        for result, command in commands(name, VARIANTS[name], options.short).items():
            if (sweep / name / result).exists():
                continue
            environment = {"KERAS_BACKEND": "torch", **os.environ}
            done = subprocess.run(command, cwd=options.folder, env=environment)
            if done.returncode:
                return done.returncode
    lines = [f"| setting | {' | '.join(MEASURES)} |", "|---|" + "---|" * len(MEASURES)]
    for name, setting in VARIANTS.items():
        if (sweep / name / "evaluation/evaluation.html").exists():
            lines.append(row(sweep / name, setting))
    table = "\n".join(lines)
    with written_aside(sweep / "sweep.md") as aside:
        aside.write_text(table + "\n", encoding="utf-8")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
