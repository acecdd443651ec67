"""How accurate several classifiers are, and at what price."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlclassify._checks.parameters import check_choice
from tlclassify.displays._drawing import (
    BLUE,
    CHARACTER_INCHES,
    panels,
    plain,
    settle,
    text_inches,
)
from tlclassify.displays._labels import place_labels
from tlclassify.evaluation import Comparison, EvaluationReport
from tlclassify.evaluation.comparison import ComparisonRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIMES = {
    "fit_seconds": "Time to fit (seconds)",
    "single_image_milliseconds": "Time for one image (milliseconds)",
}
_NAME_WIDTH, _LINE_WIDTH = 44, 22
_LARGEST_MARKER, _SMALLEST_MARKER = 330, 16  # areas in square typographic points
_PLOT_INCHES, _ROW_INCHES, _VALUES = 4.6, 0.34, "0.000 (0.000 to 0.000)"


class AccuracyAgainstTimeDisplay:
    """Accuracy, with its interval, against a time; the area of a marker grows with the parameters.

    The time axis is logarithmic where the times differ by more than a factor of 10.

    Parameters
    ----------
    rows : sequence of ComparisonRow
        As in `Comparison.rows`; those that failed are left out.
    time : {"fit_seconds", "single_image_milliseconds"}, default="fit_seconds"

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from tlclassify import evaluate
    >>> X, y = load_iris(return_X_y=True)
    >>> report = evaluate(GaussianNB().fit(X[::2], y[::2]), X[1::2], y[1::2])
    >>> row = ComparisonRow("bayes", report=report, fit_seconds=0.1)
    >>> AccuracyAgainstTimeDisplay([row]).plot().ax_.get_xlabel()
    'Time to fit (seconds)'
    """

    def __init__(self, rows: Sequence[ComparisonRow], *, time: str = "fit_seconds") -> None:
        self.time = check_choice("time", time, list(TIMES))
        self.rows = tuple(row for row, _ in succeeded(rows) if np.isfinite(getattr(row, time)))
        if not self.rows:
            raise ValueError(f"rows must know {time} of at least one classifier; received none.")

    @classmethod
    def from_comparison(
        cls, comparison: Comparison, *, time: str = "fit_seconds"
    ) -> "AccuracyAgainstTimeDisplay":
        """Return the display of a comparison; ValueError if all its rows failed."""
        return cls(comparison.rows, time=time)

    def plot(self, ax: "Axes | None" = None) -> "AccuracyAgainstTimeDisplay":
        """Draw on `ax`, or on a new figure; ImportError if matplotlib is missing."""
        (panel,) = panels(
            ax, n_panels=1, shape=(1, 1), figsize=(7.6, 4.6), display="AccuracyAgainstTimeDisplay"
        )
        times = np.array([getattr(row, self.time) for row in self.rows])
        accuracy, intervals, level = _accuracies(self.rows)
        sizes = np.array([row.n_parameters for row in self.rows], dtype=float)
        per_parameter = _LARGEST_MARKER / max(sizes.max(), 1)
        areas = np.maximum(sizes * per_parameter, _SMALLEST_MARKER)
        panel.vlines(times, *intervals.T, color="0.5", linewidth=1)
        panel.scatter(times, accuracy, s=areas, color=BLUE, edgecolors="white", zorder=3)
        panel.margins(x=0.2, y=0.12)
        panel.set(xlabel=TIMES[self.time], ylabel=f"Accuracy, with {100 * level:g}% intervals")
        panel.grid(alpha=0.3)
        _scale_times(panel, times)
        if sizes.max() > 0:
            _add_sizes(panel, sizes.max(), per_parameter)
        place_labels(
            panel,
            [_wrap(row.name) for row in self.rows],
            points=np.column_stack([times, accuracy]),
            radii=np.sqrt(areas) / 2,
            bars=intervals,
        )
        self.ax_, self.figure_ = panel, panel.figure
        return self


class AccuracyBarsDisplay:
    """Accuracies with their intervals as horizontal bars, the best above.

    Rows that failed stand below, each with its reason.

    Parameters
    ----------
    rows : sequence of ComparisonRow
        As in `Comparison.rows`.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from tlclassify import evaluate
    >>> X, y = load_iris(return_X_y=True)
    >>> report = evaluate(GaussianNB().fit(X[::2], y[::2]), X[1::2], y[1::2])
    >>> rows = [ComparisonRow("big", failure="no memory"), ComparisonRow("bayes", report=report)]
    >>> [label.get_text() for label in AccuracyBarsDisplay(rows).plot().ax_.get_yticklabels()]
    ['bayes', 'big']
    """

    def __init__(self, rows: Sequence[ComparisonRow]) -> None:
        done = sorted(succeeded(rows), key=lambda pair: -pair[1].accuracy)
        self.rows = tuple(row for row, _ in done)
        self.failed_rows = tuple(row for row in rows if row.report is None)

    @classmethod
    def from_comparison(cls, comparison: Comparison) -> "AccuracyBarsDisplay":
        """Return the display of a comparison; ValueError if all its rows failed."""
        return cls(comparison.rows)

    def plot(self, ax: "Axes | None" = None) -> "AccuracyBarsDisplay":
        """Draw on `ax`, or on a new figure; ImportError if matplotlib is missing."""
        names = [plain(row.name, _NAME_WIDTH) for row in (*self.rows, *self.failed_rows)]
        size = (
            _PLOT_INCHES + text_inches(names, fontsize=10) + text_inches([_VALUES], fontsize=9),
            _ROW_INCHES * len(names) + 0.9,
        )
        (panel,) = panels(ax, n_panels=1, shape=(1, 1), figsize=size, display="AccuracyBarsDisplay")
        accuracy, intervals, level = _accuracies(self.rows)
        places = np.arange(len(self.rows))
        panel.hlines(places, *intervals.T, color=BLUE, linewidth=2.5)
        panel.plot(accuracy, places, "o", color=BLUE, markersize=7)
        for i, (low, high) in enumerate(intervals):
            _write_beside(panel, i, f"{accuracy[i]:.3f} ({low:.3f} to {high:.3f})")
        panel.set(xlabel=f"Accuracy, with {100 * level:g}% intervals")
        panel.set_yticks(range(len(names)), labels=names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.grid(axis="x", alpha=0.3)
        if self.failed_rows:
            self._write_failures(panel)
        self.ax_, self.figure_ = panel, panel.figure
        return self

    def _write_failures(self, ax: "Axes") -> None:
        first = len(self.rows)
        ax.axhspan(first - 0.5, first + len(self.failed_rows) - 0.5, color="0.5", alpha=0.15)
        settle(ax)
        inches = ax.bbox.width / ax.figure.dpi
        for place, row in enumerate(self.failed_rows, start=first):
            reason = plain(f"failed: {row.failure}", int(inches / CHARACTER_INCHES / 8))
            _write_beside(ax, place, reason, side=0)


def succeeded(rows: Sequence[ComparisonRow]) -> list[tuple[ComparisonRow, EvaluationReport]]:
    """Return the rows that did not fail, each with its report."""
    done = [(row, row.report) for row in rows if row.report is not None]
    if not done:
        reasons = "; ".join(f"{row.name} ({row.failure})" for row in rows)
        raise ValueError(
            "rows must hold at least one classifier that did not fail; received "
            f"{reasons or 'none'}. Remove the cause and compare again."
        )
    return done


def _accuracies(rows: Sequence[ComparisonRow]) -> tuple[Any, Any, float]:
    """Return accuracies, their intervals and the level of these."""
    reports = [report for _, report in succeeded(rows)]
    accuracy = np.array([report.accuracy for report in reports])
    intervals = np.array([report.accuracy_interval for report in reports])
    return accuracy, intervals, reports[0].confidence_level


def _scale_times(ax: "Axes", times: Any) -> None:
    from matplotlib.ticker import LogLocator

    if times.min() > 0 and times.max() / times.min() > 10:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
    else:
        ax.set_xlim(left=max(ax.get_xlim()[0], 0))


def _add_sizes(ax: "Axes", largest: float, area_per_parameter: float) -> None:
    """Add a legend of round numbers of parameters."""
    from matplotlib.ticker import EngFormatter

    power = 10 ** math.floor(math.log10(largest))
    top = max(step * power for step in (1, 2, 5) if step * power <= largest)
    handles = [
        ax.scatter([], [], s=n * area_per_parameter, color=BLUE, label=EngFormatter()(n))
        for n in (top, top / 4, top / 20)
        if n >= 1
    ]
    ax.legend(
        handles=handles,
        title="Parameters",
        loc="upper left",
        bbox_to_anchor=(1, 1.02),
        frameon=False,
    )


def _wrap(name: str) -> str:
    return textwrap.fill(plain(name, _NAME_WIDTH), _LINE_WIDTH, break_long_words=False)


def _write_beside(ax: "Axes", place: float, text: str, *, side: int = 1) -> None:
    """Write on the line of a row, right of the frame or, for side 0, within it at the left."""
    ax.annotate(
        text,
        (side, place),
        xycoords=ax.get_yaxis_transform(),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=9 if side else 8,
    )
