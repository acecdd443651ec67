"""How far a classifier's probabilities can be believed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tlclassify.displays._drawing import (
    COLORS,
    LINES,
    MARKERS,
    draw_diagonal,
    name_lines,
    panels,
    plain,
)
from tlclassify.evaluation import EvaluationReport
from tlclassify.evaluation.diagnosis import N_BINS, Reliability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_BINS_WITH_NUMBERS, _LARGEST_NUMBER = 20, 10_000
_LIMITS = (-0.02, 1.02)


class ReliabilityDisplay:
    """Accuracy by confidence, with intervals, above the number of images in each bin.

    On the diagonal a classifier is right as often as it says; below, it is too sure. Bins without
    images are left out. The legend gives the expected calibration error.

    Parameters
    ----------
    reliabilities : mapping of str to Reliability
        By name, as `EvaluationReport.reliability` returns them; a single one may be called "".

    Attributes
    ----------
    ax_ : ndarray of two matplotlib Axes, accuracy and number of images
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from tlclassify import evaluate
    >>> X, y = load_digits(return_X_y=True)
    >>> report = evaluate(GaussianNB().fit(X[::2], y[::2]), X[1::2], y[1::2])
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

    def plot(self, ax: "Sequence[Axes] | None" = None) -> "ReliabilityDisplay":
        """Draw on two Axes, or on a new figure; ImportError if matplotlib is missing."""
        self.ax_ = panels(
            ax,
            n_panels=2,
            shape=(2, 1),
            figsize=(5.0, 6.4),
            gridspec={"height_ratios": (3.6, 1)},
            display="ReliabilityDisplay",
        )
        above, below = self.ax_
        draw_diagonal(above)
        for i, (name, reliability) in enumerate(self.reliabilities.items()):
            style = {"color": COLORS[i % len(COLORS)], "linestyle": LINES[i % len(LINES)]}
            marker = MARKERS[i % len(MARKERS)]
            label = f"{reliability.error:.3f}  {plain(name, 30)}".rstrip()
            _draw_accuracy(above, reliability, label=label, marker=marker, **style)
            below.stairs(reliability.n_images, reliability.edges, fill=True, alpha=0.25, **style)
            below.stairs(reliability.n_images, reliability.edges, **style)
        name_lines(above, title="Expected calibration error")
        above.set(ylabel="Accuracy", xlim=_LIMITS, ylim=_LIMITS, xticklabels=[])
        above.grid(alpha=0.3)
        below.set(xlabel="Probability of the predicted label", ylabel="Images", xlim=_LIMITS)
        below.get_yaxis().get_major_locator().set_params(integer=True, nbins=4)
        if len(self.reliabilities) == 1:
            _write_numbers(below, *self.reliabilities.values())
        self.figure_ = above.figure
        return self


def _draw_accuracy(ax: "Axes", reliability: Reliability, **style: Any) -> None:
    full = reliability.n_images > 0
    accuracy = reliability.accuracy[full]
    low, high = reliability.accuracy_intervals[full].T
    # The ends of an interval may miss 0 and 1 by a rounding error, and no bar has length below 0.
    lengths = np.maximum([accuracy - low, high - accuracy], 0)
    ax.errorbar(
        reliability.confidence[full],
        accuracy,
        yerr=lengths,
        elinewidth=1,
        capsize=3,
        markersize=5,
        **style,
    )


def _write_numbers(ax: "Axes", reliability: Reliability) -> None:
    if len(reliability.n_images) > _BINS_WITH_NUMBERS:
        return
    centers = (reliability.edges[:-1] + reliability.edges[1:]) / 2
    for center, number in zip(centers, reliability.n_images.tolist(), strict=True):
        if number:
            text = f"{number / 1000:.0f}k" if number >= _LARGEST_NUMBER else f"{number:d}"
            ax.annotate(
                text,
                (center, number),
                xytext=(0, 1),
                textcoords="offset points",
                ha="center",
                fontsize=6.5,
            )
    ax.margins(y=0.2)
