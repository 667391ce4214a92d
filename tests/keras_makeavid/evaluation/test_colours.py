import numpy as np
import pytest

from keras_makeavid.data.motions import Description, draw_scene_of
from keras_makeavid.evaluation.colours import name_background, name_colour


def scenes(**words):
    rng = np.random.default_rng(0)
    words = {"colour": "red", "shape": "star", "motion": "growing", **words}
    return [draw_scene_of(Description(**words), rng) for _ in range(50)]


@pytest.mark.parametrize(
    "colour", ["red", "green", "blue", "yellow", "purple", "white"]
)
def test_every_shade_of_a_colour_has_its_name_also_when_it_drifted(colour):
    for scene in scenes(colour=colour):
        rgb = 255 * np.array(scene.rgb)
        for drift in (0, -15, (12, -12, 12)):
            assert name_colour(np.clip(rgb + drift, 0, 255)) == colour


@pytest.mark.parametrize("background", ["black", "grey", "brown"])
def test_every_shade_of_a_background_has_its_name_also_when_it_drifted(background):
    for scene in scenes(background=background):
        rgb = 255 * np.array(scene.background_rgb)
        for drift in (0, -10, 10):
            assert name_background(np.clip(rgb + drift, 0, 255)) == background


@pytest.mark.parametrize("rgb", [(0, 220, 220), (100, 100, 100), (40, 0, 0)])
def test_cyan_grey_and_near_black_are_no_colour_of_an_object(rgb):
    assert name_colour(np.array(rgb)) is None


@pytest.mark.parametrize("rgb", [(250, 250, 250), (60, 60, 200), (40, 120, 40)])
def test_white_and_bright_colours_are_no_background(rgb):
    assert name_background(np.array(rgb)) is None
