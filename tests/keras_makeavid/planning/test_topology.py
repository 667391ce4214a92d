import pytest

from keras_makeavid.planning import find_topology


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("v4-8", (2, 2, 1)),
        ("v4-16", (2, 2, 2)),
        ("v4-32", (2, 2, 4)),
        ("v4-512", (4, 8, 8)),
        ("v5p-32", (2, 2, 4)),
        ("v5p-4096", (8, 16, 16)),
        ("v5e-1", (1, 1)),
        ("v5e-8", (2, 4)),
        ("v5litepod-16", (4, 4)),
        ("v6e-256", (16, 16)),
    ],
)
def test_a_slice_has_the_shape_of_its_name(name, shape):
    assert find_topology(name).shape == shape


@pytest.mark.parametrize(
    "name",
    [
        "v4",
        "v3-8",
        "v4-7",
        "v5e-2",
        "v4-4",
        "v4-48",
        "v4-384",
        "v4-8320",
        "v6e-48",
        "v6e-512",
        "",
    ],
)
def test_other_names_are_refused_with_those_that_there_are(name):
    with pytest.raises(ValueError, match=r"v4|slices of \d"):
        find_topology(name)
