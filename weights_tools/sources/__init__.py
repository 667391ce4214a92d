"""The kinds of places that weights come from, one a module."""
