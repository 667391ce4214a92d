import numpy as np
import pytest
from keras import ops

from keras_makeavid.schedulers import (
    DDIM,
    DPMSolverPlusPlus,
    NoiseSchedule,
    SamplerState,
    StepRow,
    StepTable,
    step,
)
from keras_makeavid.schedulers.registry import SCHEDULERS


def table_of(**columns):
    numbers = dict.fromkeys(StepRow._fields[1:], 0.0) | columns
    return StepTable(timesteps=np.array([2, 1]), initial_sigma=1.0, **numbers)


def test_columns_are_float32_and_a_number_fills_its_column():
    table = table_of(input_scale=0.5, next_from_sample=np.array([0.25, 0.125]))
    for field in ("timesteps", *StepRow._fields[1:]):
        assert getattr(table, field).dtype == np.float32
        assert getattr(table, field).shape == (2,)
    np.testing.assert_array_equal(table.input_scale, [0.5, 0.5])


def test_row_reads_back_what_as_array_wrote():
    table = DPMSolverPlusPlus().table(5)
    array = table.as_array()
    assert array.shape == (5, len(StepRow._fields)) and array.dtype == np.float32
    for i in range(5):
        row = StepTable.row(array[i])
        assert row.timestep == table.timesteps[i]
        for field in StepRow._fields[1:]:
            assert getattr(row, field) == getattr(table, field)[i]


def test_step_applies_each_coefficient_to_its_own_term():
    row = StepRow(10.0, 1.0, 2.0, 3.0, 5.0, 7.0, 11.0, 17.0, 19.0, 23.0)
    sample, corrected, prediction, previous, noise = np.eye(5, dtype="float32")
    state = SamplerState(sample, corrected, previous)
    after = step(row, state, prediction, noise)
    np.testing.assert_array_equal(after.previous_denoised, [2, 0, 3, 0, 0])
    np.testing.assert_array_equal(after.sample, [7 * 2, 5, 7 * 3, 11, 17])
    correction = [19 * 2, 0, 19 * 3, 23, 0]
    np.testing.assert_array_equal(after.corrected - after.sample, correction)


def test_step_without_noise_leaves_its_term_out():
    row = StepRow(10.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 13.0, 0.0, 0.0)
    ones = np.ones(3, "float32")
    state = step(row, SamplerState.start(ones), ones)
    np.testing.assert_array_equal(state.sample, ones)


def test_only_unipc_corrects_the_sample_that_it_starts_from():
    for name, sampler in SCHEDULERS.items():
        table = sampler(NoiseSchedule()).table(6)
        assert np.any(table.corrected_from_denoised) == (name == "unipc")


@pytest.mark.parametrize("convert", [np.asarray, ops.convert_to_tensor])
@pytest.mark.parametrize("number", [float, np.float32, ops.convert_to_tensor])
def test_step_keeps_float32_whatever_the_scalars_are(convert, number):
    if convert is np.asarray and number is ops.convert_to_tensor:
        number = np.asarray
    row = StepRow(*(number(np.float32(value)) for value in range(10)))
    x = convert(np.ones((2, 3), "float32"))
    for result in step(row, SamplerState.start(x), x, x):
        assert type(result) is type(x)
        assert result.dtype == x.dtype


def test_needs_noise_tells_whether_a_step_takes_any():
    assert DDIM(eta=0.1).table(5).needs_noise
    assert not DDIM().table(5).needs_noise
    assert not DPMSolverPlusPlus().table(5).needs_noise
