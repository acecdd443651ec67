"""What a classifier, or each of several, mistakes for what."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlclassify._checks.parameters import check_choice
from tlclassify.displays.drawing import Axes, open_axes, plain, settle, succeeded, text_inches
from tlclassify.evaluation.comparison import Comparison
from tlclassify.evaluation.report import EvaluationReport

_CELLS_WITH_VALUES, _SMALLEST_VALUE, _MOST_ACROSS = 30, 5, 3


class ConfusionDisplay:
    """A confusion matrix: true classes down, predicted classes across.

    A new figure grows with the classes and the length of their names. Up to 30 classes the cells
    carry their values where they fit; where names would touch, only every n-th is written.

    The matrix (n_classes, n_classes) holds integer counts, or fractions in [0, 1].

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

    def plot(self, ax: Axes | None = None, *, colorbar: bool = True) -> "ConfusionDisplay":
        """Draw on `ax` or a new figure, `ax_` of `figure_`; ImportError without matplotlib."""
        names = [plain(name, 40) for name in self.class_names]
        cell = 0.2
        if len(names) <= _CELLS_WITH_VALUES:
            cell = _cell_inches(_cell_texts(self.confusion_matrix), fontsize=9)
        side = min(max(len(names) * cell, 3.0), 17.0)
        margin = text_inches(*names, fontsize=10) + 0.6
        size = (side + margin + 1.1, side + 0.75 * margin)
        (self.ax_,), self.figure_ = open_axes(self, ax, figsize=size)
        slant = len(names) <= 20
        _draw_matrix(self.ax_, self.confusion_matrix, names, colorbar=colorbar, slant=slant)
        settle(self.figure_)
        _write_values(self.ax_, self.confusion_matrix)
        return self


class ConfusionMatricesDisplay:
    """Confusion matrices side by side, as fractions of the true class on one scale of colours.

    The matrices (n, n_classes, n_classes) hold fractions in [0, 1]; each has a name above it.

    Examples
    --------
    >>> matrices = [[[0.8, 0.2], [0.1, 0.9]], [[1.0, 0.0], [0.4, 0.6]]]
    >>> names = {"names": ["small", "large"], "class_names": ["cat", "dog"]}
    >>> [ax.get_title() for ax in ConfusionMatricesDisplay(matrices, **names).plot().ax_]
    ['small', 'large']
    """

    def __init__(
        self, matrices: ArrayLike, *, names: Sequence[str], class_names: Sequence[str]
    ) -> None:
        self.matrices = np.asarray(matrices, dtype=float)
        self.names, self.class_names = tuple(names), tuple(class_names)
        shape = (len(self.names), len(self.class_names), len(self.class_names))
        if self.matrices.shape != shape or 0 in shape:
            raise ValueError(
                "matrices must hold a square matrix of the class names for each of names; received "
                f"shape {self.matrices.shape} for {shape[0]} names and {shape[1]} class names."
            )

    @classmethod
    def from_comparison(cls, comparison: Comparison) -> "ConfusionMatricesDisplay":
        """Return the display of the rows that did not fail; ValueError if all did."""
        done = succeeded(comparison.rows)
        return cls(
            [report.confusion_matrix_normalized for _, report in done],
            names=[f"{row.name}\naccuracy {report.accuracy:.3f}" for row, report in done],
            class_names=done[0][1].class_names,
        )

    def plot(self, ax: Sequence[Axes] | None = None) -> "ConfusionMatricesDisplay":
        """Draw on an Axes each or a new figure, `ax_` of `figure_`; needs matplotlib."""
        n, names = len(self.names), [plain(name, 28) for name in self.class_names]
        across = math.ceil(n / math.ceil(n / _MOST_ACROSS))
        down = math.ceil(n / across)
        side = min(max(0.38 * len(names), 2.6), 5.5)
        margin = text_inches(*names, fontsize=10) + 0.5
        size = (across * (side + 0.2) + margin + 0.9, down * (side + 0.5) + margin)
        grid = {"nrows": down, "ncols": across, "figsize": size, "layout": "compressed"}
        self.ax_, self.figure_ = open_axes(self, ax, n_panels=n, **grid)
        with_bar = across - 1 if ax is None else n - 1
        for i, (panel, matrix) in enumerate(zip(self.ax_, self.matrices, strict=True)):
            _draw_matrix(panel, matrix, names, colorbar=i == with_bar, slant=False)
            width = int(side / text_inches("0", fontsize=10))
            title = "\n".join(plain(line, width) for line in self.names[i].split("\n"))
            panel.set_title(title, fontsize=10)
            if ax is None and i % across:
                panel.set(yticklabels=[], ylabel="")
            if ax is None and i + across < n:
                panel.set(xticklabels=[], xlabel="")
            elif ax is None and i + across < across * down:
                panel.xaxis.set_in_layout(False)  # the empty place below has room for the names
        settle(self.figure_)
        for panel, matrix in zip(self.ax_, self.matrices, strict=True):
            _write_values(panel, matrix)
        return self


def _cell_texts(matrix: NDArray[Any]) -> list[str]:
    """Return the values as they stand in the cells: counts, or fractions of two digits."""
    form = ".2f" if matrix.dtype.kind == "f" else "d"
    return [format(value, form) if value else "0" for value in matrix.flat]


def _cell_inches(texts: list[str], *, fontsize: float) -> float:
    """Return how wide a cell must be for the longest text and a blank."""
    return text_inches(f"{max(texts, key=len)} ", fontsize=fontsize)


def _draw_matrix(
    ax: Axes, matrix: NDArray[Any], names: list[str], *, colorbar: bool, slant: bool
) -> None:
    """Draw cells, a bar of their colours, and names of classes as large as there is room for."""
    fractions = matrix.dtype.kind == "f"
    image = ax.imshow(matrix, cmap="Blues", vmin=0, vmax=1 if fractions else max(matrix.max(), 1))
    side = min(ax.bbox.width, ax.bbox.height) / ax.figure.dpi
    if colorbar:
        bar = ax.inset_axes((1.02 + 0.05 / side, 0, 0.2 / side, 1))  # as high as the matrix
        label = "Fraction of the true class" if fractions else "Images"
        ax.figure.colorbar(image, cax=bar, label=label)
    cell = side / len(names)
    size = min(10.0, cell * 72 / 1.25)
    step = 1 if size >= 6 else math.ceil(10 / (72 * cell))
    size = size if step == 1 else 8.0
    turn: dict[str, Any] = {}
    if text_inches(*names, fontsize=size) > 0.95 * cell:
        slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        turn = slanted if slant else {"rotation": 90}
        ax.tick_params(axis="x", pad=2)
    ticks = range(0, len(names), step)
    ax.set_xticks(ticks, labels=names[::step], fontsize=size, **turn)
    ax.set_yticks(ticks, labels=names[::step], fontsize=size)
    note = f" (one name in {step})" if step > 1 else ""
    ax.set(xlabel=f"Predicted class{note}", ylabel=f"True class{note}")


def _write_values(ax: Axes, matrix: NDArray[Any]) -> None:
    """Write the values in the size of their cells, where that can be read."""
    texts = _cell_texts(matrix)
    cell = ax.get_window_extent().width / ax.figure.dpi / len(matrix)
    size = min(9, cell / _cell_inches(texts, fontsize=1))
    if len(matrix) > _CELLS_WITH_VALUES or size < _SMALLEST_VALUE:
        return
    dark = 0.7 * ax.images[0].get_clim()[1]
    style: dict[str, Any] = {"ha": "center", "va": "center", "in_layout": False, "fontsize": size}
    for ((row, column), value), text in zip(np.ndenumerate(matrix), texts, strict=True):
        ax.text(column, row, text, color="white" if value > dark else "#202020", **style)
