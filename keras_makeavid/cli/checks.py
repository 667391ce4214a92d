"""What several commands ask of their options."""

from __future__ import annotations


def check_at_least_one(options, *names: str) -> None:
    """Refuse counts below 1; those that were not given are left alone."""
    for name in names:
        count = getattr(options, name)
        if count is not None and count < 1:
            raise ValueError(f"--{name} must be at least 1. Received: {count}")
