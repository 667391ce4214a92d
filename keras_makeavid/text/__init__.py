"""Prompts to token ids, and token ids to the context that the UNet attends to."""

from keras_makeavid.text.text_encoder import TextEncoder
from keras_makeavid.text.tokenizer import TextToVideoPreprocessor
from keras_makeavid.text.vocabulary import learn_vocabulary, openai_clip_vocabulary
from keras_makeavid.text.weighting import parse_weights

__all__ = [
    "TextEncoder",
    "TextToVideoPreprocessor",
    "learn_vocabulary",
    "openai_clip_vocabulary",
    "parse_weights",
]
