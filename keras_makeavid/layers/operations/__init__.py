"""The operations that carry the model's arithmetic, as functions of tensors.

Each has a portable form in `keras.ops` and, where `benchmarks/` showed a backend's own
kernel (or another loop order) to be much faster, a branch for that.
Attention over frames has the TPU's kernel only: its layer has the portable form.
"""
