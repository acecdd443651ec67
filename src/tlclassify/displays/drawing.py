"""What all pictures share: libraries imported late, colours, names, panels, and their pages."""

import base64
import io
import warnings
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlclassify._checks.files import write_whole
from tlclassify._checks.parameters import import_extra
from tlclassify.evaluation import text
from tlclassify.evaluation.comparison import ComparisonRow
from tlclassify.evaluation.report import EvaluationReport
from tlclassify.evaluation.text import short_name, to_plain

if TYPE_CHECKING:
    from matplotlib import axes

    Axes: TypeAlias = axes.Axes
else:  # matplotlib is imported when something is drawn
    Axes = Any

# Okabe and Ito's colours, which every colour vision tells apart; their yellow is too light to draw.
BLUE, VERMILION = "#0072B2", "#D55E00"
_COLORS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", "-.", (0, (1, 1)))
# Text stays text, so that it can be searched and read aloud.
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "tlclassify", "legend.facecolor": "none"}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_SMALLEST_SCALE, _PIXELS_PER_INCH = 0.7, 96


def curve_style(i: int) -> dict[str, Any]:
    """Return how the i-th of several curves is drawn, so that colour is not all that differs."""
    return {"color": _COLORS[i % len(_COLORS)], "linestyle": _LINES[i % len(_LINES)]}


def plain(name: object, width: int) -> str:
    """Return a name as text on one line, shortened, and safe from being read as TeX."""
    return short_name(str(to_plain(name)), width=width).replace("$", r"\$")


def text_inches(*texts: str, fontsize: float) -> float:
    """Return about how wide the longest text is."""
    return max(map(len, texts)) * fontsize * 0.6 / 72


def succeeded(rows: Sequence[ComparisonRow]) -> list[tuple[ComparisonRow, EvaluationReport]]:
    """Return the rows that did not fail, each with its report."""
    done = [(row, row.report) for row in rows if row.report is not None]
    if not done:
        reasons = "; ".join(f"{row.name} ({row.failure})" for row in rows) or "none"
        raise ValueError(
            f"rows must hold at least one classifier that did not fail; received {reasons}."
        )
    return done


def scale_by_decades(ax: Axes, form: str) -> None:
    """Put x on a logarithmic scale, with a number at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import LogLocator

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(form)
    ax.xaxis.set_minor_formatter("")


def settle(figure: Any) -> None:
    """Give panels and texts their final sizes."""
    figure.canvas.figure.draw_without_rendering()


def open_axes(
    display: object, ax: Any, *, n_panels: int = 1, **options: Any
) -> tuple[NDArray[Any], Any]:
    """Return the caller's Axes, or those of a new figure with options of `subplots`; the figure."""
    name = type(display).__name__
    plt = import_extra("matplotlib.pyplot", "plot", user=f"{name}.plot")
    if ax is None:
        figure, ax = plt.subplots(**{"layout": "constrained", **options})
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    axes = np.asarray(ax, dtype=object).ravel()
    if len(axes) < n_panels:
        raise ValueError(f"ax must hold {n_panels} Axes for {name}; received {len(axes)}.")
    for unused in axes[n_panels:]:
        unused.set_axis_off()
    return axes[:n_panels], axes[0].figure


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


def build_page(template: str, path: str | Path | None, **content: Any) -> str:
    """Return a page that loads nothing from elsewhere, and write it where a path is given."""

    def png(pixels: Any) -> str:
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, format="PNG")
        return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"

    from tlclassify import displays

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
