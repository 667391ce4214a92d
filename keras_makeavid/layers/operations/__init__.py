"""The operations that carry the model's arithmetic, as functions of tensors.

Each has a portable form in `keras.ops`, and a branch for a backend where `benchmarks/`
showed that to be much faster; attention over frames has the TPU's kernel only.
"""
