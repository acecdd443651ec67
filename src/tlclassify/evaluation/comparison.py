"""Several classifiers on one task: the record that `compare_backbones` makes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tlclassify._checks.tables import Part, shown_by
from tlclassify.evaluation.report import EvaluationReport
from tlclassify.evaluation.text import to_plain, write_page


@dataclass(frozen=True, eq=False)
class ComparisonRow:
    """One classifier of a comparison: its report and its costs, or why it failed."""

    name: str
    report: EvaluationReport | None = None
    failure: str | None = None
    fit_seconds: float = math.nan
    extraction_images_per_second: float = math.nan
    prediction_images_per_second: float = math.nan
    single_image_milliseconds: float = math.nan
    n_parameters: int = 0
    file_bytes: int = 0


def _describe(comparison: "Comparison") -> list[Part]:
    parts: list[Part] = []
    if (report := comparison.rows[0].report) is not None:
        quality, cost = comparison_tables(comparison)
        judged = f"judged by the same {report.n_samples:,} images of {report.n_classes:,} classes"
        level = f"intervals and differences at {100 * comparison.confidence_level:g}%"
        parts = [f"{judged}\n{level}", quality, "", cost]
    failed = [f"{row.name} failed: {row.failure}" for row in comparison.rows if row.failure]
    return [*parts, *([""] if parts and failed else []), *failed]


@shown_by(_describe)
@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Several classifiers on one task, judged by the same images; `compare_backbones` makes it.

    `str(comparison)` is a table.

    Attributes
    ----------
    rows : tuple of ComparisonRow
        The most accurate first, those that failed last. Each has `name`, `report` or `failure`, and
        its costs, NaN or 0 where it failed: `fit_seconds`, `extraction_images_per_second` of the
        frozen part, of the whole model `prediction_images_per_second`,
        `single_image_milliseconds`, `n_parameters` and, as a ``.keras`` file, `file_bytes`.
    confidence_level : float in (0, 1), of intervals and of the statement that two rows differ
    p_values : ndarray (n_rows, n_rows), float64 in [0, 1]
        Of McNemar's exact test [1]_ between each two rows; NaN with a row that failed.
    adjusted_p_values : ndarray (n_rows, n_rows), float64 in [0, 1]
        The same after Holm's correction [2]_ for the number of pairs.

    References
    ----------
    .. [1] Q. McNemar (1947), Note on the sampling error of the difference between correlated
       proportions or percentages, Psychometrika 12(2).
    .. [2] S. Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Stat.
    """

    rows: tuple[ComparisonRow, ...]
    confidence_level: float
    p_values: NDArray[np.float64]
    adjusted_p_values: NDArray[np.float64]

    def __post_init__(self) -> None:
        self.p_values.flags.writeable = False
        self.adjusted_p_values.flags.writeable = False

    def __getitem__(self, name: str) -> ComparisonRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name!r} is none of the rows: {[row.name for row in self.rows]}.")

    @property
    def best(self) -> ComparisonRow | None:
        """The most accurate row; None if all failed."""
        return self.rows[0] if self.rows[0].report is not None else None

    def distinguishable(self, name: str, *, other: str | None = None) -> bool:
        """Return whether a row differs from another, or from the best, at the confidence level.

        Corrected for all pairs; a row that failed differs from none.
        """
        i = self.rows.index(self[name])
        j = 0 if other is None else self.rows.index(self[other])
        return bool(self.adjusted_p_values[i, j] <= 1 - self.confidence_level)

    def to_dict(self) -> dict[str, Any]:
        """Return all the numbers but those of single images, in types that `json.dumps` takes."""
        rows = [
            {**vars(row), "report": None if row.report is None else row.report.to_dict()}
            for row in self.rows
        ]
        numbers: dict[str, Any] = to_plain({**vars(self), "rows": rows})
        return numbers

    def to_markdown(self) -> str:
        """Return the rows as one Markdown table."""
        quality, cost = comparison_tables(self)
        table = [[*left, *right[1:]] for left, right in zip(quality, cost, strict=True)]
        n_numbers = len(table[0]) - 1
        table.insert(1, ["---", *["---:"] * n_numbers])
        failed = [row for row in self.rows if row.report is None]
        table += [[row.name, f"failed: {row.failure}", *[""] * (n_numbers - 1)] for row in failed]
        escaped = ([" ".join(cell.replace("|", r"\|").split()) for cell in row] for row in table)
        return "\n".join(f"| {' | '.join(row)} |" for row in escaped)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the comparison as one page for people; as `EvaluationReport.to_html`."""
        quality, cost = comparison_tables(self)
        failed = {row.name: row.failure for row in self.rows if row.failure}
        tables = {"quality": quality, "cost": cost, "failed": failed}
        return write_page("comparison.html", path, comparison=self, **tables)

    def __repr__(self) -> str:
        return f"Comparison({', '.join(row.name for row in self.rows)})"


def compare_reports(rows: Sequence[ComparisonRow], *, confidence_level: float) -> Comparison:
    """Return rows in order of accuracy, with the paired tests; reports must be of one test set."""
    ordered = sorted(rows, key=lambda row: math.inf if row.report is None else -row.report.accuracy)
    reports = [row.report for row in ordered if row.report is not None]
    p_values = np.full((len(ordered), len(ordered)), np.nan)
    np.fill_diagonal(p_values[: len(reports)], 1)
    adjusted = p_values.copy()
    tested = np.array([mcnemar(first, second) for first, second in combinations(reports, 2)])
    i, j = np.triu_indices(len(reports), k=1)
    p_values[i, j] = p_values[j, i] = tested
    adjusted[i, j] = adjusted[j, i] = adjust_holm(tested)
    return Comparison(tuple(ordered), float(confidence_level), p_values, adjusted)


def comparison_tables(comparison: Comparison) -> tuple[list[Sequence[str]], ...]:
    """Return the quality and cost of the rows that did not fail, each below a line of titles."""
    judged = ("", "accuracy", "interval", "log loss", "calibration error", "against the best")
    timed = ("fit, s", "extraction, images/s", "prediction, images/s", "one image, ms")
    quality: list[Sequence[str]] = [judged]
    cost: list[Sequence[str]] = [("", *timed, "parameters", "file, MB")]
    for i, row in enumerate(comparison.rows):
        if (report := row.report) is None:
            continue
        verdict = "the best"
        if i > 0:
            p = comparison.adjusted_p_values[0, i]
            different = "worse" if p <= 1 - comparison.confidence_level else "not distinguishable"
            verdict = f"{different}, {'p < 0.001' if p < 0.001 else f'p = {p:.3f}'}"
        interval = "{:.3f} to {:.3f}".format(*report.accuracy_interval)
        errors = (f"{report.log_loss:.3f}", f"{report.calibration_error:.3f}")
        quality.append((row.name, f"{report.accuracy:.3f}", interval, *errors, verdict))
        cells = (
            f"{row.fit_seconds:,.1f} {row.extraction_images_per_second:,.0f} "
            f"{row.prediction_images_per_second:,.0f} {row.single_image_milliseconds:.1f} "
            f"{row.n_parameters:,} {row.file_bytes / 1e6:,.1f}"
        )
        cost.append((row.name, *cells.split()))
    return quality, cost


def mcnemar(first: EvaluationReport, second: EvaluationReport) -> float:
    """Return the two-sided p-value of McNemar's exact test on the same images."""
    right, other = (report.y_true == report.y_pred for report in (first, second))
    n_first, n_second = int((right & ~other).sum()), int((other & ~right).sum())
    if n_first + n_second == 0:
        return 1.0
    return float(stats.binomtest(n_first, n_first + n_second).pvalue)


def adjust_holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the p-values (n_tests,) after Holm's correction."""
    order = np.argsort(p_values, kind="stable")
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(raised, 1)
    return adjusted
