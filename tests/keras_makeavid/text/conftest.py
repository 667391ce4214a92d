"""CLIP's real vocabulary, and a preprocessor with it, shared by the text tests."""

import pytest

from keras_makeavid.text import TextToVideoPreprocessor, openai_clip_vocabulary


@pytest.fixture(scope="session")
def clip_vocabulary():
    return openai_clip_vocabulary()


@pytest.fixture(scope="session")
def preprocessor(clip_vocabulary):
    return TextToVideoPreprocessor(*clip_vocabulary)
