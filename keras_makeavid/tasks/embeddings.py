"""Learnt tokens (textual inversion) for a task's tokenizer and text encoder."""

from __future__ import annotations

import numpy as np

from keras_makeavid.files import StrPath
from keras_makeavid.text import TextEncoder, TextToVideoPreprocessor
from weights_tools.architectures import variables_of
from weights_tools.checkpoint import assign, tensors_of_model
from weights_tools.embeddings import read_embedding

_TABLE = "embedding/token_embedding/embeddings"


def with_embedding(
    preprocessor: TextToVideoPreprocessor,
    text_encoder: TextEncoder,
    path: StrPath,
    token: str | None,
) -> tuple[list[str], TextToVideoPreprocessor, TextEncoder]:
    """The tokens of a file, and a tokenizer and a text encoder that know them too.

    Several vectors are as many tokens, `token`, `token_1` and so on, as in diffusers:
    the first one in a prompt stands for all.
    """
    config = text_encoder.get_config()
    found, vectors = read_embedding(path, config["embedding_dim"])
    token = found if token is None else token
    tokens = [token, *(f"{token}_{i}" for i in range(1, len(vectors)))]
    # One more, with which the new ones would be taken for more vectors of its own.
    known = {*tokens, f"{token}_1"} & preprocessor.vocabulary.keys()
    if not token.strip() or known:
        problem = f"it has {sorted(known)} already" if known else "it is empty"
        raise ValueError(
            f"The token {token!r} cannot be added to the tokenizer, as {problem}: give "
            "another name as `token`"
        )
    preprocessor = preprocessor.with_tokens(tokens)
    first = preprocessor.vocabulary[token]
    size = max(config["vocabulary_size"], first + len(tokens))
    grown = TextEncoder.from_config({**config, "vocabulary_size": size})
    variables = variables_of(grown)
    held = tensors_of_model(text_encoder, variables_of(text_encoder))
    for name, variable in variables.items():
        value = held.read(name)
        if name == _TABLE:
            table = np.zeros(variable.shape, value.dtype)
            table[: len(value)] = value
            table[first : first + len(tokens)] = vectors
            value = table
        assign(variable, value)
    grown.trainable = text_encoder.trainable
    return tokens, preprocessor, grown
