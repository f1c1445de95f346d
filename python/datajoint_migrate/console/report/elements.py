"""HTML and SVG as trees, never as text: nothing that a schema says can be read as markup."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

Node = ElementTree.Element
# What no HTML document may hold: control characters, and halves of characters.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def element(tag: str, *children: Any, **attributes: Any) -> Node:
    """An element. Children are nodes, lists of them, or text; None is left out.

    `class_` is written for `class`, `_` in other attributes for `-`.
    """
    node = Node(tag)
    for name, value in attributes.items():
        if value is not None:
            node.set(name.rstrip("_").replace("_", "-"), clean(value))
    _fill(node, children)
    return node


def _fill(node: Node, children: Any) -> None:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Node):
            node.append(child)
        elif isinstance(child, list | tuple):
            _fill(node, child)
        elif len(node):
            node[-1].tail = (node[-1].tail or "") + clean(child)
        else:
            node.text = (node.text or "") + clean(child)


def clean(value: Any) -> str:
    """Text that every document can hold."""
    return FORBIDDEN.sub("\ufffd", str(value))


def document(root: Node) -> str:
    """The whole page."""
    return "<!DOCTYPE html>\n" + ElementTree.tostring(root, encoding="unicode", method="html")
