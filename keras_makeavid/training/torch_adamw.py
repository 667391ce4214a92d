"""AdamW under PyTorch: a few calls for all variables together.

Hundreds of small tensors, each updated by a dozen operations of its own, take longer to
dispatch than to compute (`benchmarks/optimizer.py`).
"""

from __future__ import annotations

from typing import Any


def suits(variables: list[Any]) -> bool:
    """Whether `update` may take the place of the portable arithmetic.

    On a GPU it would have to wait for the norm, to know whether to update at all.
    """
    import torch

    return all(x.device.type == "cpu" and x.dtype == torch.float32 for x in variables)


def global_norm(gradients: list[Any]) -> Any:
    """Norm of all gradients together, a float32 scalar; on any device."""
    import torch

    norms = torch._foreach_norm(gradients, dtype=torch.float32)
    return torch.linalg.vector_norm(torch.stack(norms))


def update(
    values: list[Any],
    gradients: list[Any] | tuple[Any, ...],
    means: list[Any],
    squares: list[Any],
    averages: list[Any],
    decays: list[bool],
    *,
    scale: float,
    learning_rate: float,
    weight_decay: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    average_momentum: float,
    count: int,
) -> None:
    """Make an update in place, as `AdamW` defines it: its `count`-th, from 1 on.

    `averages` may be empty. `scale` is of the gradients; `decays` says which variables
    decay.
    """
    import torch

    with torch.no_grad():
        if scale != 1.0:
            gradients = torch._foreach_mul(gradients, scale)
        steps = torch._foreach_sub(gradients, means)
        torch._foreach_add_(means, steps, alpha=1.0 - beta_1)
        steps = torch._foreach_mul(gradients, gradients)
        torch._foreach_sub_(steps, squares)
        torch._foreach_add_(squares, steps, alpha=1.0 - beta_2)
        roots = torch._foreach_div(squares, 1.0 - beta_2**count)
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, epsilon)
        decaying = [v for v, decay in zip(values, decays, strict=True) if decay]
        if weight_decay and decaying:
            torch._foreach_mul_(decaying, 1.0 - weight_decay * learning_rate)
        rate = learning_rate / (1.0 - beta_1**count)
        torch._foreach_addcdiv_(values, means, roots, -rate)
        if averages:
            torch._foreach_lerp_(averages, values, 1.0 - average_momentum)
