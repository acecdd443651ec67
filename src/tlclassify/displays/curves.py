"""Curves: of a report, class by class and bin by bin; of a training, by epoch and by rate."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from tlclassify._checks.parameters import COUNT, check_choice, check_parameters
from tlclassify.displays import drawing
from tlclassify.displays.drawing import BLUE, VERMILION, Axes, open_axes, plain, text_inches
from tlclassify.evaluation.diagnosis import N_BINS, ClassCurve, CoverageCurve, Reliability
from tlclassify.evaluation.report import EvaluationReport

_KINDS = {
    "roc": ("Area under the curve", "False positive rate", "True positive rate", "default"),
    "precision_recall": ("Average precision", "Recall", "Precision", "steps-post"),
}
_DIAGONAL = {"color": "0.5", "linewidth": 1, "linestyle": ":", "zorder": 1}
_ABOVE = {"loc": "lower left", "bbox_to_anchor": (0, 1), "frameon": False, "alignment": "left"}
_MARKED_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
_LEAST_SPAN = 0.1  # of accuracies, lest a flat curve fill the frame with noise
_BINS_WITH_NUMBERS, _LARGEST_NUMBER, _LIMITS, _MARKERS = 20, 10_000, (-0.02, 1.02), "osD^v"


class ClassCurvesDisplay:
    """A curve for each class against all others, its area in the legend right of the frame.

    Parameters
    ----------
    curves : mapping of class names to ClassCurve
    kind : {"roc", "precision_recall"}
    n_classes : int, of how many these are the lowest areas; by default there are no others

    Examples
    --------
    >>> curve = ClassCurve(np.array([0, 1]), np.array([0, 1]), np.array([1, 0]), area=0.5)
    >>> ClassCurvesDisplay({"cat": curve}).plot().ax_.get_xlabel()
    'False positive rate'
    """

    def __init__(
        self, curves: Mapping[str, ClassCurve], *, kind: str = "roc", n_classes: int | None = None
    ) -> None:
        self.curves = dict(curves)
        self.kind = check_choice("kind", kind, list(_KINDS))
        self.n_classes = len(self.curves) if n_classes is None else n_classes
        if not self.curves:
            raise ValueError(
                "curves must hold at least one curve, of a class with images beside those of other "
                "classes; received none. Evaluate on images of more classes."
            )

    @classmethod
    def from_report(
        cls, report: EvaluationReport, *, kind: str = "roc", n_curves: int = 10
    ) -> "ClassCurvesDisplay":
        """Return the display of the classes with images and the lowest areas, in their order."""
        check_parameters(("kind", kind, list(_KINDS)), ("n_curves", n_curves, COUNT))
        drawable = np.flatnonzero((report.support > 0) & (report.support < report.n_samples))
        measure = report.roc_curve if kind == "roc" else report.precision_recall_curve
        labels = report.classes.tolist()
        # Only the chosen curves are kept: each has up to one point for every image.
        areas = [measure(labels[i]).area for i in drawable]
        lowest = np.sort(drawable[np.argsort(areas, kind="stable")[:n_curves]])
        curves = {report.class_names[i]: measure(labels[i]) for i in lowest}
        return cls(curves, kind=kind, n_classes=len(drawable))

    def plot(self, ax: Axes | None = None) -> "ClassCurvesDisplay":
        """Draw on `ax` or a new figure, `ax_` of `figure_`; ImportError without matplotlib."""
        title, across, up, steps = _KINDS[self.kind]
        if len(self.curves) < self.n_classes:
            title += f",\nthe {len(self.curves)} lowest of {self.n_classes:,} classes"
        labels = [f"{curve.area:.3f}  {plain(name, 30)}" for name, curve in self.curves.items()]
        width = text_inches(*labels, *title.split("\n"), fontsize=9)
        (self.ax_,), self.figure_ = open_axes(self, ax, figsize=(5.1 + width, 4.4))
        if ax is None:
            self.ax_.set_anchor("W")  # the curves are square, the figure is not
        for i, (label, curve) in enumerate(zip(labels, self.curves.values(), strict=True)):
            self.ax_.plot(curve.x, curve.y, label=label, drawstyle=steps, **drawing.curve_style(i))
        if self.kind == "roc":
            self.ax_.plot([0, 1], [0, 1], **_DIAGONAL)
        self.ax_.set(xlabel=across, ylabel=up, xlim=_LIMITS, ylim=_LIMITS, aspect="equal")
        self.ax_.grid(alpha=0.3)
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02), "alignment": "left"}
        self.ax_.legend(title=title, frameon=False, fontsize=9, title_fontsize=9, **place)
        return self


@dataclass(eq=False, repr=False)
class CoverageDisplay:
    """Accuracy against the share of images answered, when the least sure ones are left out.

    At about every fifth of the images the threshold is written: the probability at or above which
    a prediction is given.

    Examples
    --------
    >>> curve = CoverageCurve(np.array([0.5, 1]), np.array([1, 0.5]), np.array([0.9, 0.6]))
    >>> [text.get_text() for text in CoverageDisplay(curve).plot().ax_.texts]
    ['0.90', '0.60']
    """

    curve: CoverageCurve

    @classmethod
    def from_report(cls, report: EvaluationReport) -> "CoverageDisplay":
        """Return the display of a report."""
        return cls(report.coverage_curve())

    def plot(self, ax: Axes | None = None) -> "CoverageDisplay":
        """Draw on `ax` or a new figure, `ax_` of `figure_`; ImportError without matplotlib."""
        (self.ax_,), self.figure_ = open_axes(self, ax, figsize=(6.0, 4.0))
        coverage, accuracy, thresholds = self.curve
        self.ax_.plot(coverage, accuracy, color=BLUE)
        marked = np.unique(np.searchsorted(coverage, _MARKED_SHARES).clip(max=len(coverage) - 1))
        label = "lowest probability that is answered"
        self.ax_.plot(coverage[marked], accuracy[marked], "o", color=VERMILION, label=label)
        for i in marked:
            text = f"{thresholds[i]:.{2 if thresholds[i] < 0.99 else 4}f}"
            point = (coverage[i], accuracy[i])
            self.ax_.annotate(text, point, (4, 4), textcoords="offset points", fontsize=9)
        low = min(accuracy.min(), max(accuracy.max() - _LEAST_SPAN, 0))
        high = max(accuracy.max(), low + _LEAST_SPAN)
        span = high - low
        self.ax_.set(xlim=(0, 1.12), ylim=(low - 0.05 * span, high + 0.12 * span))
        self.ax_.set(xlabel="Share of images answered", ylabel="Accuracy")
        self.ax_.grid(alpha=0.3)
        self.ax_.legend(**_ABOVE)
        return self


class ReliabilityDisplay:
    """Accuracy by confidence, with intervals, above the number of images in each bin.

    On the diagonal a classifier is right as often as it says; below, it is too sure. Bins without
    images are left out. The legend gives the expected calibration error.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from tlclassify import evaluate
    >>> report = evaluate(DummyClassifier().fit([[0], [1]], [0, 1]), [[0], [1]], [0, 1])
    >>> ReliabilityDisplay.from_report(report).plot().ax_[0].get_ylabel()
    'Accuracy'
    """

    def __init__(self, reliabilities: Mapping[str, Reliability]) -> None:
        self.reliabilities = dict(reliabilities)
        if not self.reliabilities:
            raise ValueError("reliabilities must hold at least one Reliability; received none.")

    @classmethod
    def from_report(cls, report: EvaluationReport, *, n_bins: int = N_BINS) -> "ReliabilityDisplay":
        """Return the display of one report."""
        return cls({"": report.reliability(n_bins)})

    @classmethod
    def from_reports(
        cls, reports: Mapping[str, EvaluationReport], *, n_bins: int = N_BINS
    ) -> "ReliabilityDisplay":
        """Return the display of several reports by name, as before and after a calibration."""
        return cls({name: report.reliability(n_bins) for name, report in reports.items()})

    def plot(self, ax: Sequence[Axes] | None = None) -> "ReliabilityDisplay":
        """Draw on two Axes or a new figure, `ax_` of `figure_`; ImportError without matplotlib."""
        grid = {"nrows": 2, "figsize": (5.0, 6.4), "height_ratios": (3.6, 1)}
        self.ax_, self.figure_ = open_axes(self, ax, n_panels=2, **grid)
        above, below = self.ax_
        above.plot([0, 1], [0, 1], **_DIAGONAL)
        for i, (name, bins) in enumerate(self.reliabilities.items()):
            style, full = drawing.curve_style(i), bins.n_images > 0
            accuracy = bins.accuracy[full]
            low, high = bins.accuracy_intervals[full].T
            # Ends may miss 0 and 1 by a rounding error, and no bar has a length below 0.
            lengths = np.maximum([accuracy - low, high - accuracy], 0)
            label = f"{bins.error:.3f}  {plain(name, 30)}".rstrip()
            marks = {"marker": _MARKERS[i % len(_MARKERS)], "markersize": 5, "capsize": 3}
            points = (bins.confidence[full], accuracy, lengths)
            above.errorbar(*points, label=label, elinewidth=1, **marks, **style)
            below.stairs(bins.n_images, bins.edges, fill=True, alpha=0.25, **style)
            below.stairs(bins.n_images, bins.edges, **style)
        above.legend(title="Expected calibration error", **_ABOVE)
        above.set(ylabel="Accuracy", xlim=_LIMITS, ylim=_LIMITS, xticklabels=[])
        above.grid(alpha=0.3)
        below.set(xlabel="Probability of the predicted label", ylabel="Images", xlim=_LIMITS)
        below.get_yaxis().get_major_locator().set_params(integer=True, nbins=4)
        if len(self.reliabilities) == 1 and len(bins.n_images) <= _BINS_WITH_NUMBERS:
            below.margins(y=0.2)
            centers = (bins.edges[:-1] + bins.edges[1:]) / 2
            place = {"textcoords": "offset points", "ha": "center", "fontsize": 6.5}
            for j in np.flatnonzero(bins.n_images):
                number = int(bins.n_images[j])
                text = f"{number / 1000:.0f}k" if number >= _LARGEST_NUMBER else f"{number:d}"
                below.annotate(text, (centers[j], number), (0, 1), **place)
        return self


class LearningCurvesDisplay:
    """Loss and accuracy by epoch, training and validation, with the stages marked.

    Each row of the history has `loss` and `accuracy`, and may have `val_loss`, `val_accuracy` and
    `stage`, as in `TransferClassifier.history_`.

    Examples
    --------
    >>> history = [{"stage": "head", "loss": 1.0, "accuracy": 0.5, "val_loss": 0.8}]
    >>> LearningCurvesDisplay(history).plot().ax_[0].get_ylabel()
    'Loss'
    """

    def __init__(self, history: Sequence[Mapping[str, Any]]) -> None:
        self.history = [dict(row) for row in history]
        bad = [list(row) for row in self.history if not {"loss", "accuracy"} <= set(row)]
        if bad or not self.history:
            what = f"an epoch with {bad[0]}" if bad else "no epoch"
            raise ValueError(f"history must hold loss and accuracy of each epoch; received {what}.")

    @classmethod
    def from_estimator(cls, clf: Any) -> "LearningCurvesDisplay":
        """Return the display of a fitted classifier's `history_`."""
        check_is_fitted(clf, "history_")
        return cls(clf.history_)

    def plot(self, ax: Sequence[Axes] | None = None) -> "LearningCurvesDisplay":
        """Draw on two Axes or a new figure, `ax_` of `figure_`; ImportError without matplotlib."""
        self.ax_, self.figure_ = open_axes(self, ax, n_panels=2, ncols=2, figsize=(10.0, 4.0))
        n_epochs = len(self.history)
        stages = [str(row.get("stage", "")) for row in self.history]
        starts = [i for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
        looks = (("", "Training", BLUE, "-o"), ("val_", "Validation", VERMILION, "--s"))
        size = 4 if n_epochs <= 40 else 0
        for panel, key in zip(self.ax_, ("loss", "accuracy"), strict=True):
            for prefix, label, color, style in looks:
                values = np.array([row.get(prefix + key) for row in self.history], dtype=float)
                if np.isfinite(values).any():
                    epochs = np.arange(1, n_epochs + 1)
                    panel.plot(epochs, values, style, color=color, label=label, markersize=size)
            panel.set(xlabel="Epoch", ylabel=key.capitalize(), xlim=(0.5, n_epochs + 0.5))
            panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            panel.grid(alpha=0.3)
            panel.legend()
            per_inch = n_epochs / (panel.bbox.width / panel.figure.dpi)
            place = {"xycoords": panel.get_xaxis_transform(), "textcoords": "offset points"}
            ends: list[float] = []  # where the last name of each line of names ends, in epochs
            for start in starts:
                if start:
                    panel.axvline(start + 0.5, color="0.35", linewidth=1, linestyle=":")
                name = plain(stages[start], 20)
                line = next((i for i, end in enumerate(ends) if end <= start), len(ends))
                ends[line : line + 1] = [start + text_inches(f"{name} ", fontsize=9) * per_inch]
                panel.annotate(name, (start + 0.5, 1), (1, 2 + 11 * line), fontsize=9, **place)
        return self


@dataclass(eq=False, repr=False)
class LearningRateDisplay:
    """Loss (n_steps,) by learning rate (n_steps,), with the suggested one marked.

    Examples
    --------
    >>> display = LearningRateDisplay([1e-3, 1e-2], losses=[2.0, 1.0], suggestion=1e-3)
    >>> display.plot().ax_.get_xlabel()
    'Learning rate'
    """

    learning_rates: ArrayLike
    _: KW_ONLY
    losses: ArrayLike
    suggestion: float

    @classmethod
    def from_search(cls, search: Any) -> "LearningRateDisplay":
        """Return the display of what `find_learning_rate` found."""
        return cls(search.learning_rates, losses=search.losses, suggestion=search.suggestion)

    def plot(self, ax: Axes | None = None) -> "LearningRateDisplay":
        """Draw on `ax` or a new figure, `ax_` of `figure_`; ImportError without matplotlib."""
        (self.ax_,), self.figure_ = open_axes(self, ax, figsize=(6.0, 4.0))
        self.ax_.plot(self.learning_rates, self.losses, color=BLUE)
        self.ax_.axvline(self.suggestion, color=VERMILION, linestyle="--")
        label = f"suggestion: {self.suggestion:.1e}"
        self.ax_.set(xscale="log", xlabel="Learning rate", ylabel="Loss (smoothed)", title=label)
        self.ax_.grid(alpha=0.3)
        return self
