"""One curve a class: true against false positives, or precision against recall."""

import heapq
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

from tlclassify._checks.parameters import check_choice, number_problem, raise_problems
from tlclassify.displays._drawing import (
    COLORS,
    LINES,
    draw_diagonal,
    panels,
    plain,
    text_inches,
)
from tlclassify.evaluation import EvaluationReport
from tlclassify.evaluation.diagnosis import ClassCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("roc", "precision_recall")
_AREAS = {"roc": "Area under the curve", "precision_recall": "Average precision"}
_SIDE_INCHES, _NAME_WIDTH, _N_CURVES = 4.4, 30, 10


class ClassCurvesDisplay:
    """A curve for each class against all others, its area in the legend right of the frame.

    Parameters
    ----------
    curves : mapping of str to ClassCurve
        By class name, as `EvaluationReport.roc_curve` or `precision_recall_curve` returns them.
    kind : {"roc", "precision_recall"}, default="roc"
        Which of the two they are.
    n_classes : int, optional
        How many classes the curves were chosen from, the lowest areas first. By default these are
        all.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    curve_displays_ : list of sklearn.metrics.RocCurveDisplay or PrecisionRecallDisplay
        What drew the curves, in the order of `curves`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from tlclassify import evaluate
    >>> X, y = load_digits(return_X_y=True)
    >>> report = evaluate(GaussianNB().fit(X[::2], y[::2]), X[1::2], y[1::2])
    >>> list(ClassCurvesDisplay.from_report(report, n_curves=2).curves)
    ['8', '9']
    """

    def __init__(
        self, curves: Mapping[str, ClassCurve], *, kind: str = "roc", n_classes: int | None = None
    ) -> None:
        self.curves = dict(curves)
        self.kind = check_choice("kind", kind, KINDS)
        self.n_classes = len(self.curves) if n_classes is None else n_classes
        if not self.curves:
            raise ValueError("curves must hold at least one curve; received none.")

    @classmethod
    def from_report(
        cls, report: EvaluationReport, *, kind: str = "roc", n_curves: int = _N_CURVES
    ) -> "ClassCurvesDisplay":
        """Return the display of the `n_curves` classes with the lowest area, in their order.

        Raises
        ------
        ValueError
            If the images are all of one class. A class without images has no curve.
        """
        check_choice("kind", kind, KINDS)
        raise_problems([number_problem("n_curves", n_curves, integer=True, low=1)])
        drawable = np.flatnonzero((report.support > 0) & (report.support < report.n_samples))
        if len(drawable) == 0:
            only = report.class_names[int(report.support.argmax())]
            raise ValueError(
                f"report must have images of two classes or more for these curves; all "
                f"{report.n_samples} are of {only!r}. Evaluate on images of more classes."
            )
        draw = report.roc_curve if kind == "roc" else report.precision_recall_curve
        labels = report.classes.tolist()
        # Only the chosen curves are kept: each has up to one point for every image.
        every = ((i, draw(labels[i])) for i in drawable.tolist())
        lowest = sorted(heapq.nsmallest(n_curves, every, key=lambda pair: pair[1].area), key=_first)
        curves = {report.class_names[i]: curve for i, curve in lowest}
        return cls(curves, kind=kind, n_classes=len(drawable))

    def plot(self, ax: "Axes | None" = None) -> "ClassCurvesDisplay":
        """Draw on `ax`, or on a new figure; ImportError if matplotlib is missing."""
        names = [plain(name, _NAME_WIDTH) for name in self.curves]
        title = _AREAS[self.kind]
        if len(names) < self.n_classes:
            title += f",\nthe {len(names)} lowest of {self.n_classes:,} classes"
        width = text_inches([*("0.000  " + name for name in names), *title.split("\n")], fontsize=9)
        (self.ax_,) = panels(
            ax,
            n_panels=1,
            shape=(1, 1),
            figsize=(_SIDE_INCHES + width + 0.7, _SIDE_INCHES),
            display="ClassCurvesDisplay",
        )
        if ax is None:
            self.ax_.set_anchor("W")  # the curves are square, the figure is not
        self.curve_displays_ = []
        for i, (name, curve) in enumerate(zip(names, self.curves.values(), strict=True)):
            display = _build_curve(curve, self.kind).plot(self.ax_)
            # Set on the line: how plot takes styles is not the same in all releases.
            display.line_.set(color=COLORS[i % len(COLORS)], linestyle=LINES[i % len(LINES)])
            display.line_.set_label(f"{curve.area:.3f}  {name}")
            self.curve_displays_.append(display)
        if self.kind == "roc":
            draw_diagonal(self.ax_)
            self.ax_.set(xlabel="False positive rate", ylabel="True positive rate")
        self.ax_.grid(alpha=0.3)
        lines = [display.line_ for display in self.curve_displays_]
        self.ax_.legend(
            handles=lines,
            title=title,
            fontsize=9,
            title_fontsize=9,
            alignment="left",
            loc="upper left",
            bbox_to_anchor=(1.01, 1.02),
            frameon=False,
        )
        self.figure_ = self.ax_.figure
        return self


def _first(pair: tuple[int, ClassCurve]) -> int:
    return pair[0]


def _build_curve(curve: ClassCurve, kind: str) -> RocCurveDisplay | PrecisionRecallDisplay:
    if kind == "roc":
        return RocCurveDisplay(fpr=curve.x, tpr=curve.y)
    return PrecisionRecallDisplay(recall=curve.x, precision=curve.y)
