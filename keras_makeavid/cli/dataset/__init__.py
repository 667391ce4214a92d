"""Tell what a latent dataset holds, check it, convert its layout, or draw one."""

from keras_makeavid.cli.dataset import check, convert, info, motions

COMMANDS = {"info": info, "check": check, "convert": convert, "motions": motions}
