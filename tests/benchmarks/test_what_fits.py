"""The table of what fits where, from the plans that are kept in the docs."""

import importlib.util
import json
import shlex
import subprocess
from pathlib import Path

import pytest

from keras_makeavid.planning import roofline

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def what_fits():
    path = ROOT / "benchmarks" / "what_fits.py"
    spec = importlib.util.spec_from_file_location("what_fits", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def plans(what_fits):
    """The kept plans, by the command that made each."""
    folder = DOCS / "plans"
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {plan.pop("command"): plan for plan in found}


@pytest.fixture
def planned(monkeypatch, plans):
    """Answers `makeavid plan` with the kept plan of the same command."""

    def run(words, **options):
        command = shlex.join(["makeavid", *words[3:]])
        assert words[1:3] == ["-m", "keras_makeavid"] and options["check"]
        return subprocess.CompletedProcess(words, 0, json.dumps(plans[command]))

    monkeypatch.setattr(subprocess, "run", run)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_rows_of_the_docs_are_those_of_the_kept_plans(
    what_fits, monkeypatch, capsys
):
    folder = str(DOCS / "plans")
    monkeypatch.setattr("sys.argv", ["what_fits.py", "--from", folder])
    what_fits.main()
    header, _, *rows = capsys.readouterr().out.splitlines()
    text = (DOCS / "what-fits-where.md").read_text().splitlines()
    start = text.index(header) + 2
    for line, row in zip(text[start : start + len(rows)], rows, strict=True):
        shown, printed = cells(line), cells(row)
        if shown[2] == "the same":
            printed[2] = "the same"
        assert shown == printed


def test_a_plan_is_kept_with_its_command(planned, plans, what_fits, tmp_path):
    training, *arguments = what_fits.ROWS[0]
    name = f"{what_fits.kept_name(training, arguments[0])}.json"
    what_fits.planned(*arguments, tmp_path / name)
    assert (tmp_path / name).read_text() == (DOCS / "plans" / name).read_text()


def test_the_published_setting_is_within_the_bar(plans):
    (plan,) = [
        plan
        for plan in plans.values()
        if plan["program"] == "training step" and "scheduled_by" not in plan
    ]
    assert (plan["topology"], plan["chips"], plan["batch_per_chip"]) == ("v4-8", 4, 1)
    assert plan["tflop"] <= 50
    assert plan["gb_moved"] <= 350
    assert plan["temporaries_gib"] <= 14
    assert plan["fits"]


def test_the_roofline_of_the_docs_is_that_of_the_kept_plans():
    names = ("temporal_v4-8", "sampling_v4-8")
    kept = [json.loads((DOCS / "plans" / f"{n}.json").read_text()) for n in names]
    assert (DOCS / "roofline.svg").read_text() == roofline(kept) + "\n"


def test_all_kept_plans_fit(plans):
    assert all(plan["fits"] for plan in plans.values())
