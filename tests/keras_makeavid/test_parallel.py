import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from keras_makeavid.parallel import map_in_order


def end_process(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_results_come_in_order_whatever_the_number_of_workers(num_workers):
    calls = [(2, exponent) for exponent in range(20)]
    results = list(map_in_order(pow, calls, num_workers))
    assert results == [2**exponent for exponent in range(20)]


def test_arguments_are_taken_when_their_turn_comes():
    taken = []

    def calls():
        for number in range(100):
            taken.append(number)
            yield 2, number

    results = map_in_order(pow, calls(), num_workers=1)
    next(results)
    assert len(taken) < 5
    results.close()


def test_an_error_of_a_call_is_raised_where_its_result_is_due():
    results = map_in_order(divmod, [(4, 2), (1, 0)], num_workers=1)
    assert next(results) == (2, 0)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_process_that_was_killed_is_told_with_what_it_worked_at():
    calls = [(number,) for number in range(6)]
    with pytest.raises(RuntimeError, match="worker process was ended at or shortly"):
        list(map_in_order(end_process, calls, num_workers=1))


def sleep(number):
    time.sleep(60)


MAIN = """
import sys
import time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_parallel import sleep
from keras_makeavid.parallel import map_in_order

if __name__ == "__main__":
    list(map_in_order(sleep, [(1,), (2,)], num_workers=2))
"""


def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(MAIN.format(tests=str(Path(__file__).parent)))
    main = psutil.Popen([sys.executable, script])
    deadline = time.monotonic() + 20
    while len(workers := main.children()) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(workers) == 3  # with the one that tracks shared memory
    time.sleep(0.5)
    main.kill()
    main.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
