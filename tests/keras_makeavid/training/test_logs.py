import dataclasses
import io
import json

import pytest

from keras_makeavid.training import read_metrics
from keras_makeavid.training.logs import ConsoleLog, MetricsFile, StepLog


def log(step, loss=0.5):
    return StepLog(
        step=step,
        stage="only",
        epoch=1,
        loss=loss,
        lr=1e-3,
        grad_norm=1.0,
        skipped=False,
        skipped_total=0,
        rollbacks=0,
        data_step=step - 1,
    )


@pytest.fixture
def metrics(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        metrics.write(log(step))
    yield metrics
    metrics.close()


def steps(metrics):
    return [line["step"] for line in read_metrics(metrics.path)]


def test_a_line_is_in_the_file_when_it_is_written(metrics):
    assert steps(metrics) == [1, 2, 3]
    assert list(read_metrics(metrics.path))[0]["loss"] == 0.5


def test_a_continued_file_has_each_step_once(metrics):
    metrics.cut_after(2)
    metrics.write(log(3))
    assert steps(metrics) == [1, 2, 3]


def test_a_line_that_a_kill_left_unfinished_is_dropped(metrics):
    with metrics.path.open("ab") as file:
        file.write(b'{"step": 4, "los')
    assert steps(metrics) == [1, 2, 3]
    again = MetricsFile(metrics.path)
    again.cut_after(4)
    again.write(log(4))
    assert steps(again) == [1, 2, 3, 4]
    again.close()


def test_what_is_not_finite_is_null(metrics):
    metrics.write(log(4, loss=float("nan")))
    line = metrics.path.read_text().splitlines()[-1]
    assert json.loads(line, parse_constant=pytest.fail)["loss"] is None


@pytest.mark.parametrize("line", ['{"step": 4, "los', "[4]", '{"step": null}'])
def test_a_damaged_line_is_told_with_the_file_s_name(metrics, line):
    with metrics.path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ValueError, match="metrics.jsonl"):
        metrics.cut_after(4)
    with pytest.raises(ValueError, match="metrics.jsonl"):
        steps(metrics)


def test_last_lines(metrics):
    assert [line["step"] for line in metrics.last(2)] == [2, 3]


def test_lines_that_wait_for_room_stay_when_the_run_goes_on(small_disk, fill_disk):
    said = []
    metrics = MetricsFile(small_disk / "metrics.jsonl", said.append)
    metrics.write(log(1))
    filler = small_disk / "filler"
    fill_disk(filler)
    for step in range(2, 100):
        metrics.write(log(step))
    assert len(said) == 1
    assert steps(metrics)[-1] < 98
    metrics.cut_after(97)
    assert metrics.last(1)[0]["step"] == 97
    filler.unlink()
    metrics.write(log(98))
    assert steps(metrics) == list(range(1, 99))
    metrics.close()


def of_warm(step, skipped_total=0):
    return dataclasses.replace(
        log(step, loss=0.51234), stage="warm", epoch=2, skipped_total=skipped_total
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_it_is_a_bar_with_the_loss(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    console = ConsoleLog(total=10)
    console.go_on_at(4)
    for step in range(5, 11):
        console.step(of_warm(step, skipped_total=1))
    console.message("something happened")
    console.close()
    shown = terminal.getvalue()
    assert "10/10" in shown
    assert "warm epoch 2, loss 0.5123, lr 1.00e-03, 1 skipped" in shown
    assert "something happened\n" in shown


def test_elsewhere_it_is_a_line_now_and_then_and_at_the_end(capsys):
    console = ConsoleLog(total=10)
    for step in range(1, 11):
        console.step(of_warm(step), last=step == 10)
    console.close()
    out, error = capsys.readouterr()
    assert out.splitlines() == [
        "step 1/10: warm epoch 2, loss 0.5123, lr 1.00e-03",
        "step 10/10: warm epoch 2, loss 0.5123, lr 1.00e-03",
    ]
    assert error == ""
