import pickle

import numpy as np

from keras_makeavid.data.loaders import WindowSampler, _order


def samples(sampler, count):
    return [sampler[i] for i in range(count)]


def test_a_sample_depends_on_the_seed_and_its_number_only():
    one = samples(WindowSampler([5, 9, 1], seed=3), 30)
    assert one == samples(WindowSampler([5, 9, 1], seed=3), 30)
    assert one[17] == WindowSampler([5, 9, 1], seed=3)[17]
    assert one != samples(WindowSampler([5, 9, 1], seed=4), 30)


def test_every_clip_comes_once_in_each_pass_and_in_another_order():
    clips = [clip for clip, _ in samples(WindowSampler([1] * 10), 100)]
    passes = [tuple(clips[i : i + 10]) for i in range(0, 100, 10)]
    assert all(sorted(each) == list(range(10)) for each in passes)
    assert len(set(passes)) == 10


def test_every_window_comes_in_time_and_no_other():
    assert set(samples(WindowSampler([5, 1]), 200)) == {
        *((0, start) for start in range(5)),
        (1, 0),
    }


def test_a_copy_in_another_process_gives_the_same():
    sampler = WindowSampler([5, 9, 1], seed=3)
    copy = pickle.loads(pickle.dumps(sampler))
    assert samples(copy, 9) == samples(sampler, 9)


def test_no_two_draws_are_from_the_same_stream(monkeypatch):
    streams, make = [], np.random.default_rng

    def noted(seed):
        streams.append(tuple(np.random.SeedSequence(seed).generate_state(4)))
        return make(seed)

    monkeypatch.setattr(np.random, "default_rng", noted)
    _order.cache_clear()
    samples(WindowSampler([5, 9, 1]), 9)
    # Three orders and nine windows.
    assert len(streams) == len(set(streams)) == 12
