"""A page in the browser around presets: everything that `generate` takes, as a form."""

from keras_makeavid.app.serving import serve

__all__ = ["serve"]
