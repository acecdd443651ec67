"""The page of one report."""

from collections.abc import Iterable
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from tlclassify.displays import (
    ClassCurvesDisplay,
    ConfusionDisplay,
    CoverageDisplay,
    LearningCurvesDisplay,
    ReliabilityDisplay,
)
from tlclassify.displays.document import build_page, deliver, element, pair, section, table, tiles
from tlclassify.displays.page_pictures import draw, picture
from tlclassify.evaluation import EvaluationReport
from tlclassify.evaluation.report import N_THUMBNAILS
from tlclassify.evaluation.text import worst_classes


def build_report_page(report: EvaluationReport, *, path: str | Path | None = None) -> str:
    """Return the page of a report, and write it where a path is given."""
    sections = [
        _numbers(report),
        _classes(report),
        _confusion(report),
        _calibration(report),
        _curves(report),
        *_training(report),
        *_gallery(report),
        _configuration(report),
    ]
    subtitle = f"{report.origin.settings['classifier']}, {report.origin.created}"
    return deliver(build_page("Evaluation report", subtitle, sections), path)


def _numbers(report: EvaluationReport) -> Element:
    low, high = report.accuracy_interval
    level = f"{100 * report.confidence_level:g}%"
    values = [("Accuracy", f"{report.accuracy:.3f}", f"{level} interval {low:.3f} to {high:.3f}")]
    values += [
        (f"Top-{k} accuracy", f"{value:.3f}", "")
        for k, value in report.top_k_accuracy.items()
        if 1 < k < report.n_classes
    ]
    values += [
        ("Log loss", f"{report.log_loss:.3f}", "nats"),
        ("Calibration error", f"{report.calibration_error:.3f}", "15 bins"),
        ("Images", f"{report.n_samples:,}", f"{report.n_classes:,} classes"),
    ]
    return section("Numbers", tiles(values))


def _classes(report: EvaluationReport) -> Element:
    shown = worst_classes(report)
    rows = []
    for i in shown:
        cells = ["-"] * 5
        if report.support[i]:
            cells = [
                f"{report.precision[i]:.3f}",
                _interval(report.precision_intervals[i]),
                f"{report.recall[i]:.3f}",
                _interval(report.recall_intervals[i]),
                f"{report.f1[i]:.3f}",
            ]
        rows.append((report.class_names[i], *cells, f"{report.support[i]:,}"))
    level = f"{100 * report.confidence_level:g}% interval"
    titles = ("Class", "Precision", level, "Recall", level, "F1", "Images")
    parts = [table(titles, rows)]
    if len(shown) < report.n_classes:
        note = f"{len(shown)} of {report.n_classes:,} classes: those of lowest F1."
        parts.insert(0, element("p", note, class_="soft"))
    return section("Classes", *parts)


def _interval(ends: Iterable[float]) -> str:
    low, high = ends
    return "-" if np.isnan(low) else f"{low:.3f} to {high:.3f}"


def _confusion(report: EvaluationReport) -> Element:
    display = ConfusionDisplay.from_report(report, normalize="true")
    pairs = report.confused_pairs()
    rows = [(str(p.true), str(p.predicted), f"{p.n_images:,}", f"{p.fraction:.1%}") for p in pairs]
    titles = ("True class", "Predicted", "Images", "Of the true class")
    matrix = draw(display, caption="Confusion matrix: fractions of each true class")
    if not rows:
        return section("Confusion", matrix)
    confused = element(
        "div", element("h3", "Most confused"), table(titles, rows, kind="numbers pairs")
    )
    return section("Confusion", pair(matrix, confused))


def _calibration(report: EvaluationReport) -> Element:
    reliability = draw(
        ReliabilityDisplay.from_report(report),
        caption="Reliability: how often predictions of a given confidence are right",
    )
    coverage = draw(
        CoverageDisplay.from_report(report),
        caption="Coverage: the accuracy when only the surest images are answered",
    )
    return section("Calibration", pair(reliability, coverage))


def _curves(report: EvaluationReport) -> Element:
    present = report.support > 0
    if present.sum() < 2:
        note = "A curve needs images of a class and of another; these images are all of one."
        return section("Curves", element("p", note))
    roc = draw(
        ClassCurvesDisplay.from_report(report, kind="roc"),
        caption="Receiver operating characteristic, each class against all others",
    )
    precision_recall = draw(
        ClassCurvesDisplay.from_report(report, kind="precision_recall"),
        caption="Precision and recall, each class against all others",
    )
    return section("Curves", pair(roc, precision_recall))


def _training(report: EvaluationReport) -> list[Element]:
    if not report.origin.history:
        return []
    caption = "Loss and accuracy by epoch"
    return [
        section("Training", draw(LearningCurvesDisplay(report.origin.history), caption=caption))
    ]


def _gallery(report: EvaluationReport) -> list[Element]:
    parts: list[Element] = []
    for order, title in (("wrong", "Surest mistakes"), ("uncertain", "Least certain")):
        rows = report.ranked_images(order)[:N_THUMBNAILS].tolist()
        cards = [_card(report, row) for row in rows if row in report.origin.thumbnails]
        if cards:
            parts += [element("h3", title), element("div", *cards, class_="gallery")]
    return [section("Gallery", *parts)] if parts else []


def _card(report: EvaluationReport, row: int) -> Element:
    true, predicted = str(report.y_true[row]), str(report.y_pred[row])
    chance = f"{report.probabilities[row].max():.2f}"
    verdict = element("span", predicted, class_="right" if true == predicted else "wrong")
    caption = element(
        "figcaption", f"true {true}", element("br"), "predicted ", verdict, f" ({chance})"
    )
    text = f"image {row}: {true}, predicted {predicted}"
    return element("figure", picture(report.origin.thumbnails[row], text=text), caption)


def _configuration(report: EvaluationReport) -> Element:
    return section(
        "Configuration",
        table(("", ""), report.origin.settings.items(), kind="settings"),
        element("h3", "Versions"),
        table(("", ""), report.origin.versions.items(), kind="settings"),
    )
