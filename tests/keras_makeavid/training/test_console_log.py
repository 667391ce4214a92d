import io

from keras_makeavid.training.logs import ConsoleLog, StepLog


def log(step, skipped_total=0):
    return StepLog(
        step=step,
        stage="warm",
        epoch=2,
        loss=0.51234,
        lr=1e-3,
        grad_norm=1.0,
        skipped=False,
        skipped_total=skipped_total,
        rollbacks=0,
        data_step=step - 1,
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
        console.step(log(step, skipped_total=1))
    console.message("something happened")
    console.close()
    shown = terminal.getvalue()
    assert "10/10" in shown
    assert "warm epoch 2, loss 0.5123, lr 1.00e-03, 1 skipped" in shown
    assert "something happened\n" in shown


def test_elsewhere_it_is_a_line_now_and_then_and_at_the_end(capsys):
    console = ConsoleLog(total=10)
    for step in range(1, 11):
        console.step(log(step), last=step == 10)
    console.close()
    out, error = capsys.readouterr()
    assert out.splitlines() == [
        "step 1/10: warm epoch 2, loss 0.5123, lr 1.00e-03",
        "step 10/10: warm epoch 2, loss 0.5123, lr 1.00e-03",
    ]
    assert error == ""
