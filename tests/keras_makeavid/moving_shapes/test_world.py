from collections import Counter

import pytest

from keras_makeavid.moving_shapes import Description, held_out
from keras_makeavid.moving_shapes.world import (
    COLOURS,
    MOTIONS,
    SHAPES,
    all_triples,
    motions_of,
    triples_of,
)


def test_only_a_dancer_dances_and_a_circle_does_not_spin():
    assert motions_of("dancer") == ("jumping", "waving", "swaying")
    assert "spinning" in motions_of("star")
    assert "spinning" not in motions_of("circle")
    for shape in SHAPES[:-1]:
        assert set(motions_of(shape)).isdisjoint(motions_of("dancer"))


def test_one_triple_in_five_is_held_out_always_the_same():
    share = len(triples_of("held_out")) / len(all_triples())
    assert 0.19 < share < 0.21
    assert sorted(triples_of("train") + triples_of("held_out")) == sorted(all_triples())
    assert held_out(("red", "square", "moving left"))
    assert not held_out(("red", "star", "moving left"))


@pytest.mark.parametrize("place, names", [(0, COLOURS), (1, SHAPES), (2, MOTIONS)])
def test_about_as_many_are_held_out_of_every_colour_shape_and_motion(place, names):
    whole, kept = (
        Counter(triple[place] for triple in triples)
        for triples in (all_triples(), triples_of("held_out"))
    )
    assert set(whole) == set(names)
    for name in names:
        assert 0.15 < kept[name] / whole[name] < 0.25


def test_training_shows_every_shape_in_every_colour_and_in_every_motion():
    seen = triples_of("train")
    colours = {(colour, shape) for colour, shape, _ in seen}
    motions = {(shape, motion) for _, shape, motion in seen}
    assert len(colours) == len(COLOURS) * len(SHAPES)
    assert len(motions) == sum(len(motions_of(shape)) for shape in SHAPES)


@pytest.mark.parametrize(
    "words, message",
    [
        (("pink", "star", "growing"), "colour must be one of .*red.*Received: 'pink'"),
        (("red", "cube", "growing"), "shape must be one of .*circle.*'cube'"),
        (("red", "circle", "spinning"), "motion of a circle must be .*'spinning'"),
        (("red", "star", "growing", "blue"), "background must be one of .*'blue'"),
    ],
)
def test_what_is_not_of_this_world_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        Description(*words)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split must be one of .*train.*held_out"):
        triples_of("test")
