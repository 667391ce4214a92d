"""Bring checkpoints of every layout in, out, and from image to video."""

from keras_makeavid.cli.weights import convert, inflate, inspect, lora, verify

COMMANDS = {
    "inspect": inspect,
    "inflate": inflate,
    "convert": convert,
    "verify": verify,
    "lora": lora,
}
