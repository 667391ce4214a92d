"""Pages and pictures that stand alone."""

from html.parser import HTMLParser
from xml.etree import ElementTree

from keras_makeavid.pages import element, page, picture, table

HOSTILE = "<script>alert('1')</script> & \"quoted\""


class Reader(HTMLParser):
    """The tags of a page, its text, and the addresses that it asks for."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.addresses = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for n, v in attributes if n in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_text_is_escaped_wherever_it_stands():
    cell = element("td", HOSTILE, title=HOSTILE)
    parts = [element("p", HOSTILE), table([HOSTILE], [[cell]]), picture(b"x", HOSTILE)]
    read = Reader(page(HOSTILE, *parts))
    assert "script" not in read.tags
    assert read.text.count(HOSTILE) == 6


def test_a_page_asks_for_nothing_beside_itself():
    read = Reader(page("Videos", picture(b"RIFF", "a star")))
    assert read.addresses == ["data:image/webp;base64,UklGRg=="]
    assert "default-src 'none'" in page("Videos")


def test_elements_are_in_each_other_and_attributes_have_hyphens():
    group = element("g", element("text", 3, text_anchor="end"), "<")
    assert group == '<g><text text-anchor="end">3</text>&lt;</g>'
    assert ElementTree.fromstring(group).find("text").get("text-anchor") == "end"
