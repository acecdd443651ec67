"""Pages for people: templates filled with numbers, pictures as SVG, images as PNG inside."""

import base64
import io
import warnings
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlclassify import displays
from tlclassify._checks.files import write_whole
from tlclassify._checks.parameters import import_extra
from tlclassify.evaluation import text

# Text stays text, so that it can be searched and read aloud.
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "tlclassify", "legend.facecolor": "none"}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_SMALLEST_SCALE, _PIXELS_PER_INCH = 0.7, 96


def build_page(template: str, path: str | Path | None, **content: Any) -> str:
    """Return a page that loads nothing from elsewhere, and write it where a path is given."""
    jinja2 = import_extra("jinja2", "plot", user="to_html")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tlclassify", "displays"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {"displays": displays, "text": text}
    environment.filters |= {
        "count": "{:,}".format,
        "draw": draw,
        "plain": text.to_plain,
        "png": _encode_png,
    }
    page: str = environment.get_template(template).render(content).lstrip()
    if path is not None:
        write_whole(path, page.encode())
    return page


def draw(display: Any, caption: str) -> str:
    """Return a display as SVG, in the page's own colour where it is black."""
    plt = import_extra("matplotlib.pyplot", "plot", user="to_html")
    content = io.StringIO()
    with plt.rc_context(_STYLE), warnings.catch_warnings():
        # Browsers have letters that Matplotlib's own font lacks.
        warnings.filterwarnings("ignore", "Glyph ", UserWarning)
        figure = display.plot().figure_
        try:
            figure.savefig(content, format="svg", transparent=True, metadata=_NO_METADATA)
        finally:
            plt.close(figure)
    _, _, svg = content.getvalue().partition("<svg")
    width = round(_SMALLEST_SCALE * _PIXELS_PER_INCH * figure.get_figwidth())
    label = escape(caption, quote=True)
    first = f'<svg role="img" aria-label="{label}" fill="currentColor" style="min-width: {width}px"'
    return first + svg.replace("#000000", "currentColor")


def _encode_png(pixels: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
