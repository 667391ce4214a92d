"""The kinds of places that weights are written to, one a module."""
