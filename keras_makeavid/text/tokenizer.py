"""Prompts to CLIP token ids."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import keras_hub
import numpy as np

from keras_makeavid.json_files import read_object
from keras_makeavid.text.vocabulary import (
    CONFIG_FILE,
    END_TOKEN,
    MERGES_FILE,
    START_TOKEN,
    VOCABULARY_FILE,
    AddedToken,
    Vocabulary,
    read_folder,
)
from keras_makeavid.text.weighting import parse_weights
from keras_makeavid.validation import refusal, shown

# Where KerasHub's own tokenizers keep theirs in a preset.
ASSET_FOLDER = "assets/tokenizer"
_MOST_TOKENS = 2**16


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TextToVideoPreprocessor(keras_hub.models.Preprocessor):
    """Turns prompts into the token ids that the CLIP text encoder takes.

    Tokens are those of `transformers.CLIPTokenizer`: start token, text, end token, then
    padding. Text that does not fit is cut, with a warning that names what is left out,
    and the end token stays.

    The vocabulary is not part of the config: presets and `.keras` files carry it as
    `vocab.json` and `merges.txt`, and tokens that somebody added, as
    `tokenizer.add_tokens` of transformers does, in `tokenizer_config.json`.

    Args:
        vocabulary: Each token's id, as in `vocab.json`. Without it and `merges`, the
            layer waits for `load_preset_assets`.
        merges: Merge rules `"left right"`, as the lines of `merges.txt`.
        sequence_length: Length of a row of ids, start and end token included.
        pad_token: Token that fills a row. Stable Diffusion 1.x pads with the end token,
            Stable Diffusion 2.x with `"!"`.
        **kwargs: `name`, `dtype` and `config_file`, as KerasHub's preprocessors have.

    Raises:
        ValueError: If the vocabulary is malformed, has no such `pad_token`, or
            `sequence_length` is not an integer of at least 2.

    Example:
    ```python
    preprocessor = TextToVideoPreprocessor(*openai_clip_vocabulary())
    preprocessor("a cat in the snow")  # int32 (1, 77): 49406, 320, 2368, 530, ...
    ```
    """

    def __init__(
        self,
        vocabulary: dict[str, int] | None = None,
        merges: list[str] | None = None,
        sequence_length: int = 77,
        pad_token: str = END_TOKEN,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(sequence_length, int) or sequence_length < 2:
            expected = "sequence_length must be an integer of at least 2"
            raise refusal(f"{expected}, for start and end token", sequence_length)
        self.sequence_length = sequence_length
        self.pad_token = pad_token
        self._vocabulary: Vocabulary | None = None
        if (vocabulary is None) != (merges is None):
            given = "merges" if vocabulary is None else "vocabulary"
            problem = "vocabulary and merges must be given together"
            raise ValueError(f"{problem}. Received: {given} only")
        if vocabulary is not None and merges is not None:
            self._set_vocabulary(Vocabulary(vocabulary, merges))
        self.built = True

    @classmethod
    def from_hub_folder(cls, folder: str, **kwargs) -> TextToVideoPreprocessor:
        """Make a preprocessor from a diffusers pipeline folder on disk.

        Args:
            folder: The pipeline's folder or its `tokenizer` folder. That holds
                `vocab.json` and `merges.txt`, or the `tokenizer.json` that transformers
                5 writes in their place. Added tokens, padding token and length are read
                as well, in each form that transformers writes.
            **kwargs: Other arguments of the class.

        Raises:
            FileNotFoundError: If the folder holds no vocabulary.
            ValueError: If a file is malformed; names it.

        Example:
        ```python
        TextToVideoPreprocessor.from_hub_folder("stable-diffusion-inpainting")
        ```
        """
        inner = os.path.join(folder, "tokenizer")
        folder = inner if os.path.isdir(inner) else folder
        preprocessor = cls(**{**_read_settings(folder), **kwargs})
        preprocessor._set_vocabulary(read_folder(folder))
        return preprocessor

    @property
    def vocabulary(self) -> dict[str, int]:
        """Each token's id."""
        return self._loaded_vocabulary().tokens

    @property
    def merges(self) -> list[str]:
        """Merge rules `"left right"`, the first one applied first."""
        return self._loaded_vocabulary().merges

    def call(self, prompts: str | Sequence[str]) -> np.ndarray:
        return self.tokenize(prompts)

    def tokenize(self, prompts: str | Sequence[str]) -> np.ndarray:
        """Turn a prompt, or a list of B, into ids, int32 `(B, sequence_length)`.

        Anything else, or no vocabulary, is a `ValueError`.
        """
        return self.tokenize_windows(prompts)[0][:, 0]

    def tokenize_windows(
        self, prompts: str | Sequence[str], weighted: bool = False, long: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn prompts into rows of token ids, several for one, with weights.

        Args:
            prompts: A list of `B` prompts, or one.
            weighted: Whether brackets weigh, as in `(red:1.3)` (see `parse_weights`).
            long: Whether a prompt that is too long for a row takes as many as it needs,
                each with a start and an end token, and all others as many.

        Returns:
            int32 ids `(B, rows, sequence_length)`, and the weight of each.

        Example:
        ```python
        preprocessor = TextToVideoPreprocessor(*openai_clip_vocabulary())
        ids, weights = preprocessor.tokenize_windows(["a (red:1.3) cat"], weighted=True)
        ```
        """
        prompts = as_texts("prompts", prompts)
        most = self.sequence_length - 2
        texts, weights = [], []
        for prompt in prompts:
            runs = parse_weights(prompt) if weighted else [(prompt, 1.0)]
            ids = self._encode([text for text, _ in runs])
            text = [i for run in ids for i in run]
            texts.append(text if long else self._cut(text))
            weights.append(np.repeat([w for _, w in runs], list(map(len, ids))))
        rows = max(1, *(-(-len(text) // most) for text in texts))
        starts = range(0, rows * most, most)
        windows = [text[i : i + most] for text in texts for i in starts]
        shape = (len(prompts), rows, self.sequence_length)
        weight = np.ones(shape, "float32")
        for row, values in zip(weight, weights, strict=True):
            values = values[: rows * most]
            row[:, 1:-1].flat[: len(values)] = values
        start, end, pad = (
            self.vocabulary[token] for token in (START_TOKEN, END_TOKEN, self.pad_token)
        )
        filled = np.full((len(windows), self.sequence_length), pad, "int32")
        for id_row, text in zip(filled, windows, strict=True):
            id_row[: len(text) + 2] = [start, *text, end]
        return filled.reshape(shape), weight

    def _cut(self, text: list[int]) -> list[int]:
        """As many ids of a text as fit into a row, with a warning if not all do."""
        most = self.sequence_length - 2
        if len(text) > most:
            parts = self._bpe.decode_batch(
                [text[:most], text[most:]], skip_special_tokens=False
            )
            kept, left = (part.replace("</w>", " ").strip() for part in parts)
            warnings.warn(
                f"A prompt of {len(text)} tokens is cut to {most}, the most that "
                f"the text encoder takes. Kept: {kept!r}. Left out: {left!r}.",
                stacklevel=4,
            )
        return text[:most]

    def with_tokens(self, tokens: Sequence[str]) -> TextToVideoPreprocessor:
        """Make a preprocessor that knows some tokens more; this one stays as it is.

        They have the next ids, as by `tokenizer.add_tokens` of transformers. Tokens
        `x`, `x_1`, `x_2` and so on are the vectors of one: `x` in a prompt stands for
        all of them, as in diffusers. One that is known already is a `ValueError`.

        Example:
        ```python
        preprocessor = TextToVideoPreprocessor(*openai_clip_vocabulary())
        preprocessor = preprocessor.with_tokens(["<cat-toy>", "<cat-toy>_1"])
        preprocessor("a <cat-toy>")  # int32 (1, 77): 49406, 320, 49408, 49409, ...
        ```
        """
        old = self._loaded_vocabulary()
        known = [token for token in tokens if token in old.tokens]
        if known:
            raise ValueError(f"The vocabulary has these tokens already: {known}")
        ids = {token: len(old.tokens) + i for i, token in enumerate(tokens)}
        added = (*old.added, *map(AddedToken, tokens))
        preprocessor = type(self).from_config(self.get_config())
        preprocessor._set_vocabulary(
            Vocabulary({**old.tokens, **ids}, old.merges, added)
        )
        return preprocessor

    def get_config(self) -> dict:
        own = {"sequence_length": self.sequence_length, "pad_token": self.pad_token}
        return {**super().get_config(), **own}

    def save_assets(self, dir_path: str) -> None:
        self._loaded_vocabulary().save(dir_path)

    def save_hub_folder(self, folder: str) -> None:
        """Write the `tokenizer` folder of a pipeline, as `from_hub_folder` reads."""
        os.makedirs(folder, exist_ok=True)
        config = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": self.sequence_length,
            "bos_token": START_TOKEN,
            "eos_token": END_TOKEN,
            "unk_token": END_TOKEN,
            "pad_token": self.pad_token,
        }
        self._loaded_vocabulary().save(folder, config)

    def load_assets(self, dir_path: str) -> None:
        self._set_vocabulary(read_folder(dir_path))

    def save_to_preset(self, preset_dir: str) -> None:
        """Write config and vocabulary into a KerasHub preset folder, new or not."""
        super().save_to_preset(preset_dir)
        assets = os.path.join(preset_dir, ASSET_FOLDER)
        os.makedirs(assets, exist_ok=True)
        self.save_assets(assets)

    def load_preset_assets(self, preset: str) -> None:
        """Read the vocabulary of a preset: a folder, or a handle of KerasHub's."""
        from keras_hub.src.utils.preset_utils import check_file_exists, get_file

        path = get_file(preset, f"{ASSET_FOLDER}/{VOCABULARY_FILE}")
        get_file(preset, f"{ASSET_FOLDER}/{MERGES_FILE}")
        # Fetched, too, if it is there. All of them come to lie in one folder.
        check_file_exists(preset, f"{ASSET_FOLDER}/{CONFIG_FILE}")
        self.load_assets(os.path.dirname(path))

    @classmethod
    def from_preset(
        cls, preset: str, config_file: str = "preprocessor.json", **kwargs
    ) -> TextToVideoPreprocessor:
        """Load what `save_to_preset` wrote, whatever else the preset holds.

        Args:
            preset: A local folder, or a handle that KerasHub can fetch.
            config_file: Name of the config in it.
            **kwargs: Arguments of the class that replace the config's.
        """
        # KerasHub would choose the class by the preset's backbone; this class
        # serves every backbone that takes CLIP's text states.
        from keras_hub.src.utils.preset_utils import get_file

        config = read_object(get_file(preset, config_file))["config"]
        preprocessor = cls.from_config({**config, **kwargs})
        preprocessor.load_preset_assets(preset)
        return preprocessor

    def _set_vocabulary(self, vocabulary: Vocabulary) -> None:
        if self.pad_token not in vocabulary.tokens:
            problem = f"pad_token {self.pad_token!r} is not one of the vocabulary's"
            raise ValueError(f"{problem} {len(vocabulary.tokens)} tokens.")
        self._vocabulary = vocabulary
        self._bpe = vocabulary.tokenizer(self.pad_token)

    def _loaded_vocabulary(self) -> Vocabulary:
        if self._vocabulary is None:
            problem = "This preprocessor has no vocabulary yet: give `vocabulary` and"
            raise ValueError(f"{problem} `merges`, or load a preset or a model folder.")
        return self._vocabulary

    def _encode(self, prompts: list[str]) -> list[list[int]]:
        """The ids of each prompt's text, without start and end token."""
        # Truncation and padding are left to `tokenize`: the library keeps them as
        # state of the tokenizer, which two threads would change under each other.
        vocabulary = self._loaded_vocabulary()
        vectors = vocabulary.vectors
        # CLIP lowers a text whole; the library, by letters, misses a Greek final sigma.
        if all(token.normalized for token in vocabulary.added):
            prompts = [prompt.lower() for prompt in prompts]
        texts = self._bpe.encode_batch(prompts)
        return [[j for i in text.ids for j in vectors.get(i, (i,))] for text in texts]


def as_texts(name: str, value: Any) -> list[str]:
    """Return a string, or a list of them, as a list; refuse anything else by name."""
    texts = [value] if isinstance(value, str) else value
    if (
        not isinstance(texts, list | tuple)
        or not texts
        or not all(isinstance(text, str) for text in texts)
    ):
        raise refusal(f"{name} must be a string or a non-empty list of strings", value)
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            problem = f"{name} must be valid Unicode"
            raise ValueError(f"{problem}. Received: {shown(text)} ({error})") from error
    return list(texts)


def _read_settings(folder: str) -> dict:
    """Padding token and length that transformers would take from a tokenizer folder."""
    config_path = os.path.join(folder, CONFIG_FILE)
    legacy_path = os.path.join(folder, "special_tokens_map.json")
    config = read_object(config_path) if os.path.exists(config_path) else {}
    # transformers lets the older file win, except over configs of its newer form.
    if os.path.exists(legacy_path) and "added_tokens_decoder" not in config:
        config = {**config, **read_object(legacy_path)}

    def content(token):
        return token.get("content") if isinstance(token, dict) else token

    for name, expected in (("bos_token", START_TOKEN), ("eos_token", END_TOKEN)):
        # What a pipeline does not say, transformers fills in so.
        told = content(config.get(name) or expected)
        if told != expected:
            raise refusal(f"{folder}: {name} must be CLIP's, {expected!r}", told)
    for name in ("padding_side", "truncation_side"):
        if config.get(name, "right") != "right":
            raise refusal(f"{folder}: {name} must be 'right'", config[name])
    token = content(config.get("pad_token", END_TOKEN))
    if not isinstance(token, str):
        expected = "pad_token must be a string, or an object with a string as content"
        raise refusal(f"{folder}: {expected}", config["pad_token"])
    length = config.get("model_max_length")
    # Where there is none, transformers writes a number of thirty digits.
    if not isinstance(length, int) or not 2 <= length <= _MOST_TOKENS:
        return {"pad_token": token}
    return {"pad_token": token, "sequence_length": length}
