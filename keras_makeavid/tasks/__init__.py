"""What a user calls: prompts to videos."""

from keras_makeavid.tasks.text_to_video import TextToVideo

__all__ = ["TextToVideo"]
