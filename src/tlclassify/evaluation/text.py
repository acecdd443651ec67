"""Numbers as lines of text, and as what JSON knows."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.tables import Part, shown_by

if TYPE_CHECKING:
    from tlclassify.evaluation.report import EvaluationReport

_CLASSES_IN_FULL, _WORST_CLASSES, _NAME_WIDTH, _N_EPOCHS = 50, 20, 44, 40
_EPOCH_COLUMNS = "stage epoch loss accuracy val_loss val_accuracy learning_rate C seconds"


def short_name(name: str, *, width: int) -> str:
    """Return a text on one line, its middle replaced by "..." past `width` characters."""
    line = " ".join(name.split())
    head = (width - 3) * 2 // 3
    return line if len(line) <= width else f"{line[:head]}...{line[head + 3 - width :]}"


def worst_classes(report: "EvaluationReport") -> NDArray[np.intp]:
    """Return the classes that a table shows: all up to 50, else the 20 of lowest F1."""
    if report.n_classes <= _CLASSES_IN_FULL:
        return np.arange(report.n_classes)
    present = np.flatnonzero(report.support)
    return present[np.argsort(report.f1[present], kind="stable")][:_WORST_CLASSES]


def describe_report(report: "EvaluationReport") -> list[Part]:
    """Return the numbers of a report, and the table of its classes."""
    low, high = report.accuracy_interval
    interval = f"({100 * report.confidence_level:g}% interval {low:.3f} to {high:.3f})"
    size = f"n = {report.n_samples:,}, {report.n_classes:,} classes"
    numbers = {f"top-{k} accuracy": v for k, v in report.top_k_accuracy.items()}
    numbers.pop(f"top-{report.n_classes} accuracy", None)
    numbers |= {"log loss": report.log_loss, "calibration error": report.calibration_error}
    shown = worst_classes(report)
    title = "class" if len(shown) == report.n_classes else f"class ({len(shown)} of lowest F1)"
    scores = np.stack([report.precision, report.recall, report.f1], axis=1)
    rows = [
        *((report.class_names[i], scores[i], report.support[i]) for i in shown),
        ("macro average", report.macro_average, report.n_samples),
        ("weighted average", report.weighted_average, report.n_samples),
    ]
    table = [(title, *(name.rjust(9) for name in ("precision", "recall", "f1", "support")))]
    for name, values, support in rows:
        cells = (f"{value:.3f}" if support else "-" for value in values)
        table.append((short_name(name, width=_NAME_WIDTH), *cells, f"{support:,}"))
    lines = [
        f"{'accuracy':<18} {report.accuracy:.3f}  {interval}, {size}",
        *(f"{title:<18} {value:.3f}" for title, value in numbers.items()),
    ]
    return ["\n".join(lines), "", table]


def training_text(history: Sequence[Mapping[str, Any]]) -> str:
    """Return how each stage got its weights, such as "head solved exactly, C=0.01"."""
    ways = []
    for (stage, is_solved), group in groupby(
        history, lambda row: (row.get("stage", "network"), "C" in row)
    ):
        rows = list(group)
        epochs = f"{len(rows):,} epoch{'s' if len(rows) > 1 else ''}"
        way = f"solved exactly, C={rows[-1]['C']:.4g}" if is_solved else f"trained for {epochs}"
        ways.append(f"{stage} {way}")
    return "; ".join(ways)


def write_page(template: str, path: str | Path | None, **content: Any) -> str:
    """Return a record's page for people, and write it where a path is given."""
    # A door upwards, as below: displays read records.
    from tlclassify.displays.drawing import build_page

    return build_page(template, path, **content)


def draw_with(display: str, record: Any) -> str:
    """Return a record as SVG, drawn by the display of that name; ImportError without matplotlib."""
    from tlclassify import displays
    from tlclassify.displays.drawing import draw

    return draw(attrgetter(display)(displays)(record), display)


def _describe_history(history: Sequence[Mapping[str, Any]]) -> list[Part]:
    known = {name for row in history for name in row}
    names = [name for name in _EPOCH_COLUMNS.split() if name in known or not known]
    cells = [[row.get(name, "") for name in names] for row in history[-_N_EPOCHS:]]
    table = [[x if isinstance(x, str) else f"{x:.4g}" for x in row] for row in cells]
    left_out = len(history) - len(table)
    return [*([f"{left_out:,} rows before these"] if left_out else []), [names, *table]]


def _draw_history(history: Sequence[Mapping[str, Any]]) -> str:
    is_drawable = all({"loss", "accuracy"} <= row.keys() for row in history)
    by_epochs = any("C" not in row for row in history)
    return draw_with("LearningCurvesDisplay", history) if is_drawable and by_epochs else ""


@shown_by(_describe_history, draw=_draw_history)
class History(list[dict[str, Any]]):
    """Rows of training, a list as any other, which people see as a table."""


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
    if isinstance(value, str):  # names of files may hold what is no text
        return value.encode(errors="backslashreplace").decode()
    return None if value != value else value  # noqa: PLR0124 - NaN
