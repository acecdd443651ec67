"""How accurate classifiers are, and at what price: of time, of labelled images."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.parameters import check_choice, import_extra
from tlclassify.displays.drawing import (
    BLUE,
    VERMILION,
    Axes,
    open_axes,
    plain,
    scale_by_decades,
    settle,
    succeeded,
    text_inches,
)
from tlclassify.evaluation.comparison import Comparison, ComparisonRow
from tlclassify.evaluation.learning_curve import LearningCurve

_TIMES = {
    "fit_seconds": "Time to fit (seconds)",
    "single_image_milliseconds": "Time for one image (milliseconds)",
}
_LARGEST_MARKER, _SMALLEST_MARKER = 330, 16  # areas in square typographic points


class AccuracyAgainstTimeDisplay:
    """Accuracy, with its interval, against a time; the area of a marker grows with the parameters.

    The time, "fit_seconds" or "single_image_milliseconds", is on a logarithmic axis where it
    differs by more than a factor of 10. Rows that failed are left out.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from tlclassify import evaluate
    >>> report = evaluate(DummyClassifier().fit([[0], [1]], [0, 1]), [[0], [1]], [0, 1])
    >>> row = ComparisonRow("dummy", report, fit_seconds=0.1)
    >>> AccuracyAgainstTimeDisplay([row]).plot().ax_.get_xlabel()
    'Time to fit (seconds)'
    """

    def __init__(self, rows: Sequence[ComparisonRow], *, time: str = "fit_seconds") -> None:
        self.time = check_choice("time", time, list(_TIMES))
        self.rows = tuple(row for row, _ in succeeded(rows) if np.isfinite(getattr(row, time)))
        if not self.rows:
            raise ValueError(f"rows must know {time} of at least one classifier; received none.")

    @classmethod
    def from_comparison(
        cls, comparison: Comparison, *, time: str = "fit_seconds"
    ) -> "AccuracyAgainstTimeDisplay":
        """Return the display of a comparison; ValueError if all its rows failed."""
        return cls(comparison.rows, time=time)

    def plot(self, ax: Axes | None = None) -> "AccuracyAgainstTimeDisplay":
        """Draw on `ax` or a new figure, `ax_` of `figure_`; needs matplotlib and adjustText."""
        (self.ax_,), self.figure_ = open_axes(self, ax, figsize=(7.6, 4.6))
        from matplotlib.ticker import EngFormatter

        times = np.array([getattr(row, self.time) for row in self.rows])
        accuracy, intervals, label = _measure(self.rows)
        sizes = np.array([row.n_parameters for row in self.rows])
        areas = np.maximum(sizes * (_LARGEST_MARKER / max(sizes.max(), 1)), _SMALLEST_MARKER)
        self.ax_.vlines(times, *intervals.T, color="0.5", linewidth=1)
        style = {"color": BLUE, "edgecolors": "white", "zorder": 3}
        markers = self.ax_.scatter(times, accuracy, s=areas, **style)
        self.ax_.margins(x=0.2, y=0.12)
        self.ax_.set(xlabel=_TIMES[self.time], ylabel=label)
        self.ax_.grid(alpha=0.3)
        if times.min() > 0 and times.max() / times.min() > 10:
            scale_by_decades(self.ax_, "{x:g}")
        else:
            self.ax_.set_xlim(left=max(self.ax_.get_xlim()[0], 0))
        if sizes.any():
            shown = np.quantile(sizes[sizes > 0], (0, 0.5, 1), method="nearest")
            for size in np.unique(shown):
                area = areas[sizes == size][0]
                self.ax_.scatter([], [], s=area, color=BLUE, label=EngFormatter(places=1)(size))
            place = {"loc": "upper left", "bbox_to_anchor": (1, 1.02)}
            self.ax_.legend(title="Parameters", frameon=False, **place)
        # Each name comes near its point, where it hides neither another nor what is drawn.
        adjust = import_extra("adjustText", "plot", user="AccuracyAgainstTimeDisplay.plot")
        names = [textwrap.fill(plain(row.name, 44), 22) for row in self.rows]
        texts = [
            self.ax_.text(x, y, name, fontsize=9, in_layout=False)
            for x, y, name in zip(times, accuracy, names, strict=True)
        ]
        settle(self.figure_)
        bars = np.linspace(intervals[:, 0], intervals[:, 1], num=9)
        adjust.adjust_text(
            texts,
            np.tile(times, len(bars)),
            bars.ravel(),
            objects=markers,
            ax=self.ax_,
            expand=(1.1, 1.4),
            force_text=(0.2, 0.4),
            min_arrow_len=12,
            iter_lim=200,  # a limit of time would give another picture on another machine
            arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.6},
        )
        return self


class AccuracyBarsDisplay:
    """Accuracies with their intervals as horizontal bars, the best above.

    Rows that failed stand below, each with its reason.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from tlclassify import evaluate
    >>> report = evaluate(DummyClassifier().fit([[0], [1]], [0, 1]), [[0], [1]], [0, 1])
    >>> rows = [ComparisonRow("big", failure="no memory"), ComparisonRow("small", report)]
    >>> [label.get_text() for label in AccuracyBarsDisplay(rows).plot().ax_.get_yticklabels()]
    ['small', 'big']
    """

    def __init__(self, rows: Sequence[ComparisonRow]) -> None:
        done = sorted(succeeded(rows), key=lambda pair: -pair[1].accuracy)
        self.rows = tuple(row for row, _ in done)
        self.failed_rows = tuple(row for row in rows if row.report is None)

    @classmethod
    def from_comparison(cls, comparison: Comparison) -> "AccuracyBarsDisplay":
        """Return the display of a comparison; ValueError if all its rows failed."""
        return cls(comparison.rows)

    def plot(self, ax: Axes | None = None) -> "AccuracyBarsDisplay":
        """Draw on `ax` or a new figure, `ax_` of `figure_`; ImportError without matplotlib."""
        names = [plain(row.name, 44) for row in (*self.rows, *self.failed_rows)]
        size = (6.2 + text_inches(*names, fontsize=10), 0.34 * len(names) + 0.9)
        (self.ax_,), self.figure_ = open_axes(self, ax, figsize=size)
        accuracy, intervals, label = _measure(self.rows)
        self.ax_.set_xlabel(label)
        self.ax_.grid(axis="x", alpha=0.3)
        places = np.arange(len(self.rows))
        self.ax_.hlines(places, *intervals.T, color=BLUE, linewidth=2.5)
        self.ax_.plot(accuracy, places, "o", color=BLUE, markersize=7)
        beside = {"transform": self.ax_.get_yaxis_transform(), "va": "center"}
        for i, (low, high) in enumerate(intervals):
            text = f"{accuracy[i]:.3f} ({low:.3f} to {high:.3f})"
            self.ax_.text(1.02, i, text, fontsize=9, **beside)
        self.ax_.set_yticks(range(len(names)), labels=names)
        self.ax_.set_ylim(len(names) - 0.5, -0.5)
        if self.failed_rows:
            self.ax_.axhspan(len(self.rows) - 0.5, len(names) - 0.5, color="0.5", alpha=0.15)
            settle(self.figure_)
            width = int(self.ax_.bbox.width / self.figure_.dpi / text_inches("0", fontsize=8))
            for place, row in enumerate(self.failed_rows, start=len(self.rows)):
                reason = plain(f"failed: {row.failure}", width)
                self.ax_.text(0.02, place, reason, fontsize=8, **beside)
        return self


class ImageCountDisplay:
    """Accuracy against labelled images a class, with the law fitted to it and what it forecasts.

    Intervals are drawn as bars; those of the forecasts, for twice and four times as many images,
    are dashed, as the law is beyond what was measured.

    Examples
    --------
    >>> sizes, accuracies = np.array([5, 10]), np.array([[0.6, 0.7], [0.7, 0.8]])
    >>> curve = LearningCurve(sizes, accuracies, n_test=90, n_classes=3, confidence_level=0.95)
    >>> ImageCountDisplay(curve).plot().ax_.get_xlabel()
    'Labelled images a class'
    """

    def __init__(self, curve: LearningCurve) -> None:
        self.curve = curve

    @classmethod
    def from_curve(cls, curve: LearningCurve) -> "ImageCountDisplay":
        """Return the display of what `learning_curve` found."""
        return cls(curve)

    def plot(self, ax: Axes | None = None) -> "ImageCountDisplay":
        """Draw on `ax` or a new figure, `ax_` of `figure_`; ImportError without matplotlib."""
        (self.ax_,), self.figure_ = open_axes(self, ax, figsize=(6.4, 4.2))
        curve, forecasts = self.curve, self.curve.forecasts
        sizes = curve.train_sizes
        style = {"color": BLUE, "linewidth": 2, "label": "measured"}
        self.ax_.vlines(sizes, *curve.accuracy_intervals.T, **style)
        self.ax_.plot(sizes, curve.mean_accuracies, "o", color=BLUE, markersize=6)
        if curve.law is not None:
            n = np.geomspace(sizes[0], forecasts[-1].n_images, 200)
            floor, scale, exponent = curve.law
            accuracy = 1 - floor - scale * n**-exponent
            inside = n <= sizes[-1]
            self.ax_.plot(n[inside], accuracy[inside], color="0.5", linewidth=1, zorder=1)
            self.ax_.plot(n[~inside], accuracy[~inside], "--", color=VERMILION, linewidth=1)
            beyond = {"color": VERMILION, "linestyle": "--", "label": "forecast"}
            n_images, middle, intervals = zip(*forecasts, strict=True)
            self.ax_.vlines(n_images, *np.transpose(intervals), **beyond)
            self.ax_.plot(n_images, middle, "D", color=VERMILION, fillstyle="none")
        scale_by_decades(self.ax_, "{x:,.0f}")
        label = f"Accuracy, with {100 * curve.confidence_level:g}% intervals"
        self.ax_.set(xlabel="Labelled images a class", ylabel=label)
        self.ax_.grid(alpha=0.3)
        self.ax_.legend(loc="lower right", frameon=False)
        return self


def _measure(rows: Sequence[ComparisonRow]) -> tuple[NDArray[Any], NDArray[Any], str]:
    """Return accuracies, their intervals and a name for the axis."""
    reports = [report for _, report in succeeded(rows)]
    intervals = np.array([report.accuracy_interval for report in reports])
    label = f"Accuracy, with {100 * reports[0].confidence_level:g}% intervals"
    return np.array([report.accuracy for report in reports]), intervals, label
