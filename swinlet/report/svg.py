"""matplotlib's SVG files as parts of an HTML page, and texts that fit in."""

import hashlib
import re
import unicodedata
from xml.etree import ElementTree

from swinlet.utils.names import printable


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def shortened(text: str, columns: int) -> str:
    """With an ellipsis in the middle if need be: names of runs often differ at their ends."""
    text = printable(text)
    if _columns(text) <= columns:
        return text
    head, tail = text[:columns], text[-columns:]
    while _columns(head) > columns // 2:
        head = head[:-1]
    while _columns(tail) > (columns - 1) // 2:
        tail = tail[1:]
    return f"{head}…{tail}"


def for_page(svg: bytes, title: str, colours: dict[str, str]) -> str:
    """Make matplotlib's file a part of a page.

    Args:
        svg: the file.
        title: for those who hear the page.
        colours: what replaces which colour.
    """
    root = ElementTree.fromstring(svg)
    prefix = "s" + hashlib.sha256(svg + repr(colours).encode()).hexdigest()[:10]
    used = dict.fromkeys(re.findall(r"(?:url\(#|href=\"#)(\w+)", svg.decode("utf-8")))
    ids = {f"#{old}": f"#{prefix}-{i}" for i, old in enumerate(used)}
    for element in list(root.iter()):
        for child in [child for child in element if child.tag.endswith("}style")]:
            element.remove(child)  # its rules would hold for the whole page
        element.tag = element.tag.rpartition("}")[2]
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            if name == "id":
                value = ids.get(f"#{value}", "")[1:]
            elif name == "style":
                value = re.sub(r"#\w+", lambda match: colours.get(match[0], match[0]), _without_font(value))
            elif name in ("d", "x", "y", "transform"):
                value = re.sub(r"-?\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}", value)
            else:
                value = re.sub(r"#\w+", lambda match: ids.get(match[0], match[0]), value)
            if value:
                element.set(name.rpartition("}")[2], value)
    view = root.attrib["viewBox"]
    root.attrib.clear()
    look = "stroke-linejoin: round; stroke-linecap: butt; overflow: visible"
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "viewBox": view, "width": "100%"}
    root.attrib |= {"role": "img", "aria-label": title, "style": look}
    return ElementTree.tostring(root, encoding="unicode")


def _without_font(css: str) -> str:
    """Without the font's name, so that the page's font holds. matplotlib before 3.11 writes all of a font at once."""
    css = re.sub(r"font: (?:(\d+) )?([\d.]+px)[^;]*", lambda m: f"font-weight: {m[1] or 400}; font-size: {m[2]}", css)
    return re.sub(r"font-family:[^;]*;? *", "", css)
