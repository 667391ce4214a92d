"""Prompts to token ids, and token ids to the context that the UNet attends to."""

from keras_makeavid.text.text_encoder import (
    TextEncoder,
    load_clip_text_encoder,
    text_encoder_from_tensors,
    text_encoder_from_transformers_config,
    text_encoder_tensors,
)
from keras_makeavid.text.tokenizer import TextToVideoPreprocessor
from keras_makeavid.text.vocabulary import openai_clip_vocabulary

__all__ = [
    "TextEncoder",
    "TextToVideoPreprocessor",
    "load_clip_text_encoder",
    "openai_clip_vocabulary",
    "text_encoder_from_tensors",
    "text_encoder_from_transformers_config",
    "text_encoder_tensors",
]
