"""Tell what a latent dataset holds, check it, or convert its layout."""

from keras_makeavid.cli.dataset import check, convert, info

COMMANDS = {"info": info, "check": check, "convert": convert}
