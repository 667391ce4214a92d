from collections import Counter

import numpy as np
import pytest

from keras_makeavid.moving_shapes import Description, draw_scene_of, held_out
from keras_makeavid.moving_shapes.world import SHAPES, draw_scene


def scenes(count, split="train", seed=0):
    rng = np.random.default_rng(seed)
    return [draw_scene(rng, split) for _ in range(count)]


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_a_split_draws_its_own_triples_only(split):
    triples = {scene.triple for scene in scenes(300, split)}
    assert {held_out(triple) for triple in triples} == {split == "held_out"}


def test_every_shape_is_drawn_as_often_as_any_other():
    counts = Counter(scene.shape for scene in scenes(2000))
    assert set(counts) == set(SHAPES)
    assert all(340 < count < 460 for count in counts.values())


def test_half_of_the_backgrounds_are_black():
    counts = Counter(scene.background for scene in scenes(2000))
    assert counts["black"] == pytest.approx(1000, abs=100)
    assert counts["grey"] == pytest.approx(500, abs=80)
    assert counts["brown"] == pytest.approx(500, abs=80)


def test_the_same_generator_draws_the_same_scenes():
    assert scenes(20, seed=4) == scenes(20, seed=4)
    assert scenes(20, seed=4) != scenes(20, seed=5)


def test_scenes_of_one_description_differ_in_all_that_it_leaves_open():
    rng = np.random.default_rng(0)
    star = Description("red", "star", "moving left", "grey")
    one, other = draw_scene_of(star, rng), draw_scene_of(star, rng)
    assert (one.triple, one.background) == (star.triple, "grey")
    for name in ("rgb", "background_rgb", "x", "y", "radius", "amount"):
        assert getattr(one, name) != getattr(other, name)
