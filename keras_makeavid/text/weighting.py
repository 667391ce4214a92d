"""Weights of words in a prompt, in the syntax of AUTOMATIC1111's interface."""

import itertools
import operator
import re

from keras import ops

from keras_makeavid.tensor import Tensor

# A bracket adds or takes a tenth.
_STEP = 1.1
# As a share of the mean size of the numbers.
_LEAST_MEAN = 1e-3
_PIECES = re.compile(
    r"\\(?P<literal>[()\[\]\\])|:\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)"
    r"|[()\[\]]|[^()\[\]\\:]+|.",
    re.DOTALL,
)
_CLOSED = {")": ("(", _STEP), "]": ("[", 1 / _STEP)}


def parse_weights(prompt: str) -> list[tuple[str, float]]:
    r"""Split a prompt into runs of text of one weight.

    `(text)` weighs 1.1 times as much, `[text]` 1.1 times less and `(text:1.3)` 1.3
    times as much; inside each other weights multiply. A bracket that nothing closes
    reaches to the end; one that nothing opens, and `\(` without the backslash, is text.

    Args:
        prompt: The prompt.

    Returns:
        Pairs of text and weight; one of an empty text for an empty prompt.

    Example:
    ```python
    parse_weights("a (red:1.3) [cat]")  # ("a ", 1.0), ("red", 1.3), (" ", 1.0), ...
    ```
    """
    texts: list[str] = []
    weights: list[float] = []
    # Where the text inside each open bracket begins.
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(bracket, weight):
        for i in range(opened[bracket].pop(), len(weights)):
            weights[i] *= weight

    for match in _PIECES.finditer(prompt):
        piece = match[0]
        bracket, weight = _CLOSED.get(piece, ("(", _STEP))
        if piece in opened:
            opened[piece].append(len(texts))
        elif match["weight"] and opened["("]:
            close("(", float(match["weight"]))
        elif piece in _CLOSED and opened[bracket]:
            close(bracket, weight)
        else:
            texts.append(match["literal"] or piece)
            weights.append(1.0)
    for bracket, (_, weight) in zip(opened, _CLOSED.values(), strict=True):
        while opened[bracket]:
            close(bracket, weight)
    alike = itertools.groupby(zip(weights, texts, strict=True), operator.itemgetter(0))
    runs = [("".join(text for _, text in run), weight) for weight, run in alike]
    return runs or [("", 1.0)]


def weigh(states: Tensor, weights: Tensor) -> Tensor:
    """Multiply text states `(N, L, D)` by weights `(N, L)`; rows keep their mean."""
    states = ops.convert_to_tensor(states)
    wide = ops.cast(states, "float32")
    weighted = wide * ops.cast(weights, "float32")[..., None]

    def mean(x):
        return ops.mean(x, axis=(1, 2), keepdims=True)

    # An encoder that never trained has a mean of 0, but for rounding.
    means_something = ops.abs(mean(wide)) > _LEAST_MEAN * mean(ops.abs(wide))
    new_mean = ops.where(means_something, mean(weighted), 1.0)
    ratio = ops.where(means_something, mean(wide) / new_mean, 1.0)
    return ops.cast(weighted * ratio, states.dtype)
