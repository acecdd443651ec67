"""The page of a comparison."""

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from tlclassify.displays import (
    AccuracyAgainstTimeDisplay,
    AccuracyBarsDisplay,
    ConfusionMatricesDisplay,
)
from tlclassify.displays.document import build_page, deliver, element, section, table
from tlclassify.displays.page_pictures import draw
from tlclassify.evaluation import Comparison
from tlclassify.evaluation.text import COST_TITLES, QUALITY_TITLES, cost_cells, quality_cells


def build_comparison_page(comparison: Comparison, *, path: str | Path | None = None) -> str:
    """Return the page of a comparison, and write it where a path is given."""
    done = [row for row in comparison.rows if row.report is not None]
    sections = [*_failures(comparison)]
    subtitle = f"{len(comparison.rows)} classifiers, all failed"
    if done:
        report = done[0].report
        assert report is not None
        subtitle = (
            f"{len(comparison.rows)} classifiers, judged by the same {report.n_samples:,} images "
            f"of {report.n_classes:,} classes, {report.origin.created}"
        )
        sections = [
            *(_accuracy(comparison), *_failures(comparison), _differences(comparison)),
            *(_cost(comparison), _confusion(comparison), _configuration(comparison)),
        ]
    return deliver(build_page("Comparison", subtitle, sections), path)


def _accuracy(comparison: Comparison) -> Element:
    rows = [(row.name, *quality_cells(comparison, row)) for row in comparison.rows if row.report]
    return section(
        "Accuracy",
        table(("", *QUALITY_TITLES), rows),
        draw(
            AccuracyBarsDisplay.from_comparison(comparison),
            caption=f"Accuracy with {100 * comparison.confidence_level:g}% intervals",
        ),
    )


def _failures(comparison: Comparison) -> list[Element]:
    rows = [(row.name, row.failure) for row in comparison.rows if row.failure]
    return [section("Failures", table(("", "Reason"), rows, kind="settings"))] if rows else []


def _differences(comparison: Comparison) -> Element:
    done = [i for i, row in enumerate(comparison.rows) if row.report is not None]
    names = [comparison.rows[i].name for i in done]
    values = comparison.adjusted_p_values[np.ix_(done, done)]
    rows = [
        (name, *("" if i == j else _chance(p) for j, p in enumerate(line)))
        for i, (name, line) in enumerate(zip(names, values, strict=True))
    ]
    note = (
        "P-values of McNemar's exact test on the images that only one of two classifiers got "
        "right, with Holm's correction for the number of pairs. At most "
        f"{1 - comparison.confidence_level:.2g} tells two classifiers apart."
    )
    return section("Differences", element("p", note), table(("", *names), rows))


def _chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _cost(comparison: Comparison) -> Element:
    rows = [(row.name, *cost_cells(comparison, row)) for row in comparison.rows if row.report]
    return section(
        "Cost",
        table(("", *COST_TITLES), rows),
        draw(
            AccuracyAgainstTimeDisplay.from_comparison(comparison),
            caption="Accuracy against the time of the fit",
        ),
    )


def _confusion(comparison: Comparison) -> Element:
    caption = "Confusion matrices: fractions of each true class"
    display = ConfusionMatricesDisplay.from_comparison(comparison)
    return section("Confusion", draw(display, caption=caption))


def _configuration(comparison: Comparison) -> Element:
    parts = []
    for row in comparison.rows:
        if row.report is not None:
            settings = {**row.report.origin.settings, **row.report.origin.versions}
            content = table(("", ""), settings.items(), kind="settings")
            parts.append(element("details", element("summary", row.name), content))
    return section("Configuration", *parts)
