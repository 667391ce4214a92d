"""Training by plain `compile` and `fit`."""

from keras_makeavid.training.image_autoencoding import ImageAutoencoding
from keras_makeavid.training.optimizer import AdamW
from keras_makeavid.training.trainable import set_trainable
from keras_makeavid.training.video_diffusion import VideoDiffusion

__all__ = ["AdamW", "ImageAutoencoding", "VideoDiffusion", "set_trainable"]
