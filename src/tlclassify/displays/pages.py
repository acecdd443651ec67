"""Pages for people: templates filled with numbers, pictures as SVG, images as PNG inside."""

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from tlclassify import displays
from tlclassify._checks.files import write_whole
from tlclassify._checks.parameters import import_extra
from tlclassify.displays.drawing import draw
from tlclassify.evaluation import text


def build_page(template: str, path: str | Path | None, **content: Any) -> str:
    """Return a page that loads nothing from elsewhere, and write it where a path is given."""

    def png(pixels: Any) -> str:
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, format="PNG")
        return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"

    jinja2 = import_extra("jinja2", "plot", user="to_html")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tlclassify", "displays"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= {"displays": displays, "text": text}
    filters = {"count": "{:,}".format, "draw": draw, "plain": text.to_plain, "png": png}
    environment.filters |= filters
    page: str = environment.get_template(template).render(content).lstrip()
    if path is not None:
        write_whole(path, page.encode())
    return page
