"""What each of several classifiers mistakes for what."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from tlclassify.displays._drawing import CHARACTER_INCHES, panels, plain, text_inches
from tlclassify.displays.accuracies import succeeded
from tlclassify.displays.confusion import MOST_SLANTED, ConfusionDisplay
from tlclassify.evaluation import Comparison
from tlclassify.evaluation.text import short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CELL_INCHES, _CLASS_WIDTH, _MOST_COLUMNS = 0.38, 28, 3


class ConfusionMatricesDisplay:
    """Confusion matrices side by side, as fractions of the true class on one scale of colours.

    Parameters
    ----------
    matrices : array-like of shape (n, n_classes, n_classes), floating point in [0, 1]
    names : sequence of n str
        What stands above each.
    class_names : sequence of str, of length n_classes

    Attributes
    ----------
    ax_, figure_ : ndarray of n matplotlib Axes, and their Figure
    confusion_displays_ : list of ConfusionDisplay
        What drew the matrices.

    Examples
    --------
    >>> display = ConfusionMatricesDisplay(
    ...     [[[0.8, 0.2], [0.1, 0.9]], [[1.0, 0.0], [0.4, 0.6]]],
    ...     names=["small", "large"],
    ...     class_names=["cat", "dog"],
    ... )
    >>> [ax.get_title() for ax in display.plot().ax_]
    ['small', 'large']
    """

    def __init__(
        self, matrices: ArrayLike, *, names: Sequence[str], class_names: Sequence[str]
    ) -> None:
        self.matrices = np.asarray(matrices, dtype=float)
        self.names = tuple(names)
        self.class_names = tuple(class_names)
        shape = (len(self.names), len(self.class_names), len(self.class_names))
        if self.matrices.shape != shape or 0 in shape:
            raise ValueError(
                "matrices must hold a square matrix of the class names for each of names; "
                f"received shape {self.matrices.shape} for {shape[0]} names and {shape[1]} class "
                "names."
            )

    @classmethod
    def from_comparison(cls, comparison: Comparison) -> "ConfusionMatricesDisplay":
        """Return the display of the rows that did not fail; ValueError if all did."""
        done = succeeded(comparison.rows)
        names = {report.class_names for _, report in done}
        if len(names) > 1:
            raise ValueError(
                "comparison must hold reports on the same classes; received "
                f"{len(names)} different lists of them. Evaluate all on one test set."
            )
        return cls(
            [report.confusion_matrix_normalized for _, report in done],
            names=[f"{row.name}\naccuracy {report.accuracy:.3f}" for row, report in done],
            class_names=done[0][1].class_names,
        )

    def plot(self, ax: "Sequence[Axes] | None" = None) -> "ConfusionMatricesDisplay":
        """Draw on one Axes per matrix, or on a new figure; ImportError if matplotlib is missing."""
        n, n_classes = len(self.names), len(self.class_names)
        class_names = [short_name(name, width=_CLASS_WIDTH) for name in self.class_names]
        across = math.ceil(n / math.ceil(n / _MOST_COLUMNS))
        down = math.ceil(n / across)
        side = min(max(_CELL_INCHES * n_classes, 2.6), 5.5)
        margin = text_inches(class_names, fontsize=10) + 0.5
        bottom = margin if n_classes > MOST_SLANTED else 0.8 * margin
        size, grid = _lay_out(side, shape=(down, across), left=margin, bottom=bottom)
        self.ax_ = panels(
            ax,
            n_panels=n,
            shape=(down, across),
            figsize=size,
            gridspec=grid,
            display="ConfusionMatricesDisplay",
        )
        self.confusion_displays_ = []
        with_bar = across - 1 if ax is None else n - 1
        for i, (panel, matrix) in enumerate(zip(self.ax_, self.matrices, strict=True)):
            display = ConfusionDisplay(matrix, class_names=class_names)
            self.confusion_displays_.append(display.plot(panel, colorbar=i == with_bar))
            lines = self.names[i].split("\n")
            title = "\n".join(plain(line, int(side / CHARACTER_INCHES / 10)) for line in lines)
            panel.set_title(title, fontsize=10)
        if ax is None:
            _share_names(self.ax_, across)
        self.figure_ = self.ax_[0].figure
        return self


def _share_names(axes: Any, across: int) -> None:
    """Leave the class names at the left and below only."""
    below = (len(axes) - 1) // across * across  # the first panel of the lowest line
    for i, panel in enumerate(axes):
        if i % across:
            panel.set(yticklabels=[], ylabel="")
        if i + across < len(axes):
            panel.set(xticklabels=[], xlabel="")
        elif i < below:  # slanted names would run into the panel at the lower left
            for label in panel.get_xticklabels():
                if label.get_rotation():
                    label.set(rotation=90, ha="center", rotation_mode="default")


def _lay_out(
    side: float, *, shape: tuple[int, int], left: float, bottom: float
) -> tuple[tuple[float, float], dict[str, float]]:
    """Return the size of a figure, and where its panels stand in it.

    Constrained layout would move the panels after each was drawn, and with them the room that the
    values have in their cells.
    """
    down, across = shape
    gap, titles, right = 0.25, 0.55, 0.95
    width = left + across * side + (across - 1) * gap + right
    height = down * (side + titles) + bottom
    grid = {
        "left": left / width,
        "right": 1 - right / width,
        "bottom": bottom / height,
        "top": 1 - titles / height,
        "wspace": gap / side,
        "hspace": titles / side,
    }
    return (width, height), grid
