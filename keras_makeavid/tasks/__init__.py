"""What a user calls: prompts to videos, one or many."""

from keras_makeavid.tasks.many import (
    ManyReport,
    VideoRequest,
    generate_many,
    read_requests,
)
from keras_makeavid.tasks.text_to_video import TextToVideo

__all__ = [
    "ManyReport",
    "TextToVideo",
    "VideoRequest",
    "generate_many",
    "read_requests",
]
