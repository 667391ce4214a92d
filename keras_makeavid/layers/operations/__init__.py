"""The operations that carry the model's arithmetic, as functions of tensors.

Each has a portable form in `keras.ops`, and a branch for a backend where `benchmarks/`
showed that to be much faster. Attention over frames has the TPU's kernel only: its
layer has the portable form.
"""
