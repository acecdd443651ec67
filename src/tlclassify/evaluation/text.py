"""Reports and comparisons as lines of text, and as what JSON knows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tlclassify.evaluation.comparison import Comparison, ComparisonRow
    from tlclassify.evaluation.report import EvaluationReport

QUALITY_TITLES = ("accuracy", "interval", "log loss", "calibration error", "against the best")
COST_TITLES = (
    *("fit, s", "extraction, images/s", "prediction, images/s", "one image, ms"),
    *("parameters", "file, MB"),
)
_CLASSES_IN_FULL, _WORST_CLASSES, _NAME_WIDTH = 50, 20, 44


def short_name(name: str, *, width: int) -> str:
    """Return a text on one line, its middle replaced by "..." past `width` characters."""
    line = " ".join(name.split())
    head = (width - 3) * 2 // 3
    return line if len(line) <= width else f"{line[:head]}...{line[head + 3 - width :]}"


def report_lines(report: "EvaluationReport") -> list[str]:
    """Return the table that `str(report)` is."""
    low, high = report.accuracy_interval
    interval = f"({100 * report.confidence_level:g}% interval {low:.3f} to {high:.3f})"
    size = f"n = {report.n_samples:,}, {report.n_classes:,} classes"
    numbers = {
        f"top-{k} accuracy": v for k, v in report.top_k_accuracy.items() if k < len(report.classes)
    }
    numbers |= {"log loss": report.log_loss, "calibration error": report.calibration_error}
    return [
        f"{'accuracy':<18} {report.accuracy:.3f}  {interval}, {size}",
        *(f"{title:<18} {value:.3f}" for title, value in numbers.items()),
        "",
        *_class_table(report),
    ]


def worst_classes(report: "EvaluationReport") -> NDArray[np.intp]:
    """Return the classes that a table shows: all up to 50, else the 20 of lowest F1."""
    if report.n_classes <= _CLASSES_IN_FULL:
        return np.arange(report.n_classes)
    present = np.flatnonzero(report.support)
    return present[np.argsort(report.f1[present], kind="stable")][:_WORST_CLASSES]


def _class_table(report: "EvaluationReport") -> list[str]:
    shown = worst_classes(report)
    title = "class" if len(shown) == report.n_classes else f"class ({len(shown)} of lowest F1)"
    scores = np.stack([report.precision, report.recall, report.f1], axis=1)
    rows = [
        *((report.class_names[i], scores[i], report.support[i]) for i in shown),
        ("macro average", report.macro_average, report.n_samples),
        ("weighted average", report.weighted_average, report.n_samples),
    ]
    table: list[tuple[str, ...]] = [(title, "precision", "recall", "f1", "support")]
    for name, values, support in rows:
        cells = (f"{value:.3f}" if support else "-" for value in values)
        table.append((short_name(name, width=_NAME_WIDTH), *cells, f"{support:,}"))
    return _align(table, width=9)


def comparison_lines(comparison: "Comparison") -> list[str]:
    """Return the two tables that `str(comparison)` is: how good, and at what price."""
    done = [(row, row.report) for row in comparison.rows if row.report is not None]
    lines = []
    if done:
        report = done[0][1]
        lines = [
            f"judged by the same {report.n_samples:,} images of {report.n_classes:,} classes",
            f"intervals and differences at {100 * comparison.confidence_level:g}%",
        ]
        for titles, cells in ((QUALITY_TITLES, quality_cells), (COST_TITLES, cost_cells)):
            table = [("", *titles), *((row.name, *cells(comparison, row)) for row, _ in done)]
            lines += [*_align(table), ""]
    lines += [f"{row.name} failed: {row.failure}" for row in comparison.rows if row.failure]
    return lines if lines[-1] else lines[:-1]


def comparison_markdown(comparison: "Comparison") -> str:
    """Return one Markdown table with a line for each row, failed ones included."""
    titles = ("", *QUALITY_TITLES, *COST_TITLES)
    table = [titles, ("---", *("---:" for _ in titles[1:]))]
    for row in comparison.rows:
        cells = [f"failed: {row.failure}", *[""] * (len(titles) - 2)]
        if row.report is not None:
            cells = [*quality_cells(comparison, row), *cost_cells(comparison, row)]
        table.append((row.name, *cells))
    escaped = ([" ".join(cell.replace("|", r"\|").split()) for cell in line] for line in table)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def quality_cells(comparison: "Comparison", row: "ComparisonRow") -> tuple[str, ...]:
    """Return what stands under `QUALITY_TITLES`; nothing for a row that failed."""
    report = row.report
    if report is None:
        return ()
    low, high = report.accuracy_interval
    verdict = "the best"
    if row is not comparison.rows[0]:
        p = comparison.adjusted_p_values[0, comparison.rows.index(row)]
        different = "worse" if p <= 1 - comparison.confidence_level else "not distinguishable"
        verdict = f"{different}, {'p < 0.001' if p < 0.001 else f'p = {p:.3f}'}"
    numbers = (report.log_loss, report.calibration_error)
    return (
        *(f"{report.accuracy:.3f}", f"{low:.3f} to {high:.3f}"),
        *(f"{number:.3f}" for number in numbers),
        verdict,
    )


def cost_cells(_: "Comparison", row: "ComparisonRow") -> tuple[str, ...]:
    """Return what stands under `COST_TITLES` for a row that did not fail."""
    return (
        f"{row.fit_seconds:,.1f}",
        f"{row.extraction_images_per_second:,.0f}",
        f"{row.prediction_images_per_second:,.0f}",
        f"{row.single_image_milliseconds:.1f}",
        f"{row.n_parameters:,}",
        f"{row.file_bytes / 1e6:,.1f}",
    )


def _align(table: Sequence[Sequence[str]], *, width: int = 0) -> list[str]:
    """Return lines with the first column set left and the others right, at least `width` wide."""
    widths = [max(width, *map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        cells = (cell.rjust(n) for cell, n in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return lines


def to_plain(value: Any) -> Any:
    """Return a value in types that `json.dumps` takes; what is not a number is None."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and np.isfinite(value).all():
        return value.tolist()
    if isinstance(value, list | tuple | np.ndarray):
        return [to_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return None if value != value else value  # noqa: PLR0124 - NaN
