"""The confusion matrix of a report."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import ConfusionMatrixDisplay

from tlclassify._checks.parameters import check_choice
from tlclassify.displays._drawing import CHARACTER_INCHES, import_pyplot, plain, settle
from tlclassify.evaluation import EvaluationReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_SLANTED = 20  # names; more of them stand upright
_CELLS_WITH_VALUES, _NAME_WIDTH, _SMALLEST_VALUE = 30, 40, 5


class ConfusionDisplay:
    """A confusion matrix: true classes down, predicted classes across.

    A new figure grows with the classes and the length of their names. Up to 30 classes the cells
    carry their values where they fit; where names would touch, only every n-th is written.

    Parameters
    ----------
    confusion_matrix : array-like of shape (n_classes, n_classes)
        Integer counts, or floating point fractions in [0, 1].
    class_names : sequence of str, of length n_classes

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    matrix_display_ : sklearn.metrics.ConfusionMatrixDisplay
        What drew the cells.

    Examples
    --------
    >>> display = ConfusionDisplay([[8, 2], [1, 9]], class_names=["cat", "dog"]).plot()
    >>> display.ax_.get_ylabel()
    'True class'
    """

    def __init__(self, confusion_matrix: ArrayLike, *, class_names: Sequence[str]) -> None:
        self.confusion_matrix = np.asarray(confusion_matrix)
        self.class_names = tuple(class_names)
        n_classes = len(self.class_names)
        if n_classes == 0 or self.confusion_matrix.shape != (n_classes, n_classes):
            raise ValueError(
                "confusion_matrix must have one row and one column per class name; received shape "
                f"{self.confusion_matrix.shape} for {n_classes} class names."
            )

    @classmethod
    def from_report(
        cls, report: EvaluationReport, *, normalize: str | None = None
    ) -> "ConfusionDisplay":
        """Return the display of a report: counts, or fractions of the class if "true"."""
        if normalize is None:
            return cls(report.confusion_matrix, class_names=report.class_names)
        check_choice("normalize", normalize, ["true"])
        return cls(report.confusion_matrix_normalized, class_names=report.class_names)

    def plot(self, ax: "Axes | None" = None, *, colorbar: bool = True) -> "ConfusionDisplay":
        """Draw on `ax`, or on a new figure; ImportError if matplotlib is missing."""
        plt = import_pyplot("ConfusionDisplay")
        names = [plain(name, _NAME_WIDTH) for name in self.class_names]
        fractions = self.confusion_matrix.dtype.kind == "f"
        top = 1 if fractions else max(self.confusion_matrix.max(), 1)
        if ax is None:
            side = _side_inches(len(names), len(f"{top}.00" if fractions else str(top)))
            margin = max(map(len, names)) * 10 * CHARACTER_INCHES + 0.6
            size = (side + margin + 1.1, side + 0.75 * margin)
            _, ax = plt.subplots(figsize=size, layout="constrained")
        else:
            side = min(ax.bbox.width, ax.bbox.height) / ax.figure.dpi
        self.matrix_display_ = ConfusionMatrixDisplay(self.confusion_matrix).plot(
            include_values=len(names) <= _CELLS_WITH_VALUES,
            cmap="Blues",
            values_format=".2f" if fractions else "d",
            ax=ax,
            colorbar=False,
            im_kw={"vmin": 0, "vmax": top},
            text_kw={"in_layout": False},  # hundreds of texts, none of which leaves its cell
        )
        if colorbar:
            bar = ax.inset_axes((1.02 + 0.05 / side, 0, 0.2 / side, 1))  # as high as the matrix
            label = "Fraction of the true class" if fractions else "Images"
            ax.figure.colorbar(self.matrix_display_.im_, cax=bar, label=label)
        _name_classes(ax, names, side / len(names))
        if self.matrix_display_.text_ is not None:
            _fit_values(self.matrix_display_, top)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _side_inches(n_classes: int, widest: int) -> float:
    cell = (widest + 1) * 9 * CHARACTER_INCHES if n_classes <= _CELLS_WITH_VALUES else 0.2
    return min(max(n_classes * cell, 3.0), 17.0)


def _fit_values(display: ConfusionMatrixDisplay, top: float) -> None:
    """Size the values by their cells, and set their colours against the whole colour scale.

    Scikit-learn takes the scale to end at the largest value.
    """
    settle(display.ax_)
    inches = display.ax_.get_window_extent().width / display.figure_.dpi
    widest = max(len(text.get_text()) for text in display.text_.flat)
    size = inches / len(display.text_) / (widest + 1) / CHARACTER_INCHES
    for value, text in zip(display.confusion_matrix.flat, display.text_.flat, strict=True):
        text.set(fontsize=min(size, 9), visible=size >= _SMALLEST_VALUE)
        text.set_color("white" if value > 0.7 * top else "#202020")
        if value == 0:
            text.set_text("0")


def _name_classes(ax: "Axes", names: list[str], cell: float) -> None:
    size = min(10.0, cell * 72 / 1.25)
    step = 1 if size >= 6 else math.ceil(10 / (72 * cell))
    size = size if step == 1 else 8.0
    ticks = range(0, len(names), step)
    ax.set_xticks(ticks, labels=names[::step], fontsize=size)
    ax.set_yticks(ticks, labels=names[::step], fontsize=size)
    if max(map(len, names)) * size * CHARACTER_INCHES > 0.95 * cell:
        turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        ax.tick_params(axis="x", pad=2)
        for label in ax.get_xticklabels():
            label.set(**turn if len(names) <= MOST_SLANTED else {"rotation": 90})
    note = f" (one name in {step})" if step > 1 else ""
    ax.set(xlabel=f"Predicted class{note}", ylabel=f"True class{note}")
