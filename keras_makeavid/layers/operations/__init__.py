"""The operations that carry the model's arithmetic, as functions of tensors.

Each file holds one: its portable form in `keras.ops` and, where `benchmarks/` showed
the backend's own kernel (or another loop order) to be much faster, one branch. All
other layers are written against these functions only.
"""
