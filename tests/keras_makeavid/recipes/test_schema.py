import pytest

from keras_makeavid.recipes import Duration


@pytest.mark.parametrize(
    ("text", "steps"),
    [("2 epochs", 20), ("1 epoch", 10), ("0.5 epochs", 5), ("7 steps", 7)],
)
def test_epochs_and_steps_become_steps(text, steps):
    duration = Duration.parse(text)
    assert duration.steps(steps_per_epoch=10) == steps
    assert str(duration) == text


@pytest.mark.parametrize(
    "text", ["", "2", "epochs", "-1 steps", "1.5 steps", "2 weeks", "1  step", 3, None]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError):
        Duration.parse(text)
