"""What is gained by leaving out the images that a classifier is least sure of."""

from typing import TYPE_CHECKING

import numpy as np

from tlclassify.displays._drawing import BLUE, VERMILION, name_lines, panels
from tlclassify.evaluation import EvaluationReport
from tlclassify.evaluation.diagnosis import CoverageCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKED_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
_LEAST_SPAN = 0.1  # of accuracies, lest a flat curve fill the frame with noise


class CoverageDisplay:
    """Accuracy against the share of images answered, when the least sure ones are left out.

    At about every fifth of the images the threshold is written: the probability at or above which
    a prediction is given.

    Parameters
    ----------
    curve : CoverageCurve
        As `EvaluationReport.coverage_curve` returns it.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure

    Examples
    --------
    >>> from tlclassify.evaluation.diagnosis import coverage_curve
    >>> curve = coverage_curve(np.array([True, False]), np.array([0.9, 0.6]))
    >>> [text.get_text() for text in CoverageDisplay(curve).plot().ax_.texts]
    ['0.90', '0.60']
    """

    def __init__(self, curve: CoverageCurve) -> None:
        self.curve = curve

    @classmethod
    def from_report(cls, report: EvaluationReport) -> "CoverageDisplay":
        """Return the display of a report."""
        return cls(report.coverage_curve())

    def plot(self, ax: "Axes | None" = None) -> "CoverageDisplay":
        """Draw on `ax`, or on a new figure; ImportError if matplotlib is missing."""
        (panel,) = panels(
            ax, n_panels=1, shape=(1, 1), figsize=(6.0, 4.0), display="CoverageDisplay"
        )
        coverage, accuracy, thresholds = self.curve
        panel.plot(coverage, accuracy, color=BLUE)
        marked = np.unique(np.searchsorted(coverage, _MARKED_SHARES).clip(max=len(coverage) - 1))
        label = "lowest probability that is answered"
        panel.plot(coverage[marked], accuracy[marked], "o", color=VERMILION, label=label)
        for i in marked:
            digits = 2 if thresholds[i] < 0.99 else 4
            panel.annotate(
                f"{thresholds[i]:.{digits}f}",
                (coverage[i], accuracy[i]),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=9,
            )
        low = min(accuracy.min(), max(accuracy.max() - _LEAST_SPAN, 0))
        high = max(accuracy.max(), low + _LEAST_SPAN)
        span = high - low
        panel.set(xlim=(0, 1.12), ylim=(low - 0.05 * span, high + 0.12 * span))
        panel.set(xlabel="Share of images answered", ylabel="Accuracy")
        panel.grid(alpha=0.3)
        name_lines(panel)
        self.ax_, self.figure_ = panel, panel.figure
        return self
