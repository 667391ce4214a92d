import os
import signal
import sys

import pytest

from keras_makeavid.data.parallel import map_in_order


def modules_of_worker(number):
    """What a process that maps has imported."""
    return number, os.getpid(), sorted(sys.modules)


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
