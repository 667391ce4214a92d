"""Files of learnt tokens (textual inversion), in each form that people have."""

from pathlib import Path

import numpy as np

from keras_makeavid.files import StrPath
from weights_tools.checkpoint import all_finite, check_floats
from weights_tools.formats import FormatError, open_tensors

# Under which AUTOMATIC1111 keeps vectors, whatever their token; its name is the file's.
_NAMELESS = ("emb_params", "*")
# As a prompt has, more than any has been seen to have.
_MOST_VECTORS = 75


def read_embedding(path: StrPath, width: int) -> tuple[str, np.ndarray]:
    """Read a token and its vectors `(N, width)` from a file.

    It is of diffusers, one tensor by the name of the token, or of AUTOMATIC1111, whose
    token is the file's own name. Any other, or of another text encoder, is an error.
    """
    with open_tensors(path) as file:
        if len(file.specs) != 1:
            raise file.error(
                "must hold the vectors of one token. Received: "
                f"{len(file.specs)} tensors, such as {', '.join(list(file.specs)[:5])}"
            )
        ((name, spec),) = file.specs.items()
        *sizes, received = spec.shape or (0,)
        count = sizes[0] if sizes else 1
        if received != width or len(sizes) > 1 or not 1 <= count <= _MOST_VECTORS:
            raise file.error(
                f"must be 1 to {_MOST_VECTORS} vectors of {width} numbers, as the text "
                f"encoder has. Received: shape {spec.shape}",
                tensor=name,
            )
        check_floats(file, name)
        vectors = np.array(file.read(name), "float32").reshape(count, width)
    if not all_finite(vectors):
        raise FormatError(path, "holds NaN or infinity", tensor=name)
    return (Path(path).stem if name in _NAMELESS else name), vectors
