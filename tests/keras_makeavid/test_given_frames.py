"""Patterns of given frames, and the mask and hint that they make."""

import numpy as np
import pytest
from conftest import tiny_unet
from keras import ops

from keras_makeavid.given_frames import GivenFrames
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.training import VideoDiffusion
from keras_makeavid.training.video_diffusion import nearest_given

FRAMES = 8
UNET = tiny_unet()


def conditions(shares, batch=3, frames=FRAMES, seed=0):
    """Mask and hint, and which frame each hint is; -1 is zeros."""
    # Frame f of sample b is full of the number 10 b + f + 1.
    numbers = 10.0 * np.arange(batch)[:, None] + np.arange(frames) + 1
    latents = np.broadcast_to(numbers[:, :, None, None, None], (batch, frames, 2, 3, 4))
    model = VideoDiffusion(
        UNET,
        schedule=NoiseSchedule(),
        latent_scale=1.0,
        given_frames=shares,
        seed=seed,
    )
    text = np.zeros((batch, 3, 16), "float32")
    inputs, _ = model.draw(ops.convert_to_tensor(latents, "float32"), text)
    _, mask, hint = np.split(ops.convert_to_numpy(inputs["sample"]), [4, 5], axis=-1)
    assert mask.shape == (batch, frames, 2, 3, 1) and hint.shape == latents.shape
    assert mask.dtype == hint.dtype == "float32"
    # The same everywhere in a frame.
    assert (np.ptp(mask, axis=(2, 3, 4)) == 0).all()
    assert (np.ptp(hint, axis=(2, 3, 4)) == 0).all()
    shown = hint[:, :, 0, 0, 0]
    own = shown - 1 - 10 * np.arange(batch)[:, None]
    return mask[:, :, 0, 0, 0], np.where(shown == 0, -1, own).astype(int)


@pytest.mark.parametrize(
    ("pattern", "given", "sources"),
    [
        ("first", [0], [0] * 8),
        ("first 3", [0, 1, 2], [0, 1, 2, 2, 2, 2, 2, 2]),
        ("first 20", range(8), range(8)),
        ("ends", [0, 7], [0, 0, 0, 0, 7, 7, 7, 7]),
        # Of two that are as near, the earlier.
        ("every 4", [0, 4], [0, 0, 0, 4, 4, 4, 4, 4]),
        ("every 3", [0, 3, 6], [0, 0, 3, 3, 3, 6, 6, 6]),
        ("none", [], [-1] * 8),
        ("repeated", range(8), [0] * 8),
        ("repeated every 3", range(8), [0, 0, 0, 3, 3, 3, 6, 6]),
    ],
)
def test_a_pattern_gives_its_frames_and_the_others_the_nearest_of_them(
    pattern, given, sources
):
    mask, shown = conditions({pattern: 1})
    expected = np.ones(FRAMES)
    expected[list(given)] = 0
    np.testing.assert_array_equal(mask, np.broadcast_to(expected, mask.shape))
    np.testing.assert_array_equal(shown, np.broadcast_to(sources, shown.shape))


def test_random_subsets_differ_and_fill_up_from_the_nearest():
    mask, shown = conditions({"random": 1}, batch=64)
    given = mask == 0
    assert len({row.tobytes() for row in given}) > 20
    # Shares of given frames are uniform: about half in all.
    assert 0.35 < given.mean() < 0.65
    for row, sources in zip(given, shown, strict=True):
        places = np.flatnonzero(row)
        for frame, source in enumerate(sources):
            if not len(places):
                assert source == -1
            else:
                nearest = np.abs(places - frame)
                assert source == places[nearest.argmin()]


def test_a_mixture_draws_each_pattern_by_its_share():
    shares = {"first": 3, "ends": 1, "repeated": 2, "none": 2}
    mask, shown = conditions(shares, batch=800)
    assert set(shown[(mask == 0).sum(1) == 1].ravel()) == {0}
    counts = {
        "first": ((mask == 0).sum(1) == 1).sum(),
        "ends": ((mask == 0).sum(1) == 2).sum(),
        "repeated": ((mask == 0).all(1) & (shown == 0).all(1)).sum(),
        "none": ((mask == 1).all(1) & (shown == -1).all(1)).sum(),
    }
    assert sum(counts.values()) == 800
    for pattern, share in shares.items():
        # Within four standard deviations.
        assert abs(counts[pattern] - 100 * share) < 60, pattern
    other = conditions(shares, batch=800, seed=1)
    assert not np.array_equal(other[0], mask)


def test_only_repeated_patterns_do_without_the_mask():
    assert not GivenFrames({"repeated": 1, "repeated every 4": 2}).masked
    assert GivenFrames({"repeated": 1, "first": 0.1}).masked


@pytest.mark.parametrize(
    "shares",
    [
        *({}, None, [], "first", {"frist": 1}, {"every": 1}, {"every 0": 1}),
        *({"first 0": 1}, {"first": 0}, {"first": -1}, {"first": float("nan")}),
        *({"first": float("inf")}, {"first": True}, {"first": "1"}, {3: 1}),
        {"repeated every": 1},
    ],
)
def test_other_mixtures_are_refused(shares):
    with pytest.raises(ValueError, match="given_frames must be a table of positive"):
        GivenFrames(shares)


def test_the_nearest_of_no_given_frames_is_some_frame():
    found = ops.convert_to_numpy(nearest_given(ops.zeros((2, 5), "bool")))
    assert found.shape == (2, 5) and (found >= 0).all() and (found < 5).all()
