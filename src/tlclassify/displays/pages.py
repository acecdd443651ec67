"""Pages for people: templates filled with numbers, pictures as SVG, images as PNG inside."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlclassify._checks.files import write_whole
from tlclassify.displays.accuracies import AccuracyAgainstTimeDisplay, AccuracyBarsDisplay
from tlclassify.displays.confusion import ConfusionDisplay, ConfusionMatricesDisplay
from tlclassify.displays.drawing import import_extra
from tlclassify.displays.report_curves import (
    ClassCurvesDisplay,
    CoverageDisplay,
    ReliabilityDisplay,
)
from tlclassify.displays.training_curves import LearningCurvesDisplay
from tlclassify.evaluation import text
from tlclassify.evaluation.comparison import Comparison
from tlclassify.evaluation.report import N_THUMBNAILS, EvaluationReport

# Text stays text, so that it can be searched and read aloud.
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "tlclassify", "legend.facecolor": "none"}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_SMALLEST_SCALE, _PIXELS_PER_INCH = 0.7, 96


def build_report_page(report: EvaluationReport, *, path: str | Path | None = None) -> str:
    """Return the page of a report, and write it where a path is given."""
    gallery = {}
    for order in ("wrong", "uncertain"):
        rows = report.ranked_images(order)[:N_THUMBNAILS].tolist()
        gallery[order] = [row for row in rows if row in report.origin.thumbnails]
    kinds = ("roc", "precision_recall") if (report.support > 0).sum() > 1 else ()
    history = report.origin.history
    return _write_page(
        "report.html",
        path,
        report=report,
        classes=text.worst_classes(report).tolist(),
        confusion=_draw(ConfusionDisplay.from_report(report, normalize="true")),
        reliability=_draw(ReliabilityDisplay.from_report(report)),
        coverage=_draw(CoverageDisplay.from_report(report)),
        curves=[_draw(ClassCurvesDisplay.from_report(report, kind=kind)) for kind in kinds],
        training=_draw(LearningCurvesDisplay(history)) if history else None,
        gallery=gallery,
    )


def build_comparison_page(comparison: Comparison, *, path: str | Path | None = None) -> str:
    """Return the page of a comparison, and write it where a path is given."""
    done = [row for row in comparison.rows if row.report is not None]  # the others stand last
    content: dict[str, Any] = {}
    if done:
        content = {
            "quality": [(row.name, *text.quality_cells(comparison, row)) for row in done],
            "cost": [(row.name, *text.cost_cells(comparison, row)) for row in done],
            "bars": _draw(AccuracyBarsDisplay.from_comparison(comparison)),
            "times": _draw(AccuracyAgainstTimeDisplay.from_comparison(comparison)),
            "matrices": _draw(ConfusionMatricesDisplay.from_comparison(comparison)),
        }
    return _write_page(
        "comparison.html", path, comparison=comparison, text=text, done=done, **content
    )


def _draw(display: Any) -> Any:
    """Return a display as safe SVG, from the attributes of its first tag on."""
    plt = import_extra("matplotlib.pyplot", user="to_html")
    markupsafe = import_extra("markupsafe", user="to_html")
    content = io.StringIO()
    with plt.rc_context(_STYLE):
        figure = display.plot().figure_
        try:
            figure.savefig(content, format="svg", transparent=True, metadata=_NO_METADATA)
        finally:
            plt.close(figure)
    _, _, svg = content.getvalue().partition("<svg")
    width = round(_SMALLEST_SCALE * _PIXELS_PER_INCH * figure.get_figwidth())
    return markupsafe.Markup(f' style="min-width: {width}px"{svg}')


def _write_page(template: str, path: str | Path | None, **content: Any) -> str:
    """Return a page that loads nothing from elsewhere, and write it where a path is given."""
    jinja2 = import_extra("jinja2", user="to_html")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tlclassify", "displays"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"count": "{:,}".format, "png": _encode_png, "plain": text.to_plain}
    page: str = environment.get_template(template).render(content).lstrip()
    if path is not None:
        try:
            write_whole(path, page.encode())
        except OSError as error:
            reason = f"path: the page could not be written ({error.strerror or error})"
            step = "choose another path, or call to_html() for the text alone"
            raise OSError(error.errno, f"{reason}; {step}", str(path)) from error
    return page


def _encode_png(pixels: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
