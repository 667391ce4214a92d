"""Pages and pictures that stand alone: HTML and SVG without scripts or other files."""

import base64
import html
from collections.abc import Iterable
from typing import Any

# What browsers may do: a script would not run, even if one came into a page.
_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width"><style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 72em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; display: block; overflow-x: auto; line-height: 1.25 }
th, td { padding: .15em .45em; border-bottom: 1px solid #8884; text-align: left }
figure { display: inline-block; margin: 0 1em 1em 0; width: 9em; vertical-align: top }
figcaption { font-size: 85% } img { width: 100%; image-rendering: pixelated }
</style>"""


class Markup(str):
    """HTML or SVG, in which text is escaped already."""


def element(tag: str, *content: Any, **attributes: Any) -> Markup:
    """Make an element; what is in it is escaped, but for other elements.

    Example:
        ```python
        element("text", "1 < 2", text_anchor="end")
        # <text text-anchor="end">1 &lt; 2</text>
        ```
    """
    inner = (c if isinstance(c, Markup) else html.escape(str(c)) for c in content)
    named = ((name.replace("_", "-"), value) for name, value in attributes.items())
    told = "".join(f' {name}="{html.escape(str(value))}"' for name, value in named)
    return Markup(f"<{tag}{told}>{''.join(inner)}</{tag}>")


def page(title: str, *content: Markup) -> str:
    """A whole page of elements under a title."""
    body = element("body", element("h1", title), *content)
    return f"{_HEAD}{element('title', title)}</head>{body}</html>\n"


def table(head: Iterable[Any], rows: Iterable[Iterable[Markup]]) -> Markup:
    """A table of cells that are elements, under the texts of its head."""
    names = (element("th", name) for name in head)
    return element("table", *(element("tr", *row) for row in (names, *rows)))


def picture(webp: bytes, caption: str) -> Markup:
    """A picture, moving or not, the file of which is in the page, with a caption."""
    source = f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
    shown = Markup(f'<img src="{source}" alt="">')  # Without an end tag.
    return element("figure", shown, element("figcaption", caption))
