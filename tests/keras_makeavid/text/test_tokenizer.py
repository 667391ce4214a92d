import json
import unicodedata

import instant_clip_tokenizer
import keras
import keras_hub
import numpy as np
import pytest
from transformers import AddedToken, CLIPTokenizer

from keras_makeavid.text import TextToVideoPreprocessor
from keras_makeavid.text.vocabulary import END_TOKEN, START_TOKEN, Vocabulary

END = 49407
# Some texts here are longer than the rows that they are cut to.

FRAGMENTS = [
    "a photo of a cat",
    "A person riding a motorcycle",
    "AERIAL VIEW OF THE BEACH, 4K",
    "Hello, world!!! (really?) -- yes; no: #1 @home",
    "100% cotton, $5.00 & 3€ * 2 = ~6£ ^_^ {a} [b] | c \\ d / e",
    "snake_case, well-known state-of-the-art, a.b.c...",
    "https://www.example.com/a?b=c&d=e#f",
    "it's, don't, they're, I've, I'm, we'll, he'd",
    "IT'S, DON'T, THEY'RE, I'VE, I'M, WE'LL, HE'D",
    "rock'n'roll at 5 o'clock, 'tis the dogs' day",
    "it’s “quoted” – with a dash — and so on…",
    "«guillemets» ‹single› „low“ ‚comma‘ ¿qué? ¡no!",
    "Café à la crème brûlée, naïve façade",
    "Ångström, Ñandú, Zürich, Łódź, Čeština, İstanbul",
    "STRASSE, Straße, ẞ, ﬁre ﬂow, Ǆ ǅ ǆ",
    "Tiếng Việt: một con mèo đang ngủ",
    "ΟΔΟΣ ΟΔΥΣΣΕΩΣ, Ελλάδα, ἀρχή, ΣΑΣ.",
    "Привет, мир! Ёжик в тумане",
    "مرحبا بالعالم، كيف الحال؟",
    "שלום עולם",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "一只猫在桌子上，很可爱。",
    "日本語のテスト：ｶﾀｶﾅとひらがな",
    "한국어 텍스트",
    "a dog 🐶 on a beach 🏖️ at sunset 🌅🌅🌅",
    "👨‍👩‍👧‍👦 a family, 👩🏽‍🚀 an astronaut, 🏴‍☠️ a pirate flag",
    "👍🏽 🇫🇷🇩🇪 ❤️‍🔥 ☃ ☃️ 1️⃣ #️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "cats &amp; dogs &lt;b&gt; &quot;x&quot; &#39; &amp;amp; <br/>",
    "2023, 1,000,000, 3.14, ½, x², ①, Ⅳ, ٣, 12:30pm, 24fps",
    "two  spaces\tand a tab   ",
    "\n a new line\r\nand another \x0b one",
    "no\u00a0break, ideographic\u3000space, thin\u2009space, zero\u200bwidth",
    "soft\u00adhyphen, bom\ufeff, control\x00\x07\x7f",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚, ＦＵＬＬ ｗｉｄｔｈ！, ㎏ ™ © ®",
    "→ ← ∑ √ ∞ ≠ ≤ ♥ ★ ✓ █ ░",
    "pneumonoultramicroscopicsilicovolcanoconiosis qzxwvkjqzxwv",
    "<start> <|x|> <> </w> a</w> ĠĊ",
    "",
    "   ",
]
TINY_TOKENS = ["!", "a", "a</w>", "b</w>", "ab</w>", START_TOKEN, END_TOKEN]
TINY_VOCABULARY = ({token: i for i, token in enumerate(TINY_TOKENS)}, ["a b</w>"])

OVERLONG = [
    "word " * 200,
    "photograph of an astronaut, " * 40,
    "x" * 3000,
    "🐶" * 120,
    "é! " * 80,
    "漢字" * 60,
]
LENGTHS_AROUND_THE_LIMIT = [" ".join(["cat"] * n) for n in (1, 74, 75, 76, 77)]
CAPTIONS = [
    *FRAGMENTS,
    *OVERLONG,
    *LENGTHS_AROUND_THE_LIMIT,
    *(
        f"{first}{glue}{FRAGMENTS[(7 * i + 3 * j + 1) % len(FRAGMENTS)]}"
        for i, first in enumerate(FRAGMENTS)
        for j, glue in enumerate((" ", ", ", "", ". ", "'s ", " - ", "\n", "'"))
    ),
]


def instant_ids(captions):
    """What instant-clip-tokenizer gives, its zeros after the end made end tokens."""
    ids = instant_clip_tokenizer.Tokenizer().tokenize_batch(captions).astype("int32")
    ended = np.cumsum(ids == END, axis=1) > 0
    return np.where(ended, END, ids)


def save_tokenizer(folder, vocabulary, **config):
    """Write a tokenizer folder as Stable Diffusion 1.5's repository has it."""
    folder.mkdir(parents=True)
    Vocabulary(*vocabulary).save(folder)
    special = {"bos_token": START_TOKEN, "eos_token": END_TOKEN, "unk_token": END_TOKEN}
    content = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", **special}
    content = {**content, "pad_token": END_TOKEN, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))


def test_ids_equal_instant_clip_tokenizers_on_every_caption(preprocessor):
    assert len(CAPTIONS) > 300
    assert all(unicodedata.is_normalized("NFC", c) for c in CAPTIONS)
    ids, expected = preprocessor.tokenize(CAPTIONS), instant_ids(CAPTIONS)
    differing = [
        c for c, a, b in zip(CAPTIONS, ids, expected, strict=True) if any(a != b)
    ]
    assert differing == []


def test_decomposed_accents_get_the_ids_of_composed_ones(preprocessor):
    composed = [c for c in CAPTIONS if unicodedata.normalize("NFD", c) != c]
    assert len(composed) > 50
    decomposed = [unicodedata.normalize("NFD", c) for c in composed]
    ids = preprocessor.tokenize(decomposed)
    np.testing.assert_array_equal(ids, instant_ids(composed))


def test_ids_equal_transformers_own_padding_and_truncation(
    tmp_path, clip_vocabulary, preprocessor
):
    save_tokenizer(tmp_path / "tokenizer", clip_vocabulary)
    peer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    captions = [
        *(caption.lower() for caption in CAPTIONS),
        "a <|endoftext|> inside",
        "<|startoftext|>",
    ]
    expected = peer(captions, padding="max_length", truncation=True)["input_ids"]
    np.testing.assert_array_equal(preprocessor.tokenize(captions), expected)


def test_overlong_text_keeps_start_and_end_token(preprocessor):
    for caption in OVERLONG:
        (ids,) = preprocessor.tokenize(caption)
        assert ids[0] == 49406
        assert ids[-1] == END
        assert END not in ids[1:-1]


def test_one_prompt_gives_one_int32_row(preprocessor):
    ids = preprocessor.tokenize("a cat")
    assert ids.shape == (1, 77)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(preprocessor("a cat"), ids)
    np.testing.assert_array_equal(preprocessor(["b", "a cat"])[1:], ids)


def test_sequence_length_and_pad_token_shape_the_row(clip_vocabulary):
    short = TextToVideoPreprocessor(*clip_vocabulary, sequence_length=6, pad_token="!")
    expected = [[49406, 320, 2368, END, 0, 0], [49406, 320, 320, 320, 320, END]]
    assert short(["a cat", "a a a a a a a"]).tolist() == expected


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (None, "Received: None"),
        (3, "Received: 3"),
        (b"a cat", "Received: b'a cat'"),
        ([], r"Received: \[\]"),
        ({"prompts": "a"}, "Received: {'prompts': 'a'}"),
        (["a", 3.5], r"Received: \['a', 3.5\]"),
        ([["a"]], r"Received: \[\['a'\]\]"),
        ("half a \ud83d", "valid Unicode"),
    ],
)
def test_anything_but_text_is_refused_with_what_it_was(preprocessor, prompts, message):
    with pytest.raises(ValueError, match=message):
        preprocessor.tokenize(prompts)


@pytest.mark.parametrize("length", [1, 0, -3, 77.0, "77", None, True])
def test_a_row_too_short_for_start_and_end_is_refused(length):
    with pytest.raises(ValueError, match="sequence_length must be an integer"):
        TextToVideoPreprocessor(sequence_length=length)


def test_a_pad_token_outside_the_vocabulary_is_refused(clip_vocabulary):
    with pytest.raises(ValueError, match="'<pad>' is not one of .* 49408 tokens"):
        TextToVideoPreprocessor(*clip_vocabulary, pad_token="<pad>")


def test_tokenizing_without_a_vocabulary_says_how_to_get_one():
    with pytest.raises(ValueError, match="no vocabulary yet"):
        TextToVideoPreprocessor().tokenize("a cat")


@pytest.mark.parametrize("inner", ["", "tokenizer"])
def test_a_pipeline_folder_and_its_tokenizer_folder_both_load(
    tmp_path, clip_vocabulary, preprocessor, inner
):
    save_tokenizer(tmp_path / "tokenizer", clip_vocabulary)
    loaded = TextToVideoPreprocessor.from_hub_folder(str(tmp_path / inner))
    np.testing.assert_array_equal(loaded(FRAGMENTS), preprocessor(FRAGMENTS))


def test_a_folder_that_transformers_saved_loads(tmp_path, clip_vocabulary):
    tokens, merges = clip_vocabulary
    pairs = [tuple(merge.split(" ")) for merge in merges]
    CLIPTokenizer(vocab=tokens, merges=pairs).save_pretrained(tmp_path)
    loaded = TextToVideoPreprocessor.from_hub_folder(str(tmp_path))
    assert loaded.vocabulary == tokens
    assert loaded.merges == merges


def test_the_two_files_alone_load(tmp_path, clip_vocabulary):
    Vocabulary(*clip_vocabulary).save(tmp_path)
    loaded = TextToVideoPreprocessor.from_hub_folder(tmp_path, sequence_length=9)
    assert (loaded.vocabulary, loaded.merges) == clip_vocabulary
    assert loaded.sequence_length == 9


ADDED = {"content": "!", "lstrip": False, "rstrip": False, "normalized": True}
ADDED = {**ADDED, "single_word": False}


@pytest.mark.parametrize(
    ("config", "legacy", "expected"),
    [
        ({}, None, END_TOKEN),
        ({"pad_token": "!"}, None, "!"),
        ({"pad_token": {"__type": "AddedToken", **ADDED}}, None, "!"),
        # Stable Diffusion 2.x: its two files disagree.
        ({}, {"pad_token": "!"}, "!"),
        ({}, {"pad_token": ADDED}, "!"),
        ({"added_tokens_decoder": {"0": ADDED}}, {"pad_token": "!"}, END_TOKEN),
    ],
)
def test_the_pad_token_is_the_one_that_transformers_takes(
    tmp_path, config, legacy, expected
):
    folder = tmp_path / "tokenizer"
    save_tokenizer(folder, TINY_VOCABULARY, **config)
    if legacy:
        (folder / "special_tokens_map.json").write_text(json.dumps(legacy))
    assert CLIPTokenizer.from_pretrained(folder).pad_token == expected
    assert TextToVideoPreprocessor.from_hub_folder(str(folder)).pad_token == expected


@pytest.mark.parametrize(
    ("told", "expected"), [(24, 24), (77, 77), (None, 77), (10**30, 77), (1, 77)]
)
def test_the_length_is_the_one_that_the_folder_tells(tmp_path, told, expected):
    folder = tmp_path / "tokenizer"
    save_tokenizer(folder, TINY_VOCABULARY)
    config = {} if told is None else {"model_max_length": told}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = TextToVideoPreprocessor.from_hub_folder(str(folder))
    assert loaded.sequence_length == expected


@pytest.mark.parametrize("token", [None, 3, ["!"], {"content": 3}, {}])
def test_a_malformed_pad_token_is_refused_by_folder(tmp_path, token):
    save_tokenizer(tmp_path / "tokenizer", TINY_VOCABULARY, pad_token=token)
    with pytest.raises(ValueError, match="tokenizer: pad_token must be a string"):
        TextToVideoPreprocessor.from_hub_folder(str(tmp_path))


@pytest.mark.parametrize("token", ["a", {"content": "a"}, ["a"]])
@pytest.mark.parametrize("name", ["bos_token", "eos_token"])
def test_another_start_or_end_than_clips_is_refused(tmp_path, name, token):
    save_tokenizer(tmp_path / "tokenizer", TINY_VOCABULARY, **{name: token})
    with pytest.raises(ValueError, match=f"tokenizer: {name} must be CLIP's"):
        TextToVideoPreprocessor.from_hub_folder(str(tmp_path))


def test_a_folder_without_a_vocabulary_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vocab\.json"):
        TextToVideoPreprocessor.from_hub_folder(str(tmp_path))


def test_the_config_rebuilds_all_but_the_vocabulary(clip_vocabulary):
    made = TextToVideoPreprocessor(
        *clip_vocabulary, sequence_length=9, pad_token="!", name="text"
    )
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(made)))
    rebuilt = keras.saving.deserialize_keras_object(config)
    assert rebuilt.get_config() == made.get_config()
    with pytest.raises(ValueError, match="no vocabulary yet"):
        rebuilt.tokenize("a cat")


def test_a_preset_carries_the_vocabulary_bit_for_bit(tmp_path, clip_vocabulary):
    preset = str(tmp_path / "preset")
    made = TextToVideoPreprocessor(*clip_vocabulary, sequence_length=9, pad_token="!")
    made.save_to_preset(preset)
    loaded = TextToVideoPreprocessor.from_preset(preset)
    assert list(loaded.vocabulary.items()) == list(made.vocabulary.items())
    assert loaded.merges == made.merges
    assert loaded.get_config() == made.get_config()
    np.testing.assert_array_equal(loaded(FRAGMENTS), made(FRAGMENTS))
    shorter = TextToVideoPreprocessor.from_preset(preset, sequence_length=5)
    assert shorter("a").shape == (1, 5)


@keras.saving.register_keras_serializable(package="keras_makeavid_tests")
class PixelBackbone(keras_hub.models.Backbone):
    """The smallest thing that a KerasHub task can be built on."""

    def __init__(self, dtype=None, **kwargs):
        inputs = keras.Input((1,))
        outputs = keras.layers.Dense(1, dtype=dtype)(inputs)
        super().__init__(inputs=inputs, outputs=outputs, dtype=dtype, **kwargs)


@keras.saving.register_keras_serializable(package="keras_makeavid_tests")
class PixelTask(keras_hub.models.Task):
    backbone_cls = PixelBackbone
    preprocessor_cls = TextToVideoPreprocessor

    def __init__(self, backbone, preprocessor=None, **kwargs):
        self.backbone = backbone
        self.preprocessor = preprocessor
        super().__init__(
            inputs=backbone.inputs, outputs=backbone.outputs, compile=False, **kwargs
        )


@pytest.fixture
def task(clip_vocabulary):
    preprocessor = TextToVideoPreprocessor(*clip_vocabulary, pad_token="!")
    return PixelTask(PixelBackbone(), preprocessor)


def test_a_task_preset_restores_its_preprocessor(tmp_path, task):
    task.save_to_preset(str(tmp_path))
    loaded = PixelTask.from_preset(str(tmp_path)).preprocessor
    assert loaded.vocabulary == task.preprocessor.vocabulary
    np.testing.assert_array_equal(loaded(FRAGMENTS), task.preprocessor(FRAGMENTS))


def test_a_keras_file_restores_its_preprocessor(tmp_path, task):
    task.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras").preprocessor
    assert loaded.vocabulary == task.preprocessor.vocabulary
    np.testing.assert_array_equal(loaded(FRAGMENTS), task.preprocessor(FRAGMENTS))


def test_merges_apply_in_a_vocabulary_made_by_hand():
    tiny = TextToVideoPreprocessor(*TINY_VOCABULARY, sequence_length=6)
    # A letter outside the vocabulary becomes CLIP's unknown token, the end token.
    assert tiny(["ab a", "aab", "a?"]).tolist() == [
        [5, 4, 2, 6, 6, 6],
        [5, 1, 4, 6, 6, 6],
        [5, 2, 6, 6, 6, 6],
    ]


def test_what_is_cut_is_named(clip_vocabulary):
    preprocessor = TextToVideoPreprocessor(*clip_vocabulary, sequence_length=6)
    cut = "of 5 tokens is cut to 4, .* Kept: 'a cat in the'. Left out: 'snow'"
    with pytest.warns(UserWarning, match=cut):
        preprocessor.tokenize(["a dog", "a cat in the snow"])


# Tokens that somebody added.


ADDED_TOKENS = [
    AddedToken("<cat-toy>"),
    AddedToken("<Big One>", normalized=False),
    AddedToken("<left>", lstrip=True),
    AddedToken("<Right>", rstrip=True, normalized=False, special=True),
    AddedToken("Owl", single_word=True),
    AddedToken("猫"),
]
WITH_ADDED = [
    "a <cat-toy> on the mat",
    "A <CAT-TOY>, <Big One>; <big one>",
    "a  <left> b <Right>  c <RIGHT> d",
    "Owl owls owl nightOwl",
    "猫猫 and a<cat-toy>b",
    "<Big One>, a cat! a cat !",
    "Hello, world!!! (really?) it's, DON'T",
]


PADDED = {"padding": "max_length", "max_length": 77, "truncation": True}


def save_as_transformers_5(folder, vocabulary, pad_token):
    """`tokenizer.json`, with `tokenizer_config.json`."""
    tokens, merges = vocabulary
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = CLIPTokenizer(vocab=tokens, merges=pairs, pad_token=pad_token)
    tokenizer.add_tokens(ADDED_TOKENS)
    tokenizer.save_pretrained(folder)


def save_as_transformers_4(folder, vocabulary, pad_token):
    """`vocab.json` and `merges.txt`, the added tokens in `tokenizer_config.json`."""
    decoder = {
        str(49408 + i): {
            "content": token.content,
            "single_word": token.single_word,
            "lstrip": token.lstrip,
            "rstrip": token.rstrip,
            "normalized": token.normalized,
            "special": token.special,
        }
        for i, token in enumerate(ADDED_TOKENS)
    }
    start = {**decoder["49408"], "content": START_TOKEN, "special": True}
    save_tokenizer(
        folder,
        vocabulary,
        pad_token=pad_token,
        added_tokens_decoder={**decoder, "49406": start},
    )


def save_as_transformers_3(folder, vocabulary, pad_token):
    """`vocab.json` and `merges.txt`, with `added_tokens.json`, which tells no more."""
    save_tokenizer(folder, vocabulary)
    ids = {token.content: 49408 + i for i, token in enumerate(ADDED_TOKENS)}
    (folder / "added_tokens.json").write_text(json.dumps(ids))
    special = {"pad_token": pad_token, "additional_special_tokens": ["<Right>"]}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


@pytest.mark.parametrize("pad_token", [END_TOKEN, "!"])
@pytest.mark.parametrize(
    "save", [save_as_transformers_5, save_as_transformers_4, save_as_transformers_3]
)
def test_added_tokens_are_those_of_transformers_in_each_form(
    tmp_path, clip_vocabulary, save, pad_token
):
    source = tmp_path / "tokenizer"
    save(source, clip_vocabulary, pad_token)
    theirs = CLIPTokenizer.from_pretrained(source)
    ours = TextToVideoPreprocessor.from_hub_folder(str(source), sequence_length=77)
    assert len(ours.vocabulary) == len(theirs) == 49414
    assert ours.pad_token == theirs.pad_token
    expected = theirs(WITH_ADDED, **PADDED)["input_ids"]
    np.testing.assert_array_equal(ours(WITH_ADDED), expected)
    assert 49408 in ours("a <cat-toy>") and 49409 in ours("a <Big One>")

    ours.save_hub_folder(str(tmp_path / "again"))
    again = CLIPTokenizer.from_pretrained(tmp_path / "again")
    ours.save_to_preset(str(tmp_path / "preset"))
    preset = TextToVideoPreprocessor.from_preset(str(tmp_path / "preset"))
    np.testing.assert_array_equal(again(WITH_ADDED, **PADDED)["input_ids"], expected)
    np.testing.assert_array_equal(preset(WITH_ADDED), ours(WITH_ADDED))


@pytest.mark.parametrize("name", ["padding_side", "truncation_side"])
def test_a_row_that_begins_with_padding_is_refused(tmp_path, name):
    save_tokenizer(tmp_path / "right", TINY_VOCABULARY, **{name: "right"})
    TextToVideoPreprocessor.from_hub_folder(str(tmp_path / "right"))
    save_tokenizer(tmp_path / "left", TINY_VOCABULARY, **{name: "left"})
    with pytest.raises(ValueError, match=f"{name} must be 'right'. Received: 'left'"):
        TextToVideoPreprocessor.from_hub_folder(str(tmp_path / "left"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "added_tokens.json",
            {"<x>": 9},
            "added_tokens.json: Tokens must have each id",
        ),
        ("added_tokens.json", {"a": 7}, "'a' must have the id .* elsewhere, 1. .*: 7"),
        ("added_tokens.json", {"<x>": "7"}, "integer ids. Received: '<x>': '7'"),
        ("added_tokens.json", ["<x>"], "must hold a JSON object. Received: ..<x>"),
        ("tokenizer_config.json", {"added_tokens_decoder": []}, r"Received: \[\]"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"7": {"content": "<x>", "lstrip": 3}}},
            "added token 7 has an error:\n.*lstrip",
        ),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"seven": {"content": "<x>"}}},
            "integer ids. Received: '<x>': 'seven'",
        ),
    ],
)
def test_added_tokens_that_cannot_be_are_refused(tmp_path, name, content, message):
    save_tokenizer(tmp_path / "tokenizer", TINY_VOCABULARY)
    (tmp_path / "tokenizer" / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        TextToVideoPreprocessor.from_hub_folder(str(tmp_path))
