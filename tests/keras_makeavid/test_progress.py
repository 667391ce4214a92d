import io
import re
from contextlib import redirect_stderr

from keras_makeavid.progress import progress_bar, step_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal_shows_what_is_done_the_rate_and_the_time_left():
    with (
        redirect_stderr(Terminal()) as terminal,
        progress_bar(4, "encode", unit="clip") as bar,
    ):
        bar.update(1)
    assert re.search(
        r"encode: +25%.*\| 1/4 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+(clip/s|s/clip)\]",
        terminal.getvalue(),
    )


def test_a_bar_writes_nothing_where_standard_error_is_no_terminal(capsys):
    with progress_bar(4, "encode", unit="clip") as bar:
        bar.update(4)
    assert capsys.readouterr() == ("", "")


def test_steps_are_reported_to_a_function_with_their_total():
    reports = []
    with step_progress(lambda *report: reports.append(report), 3) as report:
        for step in (1, 2, 3):
            report(step)
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_steps_are_shown_as_a_bar_on_a_terminal():
    with redirect_stderr(Terminal()) as terminal, step_progress(True, 20) as report:
        report(5)
        report(20)
    assert "| 20/20 [" in terminal.getvalue()


def test_without_a_terminal_there_is_no_bar_to_report_to():
    with redirect_stderr(io.StringIO()), step_progress(True, 3) as report:
        assert report is None


def test_without_progress_there_is_nothing_to_report_to():
    with step_progress(False, 3) as report:
        assert report is None
