import keras
import numpy as np
import pytest
import torch
from keras import ops

from keras_makeavid.training import AdamW, WarmupSchedule

NOT_FINITE = [np.nan, np.inf, -np.inf]


class Steps:
    """An optimizer on two variables, fed with arrays."""

    def __init__(self, **options):
        rng = np.random.default_rng(0)
        self.variables = [
            keras.Variable(rng.standard_normal(shape).astype("float32"))
            for shape in ((3, 2), (4,))
        ]
        self.optimizer = AdamW(**{"learning_rate": 1e-2, **options})
        self.optimizer.build(self.variables)

    def apply(self, *gradients):
        gradients = [ops.convert_to_tensor(gradient) for gradient in gradients]
        if keras.config.backend() == "torch":
            with torch.no_grad():
                self.optimizer.apply(gradients, self.variables)
        else:
            self.optimizer.apply(gradients, self.variables)

    def weights(self):
        return [np.array(ops.convert_to_numpy(v)) for v in self.variables]

    def state(self):
        """All but what counts and tells of steps."""
        told = {"iteration", "skipped_steps", "last_gradient_norm"}
        told.add("last_learning_rate")
        return [
            np.array(ops.convert_to_numpy(v))
            for v in (*self.variables, *self.optimizer.variables)
            if v.name not in told
        ]


def gradients(seed):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype("float32") for s in ((3, 2), (4,))]


def with_bad_value(seed, value):
    first, second = gradients(seed)
    second[1] = value
    return first, second


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_five_steps_are_those_of_pytorch_for_gradients_of_every_size():
    rng = np.random.default_rng(0)
    start = rng.standard_normal(64).astype("float32")
    scales = np.logspace(-10, 2, 64)
    steps = [(rng.standard_normal(64) * scales).astype("float32") for _ in range(5)]

    peer = torch.nn.Parameter(torch.tensor(start))
    peer_optimizer = torch.optim.AdamW([peer], lr=1e-2, eps=1e-8, weight_decay=0.02)
    ours = keras.Variable(start)
    optimizer = AdamW(learning_rate=1e-2, global_clipnorm=None)
    for gradient in steps:
        peer.grad = torch.tensor(gradient)
        peer_optimizer.step()
        with torch.no_grad():
            optimizer.apply([ops.convert_to_tensor(gradient)], [ours])
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours), peer.detach().numpy(), atol=1e-6
    )


@pytest.mark.skipif(keras.config.backend() != "torch", reason="PyTorch's own path")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_ema": True, "ema_momentum": 0.9},
        {"weight_decay": 0.0, "global_clipnorm": None},
        {"gradient_accumulation_steps": 2, "use_ema": True},
    ],
)
def test_all_variables_together_are_updated_as_one_after_the_other(
    options, monkeypatch
):
    def states():
        steps = Steps(**options)
        steps.optimizer.exclude_from_weight_decay([steps.variables[1]])
        for seed in range(6):
            steps.apply(*gradients(seed))
            steps.apply(*with_bad_value(seed, np.nan))
        return steps.state()

    together = states()
    monkeypatch.setattr(AdamW, "_are_quicker_together", lambda *arguments: False)
    for found, expected in zip(together, states(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


def test_gradients_are_clipped_by_their_norm_together():
    first, second = gradients(0)
    norm = np.sqrt((first**2).sum() + (second**2).sum())
    large, clipped = Steps(), Steps(global_clipnorm=None)
    for scale in (10.0, 1e-3):
        # The second is below the limit, and stays as it is.
        large.apply(first * scale, second * scale)
        limited = scale * min(1.0, 1.0 / (norm * scale))
        clipped.apply(first * limited, second * limited)
    for one, other in zip(large.weights(), clipped.weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("value", NOT_FINITE)
def test_a_gradient_that_is_not_finite_changes_only_the_count_of_steps(value):
    steps = Steps(use_ema=True)
    steps.apply(*gradients(0))
    before = steps.state()
    steps.apply(*with_bad_value(1, value))
    assert_equal(steps.state(), before)
    assert int(steps.optimizer.iterations) == 2
    assert int(steps.optimizer.skipped_steps) == 1
    assert not np.isfinite(float(steps.optimizer.last_gradient_norm))


def test_after_a_skipped_step_it_goes_on_as_if_there_had_been_none():
    skipping, clean = Steps(use_ema=True), Steps(use_ema=True)
    for seed in range(4):
        skipping.apply(*gradients(seed))
        skipping.apply(*with_bad_value(seed, np.nan))
        clean.apply(*gradients(seed))
    assert_equal(skipping.state(), clean.state())


def test_accumulated_parts_update_as_their_mean_does():
    parts = Steps(gradient_accumulation_steps=3, global_clipnorm=None, use_ema=True)
    whole = Steps(global_clipnorm=None, use_ema=True)
    for update in range(2):
        batches = [gradients(3 * update + part) for part in range(3)]
        before = parts.weights()
        for batch in batches[:2]:
            parts.apply(*batch)
            assert_equal(parts.weights(), before)
        parts.apply(*batches[2])
        whole.apply(*(np.mean(g, axis=0) for g in zip(*batches, strict=True)))
    for one, other in zip(parts.weights(), whole.weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    with parts.optimizer.averaged_weights(), whole.optimizer.averaged_weights():
        for one, other in zip(parts.weights(), whole.weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_part_is_left_out_of_the_mean(place):
    parts = Steps(gradient_accumulation_steps=3, global_clipnorm=None)
    whole = Steps(global_clipnorm=None)
    batches = [gradients(0), gradients(1)]
    whole.apply(*(np.mean(g, axis=0) for g in zip(*batches, strict=True)))
    batches.insert(place, with_bad_value(2, np.nan))
    for batch in batches:
        parts.apply(*batch)
    for one, other in zip(parts.weights(), whole.weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert int(parts.optimizer.skipped_steps) == 1
    assert int(parts.optimizer.updates) == 1


def test_parts_that_are_all_bad_make_no_update():
    steps = Steps(gradient_accumulation_steps=2)
    before = steps.state()
    for seed in range(2):
        steps.apply(*with_bad_value(seed, np.inf))
    assert_equal(steps.state(), before)


def test_the_average_follows_the_weights_and_shows_only_when_asked():
    steps = Steps(use_ema=True, ema_momentum=0.75, learning_rate=0.5)
    average = steps.weights()
    for update in range(1, 8):
        steps.apply(*gradients(update))
        momentum = min(0.75, update / (update + 9))
        average = [
            momentum * old + (1 - momentum) * new
            for old, new in zip(average, steps.weights(), strict=True)
        ]
    weights = steps.weights()
    with steps.optimizer.averaged_weights():
        for one, other in zip(steps.weights(), average, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)
    assert_equal(steps.weights(), weights)
    # What Keras calls when `fit` ends.
    steps.optimizer.finalize_variable_values(steps.variables)
    assert_equal(steps.weights(), weights)


def test_the_learning_rate_scale_scales_the_rate_of_a_schedule():
    def schedule(step):
        return 1e-2 * (ops.cast(step, "float32") + 1)

    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return schedule(step)

    steps = Steps(learning_rate=Schedule())
    steps.apply(*gradients(0))
    steps.optimizer.learning_rate_scale.assign(0.5)
    steps.apply(*gradients(1))
    np.testing.assert_allclose(float(steps.optimizer.last_learning_rate), 1e-2)


def test_the_defaults_are_the_published_ones():
    config = AdamW().get_config()
    assert np.isclose(config["learning_rate"], 5e-5)
    assert (config["weight_decay"], config["global_clipnorm"]) == (0.02, 1.0)
    assert (config["beta_1"], config["beta_2"]) == (0.9, 0.999)
    assert config["epsilon"] == 1e-8


def test_config_round_trip():
    optimizer = AdamW(
        learning_rate=1e-3,
        weight_decay=0.1,
        global_clipnorm=None,
        use_ema=True,
        gradient_accumulation_steps=2,
    )
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, AdamW)
    assert again.get_config() == optimizer.get_config()


@pytest.mark.parametrize("option", ["amsgrad", "ema_overwrite_frequency"])
def test_options_of_keras_that_it_does_not_have_are_refused(option):
    with pytest.raises(ValueError, match=option):
        AdamW(**{option: True})


def rates(schedule, steps):
    return np.array([float(schedule(step)) for step in steps])


def test_the_warm_up_is_linear_and_ends_at_the_peak():
    schedule = WarmupSchedule(5e-5, warmup_steps=4)
    expected = [1.25e-5, 2.5e-5, 3.75e-5, 5e-5, 5e-5, 5e-5]
    np.testing.assert_allclose(rates(schedule, range(6)), expected, rtol=1e-6)


def test_a_cosine_ends_at_its_final_rate_and_is_half_way_in_its_middle():
    schedule = WarmupSchedule(1e-3, 10, "cosine", total_steps=110, final=1e-5)
    found = rates(schedule, [9, 59, 109, 200])
    np.testing.assert_allclose(found, [1e-3, 5.05e-4, 1e-5, 1e-5], rtol=1e-5)
    assert (np.diff(rates(schedule, range(10, 110, 9))) < 0).all()


def test_without_warm_up_it_begins_at_the_peak():
    np.testing.assert_allclose(rates(WarmupSchedule(1e-3), [0, 7]), 1e-3, rtol=1e-6)


@pytest.mark.parametrize(
    "arguments", [{"decay": "linear"}, {"decay": "cosine"}, {"warmup_steps": 5}]
)
def test_a_schedule_that_has_no_meaning_is_refused(arguments):
    arguments = {"decay": "cosine", "total_steps": 5, **arguments}
    if arguments["decay"] == "cosine" and "warmup_steps" not in arguments:
        del arguments["total_steps"]
    with pytest.raises(ValueError, match="Received"):
        WarmupSchedule(1e-3, **arguments)


def test_config_round_trip_of_a_schedule():
    schedule = WarmupSchedule(1e-3, 10, "cosine", total_steps=110, final=1e-5)
    schedules = keras.optimizers.schedules
    again = schedules.deserialize(schedules.serialize(schedule))
    assert again.get_config() == schedule.get_config()
