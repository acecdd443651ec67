"""Pictures inside a page: displays as SVG that follows the page's colours, images as PNG."""

import base64
import io
import re
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlclassify.displays.document import element

# Text stays text, so that it can be searched and read aloud.
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "tlclassify", "legend.facecolor": "none"}
# What a picture's colours become, so that they suit a light and a dark page.
_COLOURS = {"#000000": "currentColor", "#0072b2": "var(--accent)"}
_COLOUR = re.compile("|".join(_COLOURS))
_SMALLEST_SCALE, _PIXELS_PER_INCH = 0.7, 96


def draw(display: Any, *, caption: str) -> Element:
    """Return a figure element with what a display plots; it scrolls where it would be tiny."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    with mpl.rc_context(_STYLE):
        figure = display.plot().figure_
        content = io.BytesIO()
        try:
            no_date = {"Date": None, "Creator": None}
            figure.savefig(content, format="svg", transparent=True, metadata=no_date)
        finally:
            plt.close(figure)
    svg = _plain_names(fromstring(content.getvalue()))  # noqa: S314 - written above
    svg.set("role", "img")
    svg.set("aria-label", caption)
    pixels = _PIXELS_PER_INCH * figure.get_figwidth()
    svg.set("style", f"min-width: {_SMALLEST_SCALE * pixels:.0f}px")
    scrolls = element("div", svg, class_="scroll")
    return element("figure", scrolls, element("figcaption", caption))


def _plain_names(node: Element) -> Element:
    """Return a copy without name spaces, which HTML does not write, and without metadata."""
    copy = Element(_local(node.tag))
    copy.text, copy.tail = node.text, node.tail
    for name, value in node.attrib.items():
        copy.set(_local(name), _COLOUR.sub(lambda found: _COLOURS[found[0]], value))
    copy.extend(_plain_names(child) for child in node if _local(child.tag) != "metadata")
    return copy


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def picture(pixels: NDArray[np.uint8], *, text: str) -> Element:
    """Return an image element that carries its pixels."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    data = base64.b64encode(content.getvalue()).decode()
    return element("img", src=f"data:image/png;base64,{data}", alt=text, loading="lazy")
