"""Markdown as markup that is safe to show: raw HTML is text, links lead to pages and nowhere else.

The texts are model cards: ours, or those that lie beside a model of somebody else.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor
from markupsafe import Markup

_ADDRESS = re.compile(r"(https?://|#)\S*", re.IGNORECASE)
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


def render(text: str, *, below: int = 0, prefix: str = "") -> Markup:
    """The text as HTML. below: levels that headings are moved down by. prefix: of the ids of headings."""
    renderer = Markdown(extensions=["tables", "fenced_code", "sane_lists", _Safe(below, prefix)])
    return Markup(renderer.convert(text))  # noqa: S704 - raw HTML is escaped, see _Safe


class _Safe(Extension):  # type: ignore[misc]  # the library has no annotations
    def __init__(self, below: int, prefix: str) -> None:
        super().__init__()
        self.below, self.prefix = below, prefix

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - the library's name
        md.preprocessors.deregister("html_block")
        md.inlinePatterns.deregister("html")
        for picture in ("image_link", "image_reference", "short_image_ref"):
            md.inlinePatterns.deregister(picture)
        md.treeprocessors.register(_Tamed(md, self.below, self.prefix), "tamed", 0)


class _Tamed(Treeprocessor):  # type: ignore[misc]
    def __init__(self, md: Markdown, below: int, prefix: str) -> None:
        super().__init__(md)
        self.below, self.prefix = below, prefix

    def run(self, root: Element) -> None:
        parents = {child: parent for parent in root.iter() for child in parent}
        for element in list(root.iter()):
            if element.tag in _HEADINGS:
                element.tag = _HEADINGS[min(5, _HEADINGS.index(element.tag) + self.below)]
            elif element.tag == "a" and not _ADDRESS.fullmatch(element.get("href", "")):
                # another card beside this one, a file, or a script: nothing that could be followed here
                element.tag = "span"
                element.attrib.clear()
            elif element.tag == "a":
                element.set("rel", "noreferrer noopener")
            elif element.tag == "th" and not "".join(element.itertext()).strip():
                element.tag = "td"  # a corner heads nothing
            elif element.tag == "table":
                _in_a_box(element, parents[element])


def _in_a_box(table: Element, parent: Element) -> None:
    """Wide tables scroll in a box of their own, which the keyboard reaches."""
    box = Element("div", {"class": "wide", "tabindex": "0"})
    place = list(parent).index(table)
    parent.remove(table)
    box.append(table)
    parent.insert(place, box)
