"""How each published layout names and orders the weights of our models: one table.

Both directions of every conversion follow from it.
"""

from weights_tools.layouts.layout import Layout
from weights_tools.layouts.tables import LAYOUTS, get_layout

__all__ = ["LAYOUTS", "Layout", "get_layout"]
