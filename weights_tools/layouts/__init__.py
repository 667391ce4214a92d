"""How each published layout names and orders our weights: a table for both ways."""

from weights_tools.layouts.layout import Layout
from weights_tools.layouts.tables import LAYOUTS, get_layout

__all__ = ["LAYOUTS", "Layout", "get_layout"]
