import numpy as np
import pytest
from keras import ops

from keras_makeavid.text import TextToVideoPreprocessor, parse_weights
from keras_makeavid.text.weighting import weigh


@pytest.mark.once
@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", [("", 1)]),
        ("a cat", [("a cat", 1)]),
        ("a (cat)", [("a ", 1), ("cat", 1.1)]),
        ("a (cat:1.3) here", [("a ", 1), ("cat", 1.3), (" here", 1)]),
        ("[cat]", [("cat", 1 / 1.1)]),
        ("((cat))", [("cat", 1.1**2)]),
        ("([cat])", [("cat", 1)]),
        ("(a [b] c:2)", [("a ", 2), ("b", 2 / 1.1), (" c", 2)]),
        ("(a (b:3))", [("a ", 1.1), ("b", 3.3)]),
        ("(cat: -.5 )", [("cat", -0.5)]),
        ("(cat:0)", [("cat", 0)]),
        # What nothing closes reaches to the end; what nothing opens is text.
        ("(a (b", [("a ", 1.1), ("b", 1.1**2)]),
        ("a [b", [("a ", 1), ("b", 1 / 1.1)]),
        ("a) b] c:2)", [("a) b] c:2)", 1)]),
        # A number belongs to a round bracket, at its end.
        ("[cat:1.3]", [("cat:1.3", 1 / 1.1)]),
        ("(a: b)", [("a: b", 1.1)]),
        ("(cat:1.2.3)", [("cat:1.2.3", 1.1)]),
        (r"a \(cat\) \[dog\] \\", [(r"a (cat) [dog] " + "\\", 1)]),
        (r"(\(cat\):1.5)", [("(cat)", 1.5)]),
        (r"back\slash", [(r"back\slash", 1)]),
        ("(:2)", [("", 1)]),
        ("a:b", [("a:b", 1)]),
        ("a\n(b)", [("a\n", 1), ("b", 1.1)]),
    ],
)
def test_brackets_weigh_as_in_the_usual_interfaces(prompt, expected):
    found = parse_weights(prompt)
    assert [text for text, _ in found] == [text for text, _ in expected]
    np.testing.assert_allclose([w for _, w in found], [w for _, w in expected])


def test_weighted_states_keep_their_mean():
    random = np.random.default_rng(0)
    states = random.normal(0.3, 1, (2, 4, 3)).astype("float32")
    weights = np.array([[1, 1, 1.5, 1], [1, 1, 1, 1]], "float32")
    found = ops.convert_to_numpy(weigh(states, weights))
    expected = states[0] * weights[0][:, None]
    expected *= states[0].mean() / expected.mean()
    np.testing.assert_allclose(found[0], expected, rtol=2e-6)
    np.testing.assert_array_equal(found[1], states[1])


@pytest.fixture
def preprocessor(task):
    """One that takes 10 tokens of a text."""
    return task.preprocessor


@pytest.mark.once
def test_a_weight_is_that_of_each_token_of_its_text(preprocessor):
    ids, weights = preprocessor.tokenize_windows(["a (cat dog:1.5) x"], weighted=True)
    plain = preprocessor.tokenize(["a cat dog x"])
    np.testing.assert_array_equal(ids[:, 0], plain)
    expected = np.ones(12, "float32")
    expected[2:4] = 1.5
    np.testing.assert_array_equal(weights[0, 0], expected)


@pytest.mark.once
def test_a_long_prompt_has_windows_and_the_others_as_many(preprocessor):
    letters = "a b c d e f g h i j k l"
    ids, weights = preprocessor.tokenize_windows([letters, "cat"], long=True)
    assert ids.shape == (2, 2, 12) and (weights == 1).all()
    rows = preprocessor.tokenize(["a b c d e f g h i j", "k l", "cat", ""])
    np.testing.assert_array_equal(ids.reshape(4, 12), rows)


@pytest.mark.once
def test_weights_go_on_in_the_next_window(preprocessor):
    prompt = "a b c d e f g h (i j k:2) l"
    _, weights = preprocessor.tokenize_windows([prompt], weighted=True, long=True)
    assert weights[0].tolist() == [
        [1, *[1] * 8, 2, 2, 1],
        [1, 2, 1, *[1] * 9],
    ]


@pytest.mark.once
def test_without_windows_it_is_cut_with_a_warning(preprocessor):
    with pytest.warns(UserWarning, match="of 12 tokens is cut to 10.*Left out: 'k l'"):
        ids, weights = preprocessor.tokenize_windows(
            ["(a b c d e f g h i j k l:2)"], weighted=True
        )
    assert ids.shape == weights.shape == (1, 1, 12)
    assert weights[0, 0].tolist() == [1, *[2] * 10, 1]


def test_the_task_weighs_prompts_only_if_asked(task):
    plain = ops.convert_to_numpy(task.encode_prompts(["a cat dog"]))
    weighted = task.encode_prompts(["a (cat:1.5) dog"], prompt_weighting=True)
    weights = np.ones((1, 12), "float32")
    weights[0, 2] = 1.5
    np.testing.assert_allclose(
        ops.convert_to_numpy(weighted),
        ops.convert_to_numpy(weigh(plain, weights)),
        atol=1e-6,
    )
    unasked = ops.convert_to_numpy(task.encode_prompts(["a cat dog"]))
    np.testing.assert_array_equal(unasked, plain)


def test_the_task_concatenates_the_windows_of_long_prompts(task):
    long, short = "a b c d e f g h i j k l", "cat"
    found = task.encode_prompts([long, short], long_prompts=True)
    parts = task.encode_prompts(["a b c d e f g h i j", "k l", "cat", ""])
    expected = ops.convert_to_numpy(parts).reshape(2, 24, 16)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=1e-6)


@pytest.mark.once
def test_videos_of_weighted_and_long_prompts_differ(task, hint):
    def generate(prompt, **options):
        return task.generate(
            prompt,
            negative_prompts="dog",
            hint_image=hint,
            num_frames=2,
            num_steps=1,
            seed=0,
            **options,
        )

    prompt = "a b c d e f g h i j (cat:3)"
    with pytest.warns(UserWarning, match="is cut to 10"):
        plain = generate(prompt.replace("(", "").replace(":3)", ""))
    long = generate(prompt, prompt_weighting=True, long_prompts=True)
    assert plain.shape == long.shape and (plain != long).any()


@pytest.mark.once
def test_the_preprocessor_alone_is_enough():
    preprocessor = TextToVideoPreprocessor(
        {"a</w>": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}, [], sequence_length=4
    )
    ids, _ = preprocessor.tokenize_windows(["a a a"], long=True)
    assert ids.tolist() == [[[1, 0, 0, 2], [1, 0, 2, 2]]]
