"""Images in rows and columns, with their labels or with what was predicted for them."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from tlclassify._checks.images import check_images
from tlclassify._checks.parameters import check_choice, number_problem, raise_problems
from tlclassify.displays._drawing import VERMILION, plain
from tlclassify.displays._grids import CAPTION_WIDTH, column, draw_grid
from tlclassify.evaluation import EvaluationReport
from tlclassify.evaluation.report import ORDERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_UNRANKED = ("first", "random")


class ImageGridDisplay:
    """A grid of images with their labels.

    Parameters
    ----------
    images : array-like of shape (n, h, w), (n, h, w, 1) or (n, h, w, 3), or n file paths
        uint8 in [0, 255], or floating point in [0, 1] or [0, 255].
    labels : array-like of shape (n,), default=None
    n_columns : int, default=6

    Attributes
    ----------
    ax_, figure_ : ndarray of n matplotlib Axes, and their Figure

    Examples
    --------
    >>> images = np.zeros((10, 8, 8, 3), dtype="uint8")
    >>> display = ImageGridDisplay.from_images(images, list("abcdefghij"), n_rows=2, n_columns=2)
    >>> [ax.get_title() for ax in display.plot().ax_]
    ['a', 'b', 'c', 'd']
    """

    def __init__(self, images: Any, *, labels: ArrayLike | None = None, n_columns: int = 6) -> None:
        self.images = check_images(images, name="images")
        no_labels = [""] * len(self.images)
        self.labels = column(no_labels if labels is None else labels, self.images, "labels")
        self.n_columns = n_columns

    @classmethod
    def from_images(
        cls,
        X: Any,
        y: ArrayLike | None = None,
        *,
        select: str = "first",
        n_rows: int = 3,
        n_columns: int = 6,
        random_state: int | None = None,
    ) -> "ImageGridDisplay":
        """Return the display of the "first" or of "random" images of a data set."""
        check_choice("select", select, _UNRANKED)
        labels = None if y is None else column(y, X, "y")
        rows = _select(np.arange(len(X)), (n_rows, n_columns), select, random_state)
        return cls(
            _take(X, rows), labels=y if labels is None else labels[rows], n_columns=n_columns
        )

    def plot(self, ax: "Sequence[Axes] | None" = None) -> "ImageGridDisplay":
        """Draw on one Axes per image, or on a new figure; ImportError if matplotlib is missing."""
        captions = [plain(str(label), 2 * CAPTION_WIDTH) for label in self.labels]
        self.ax_ = draw_grid("ImageGridDisplay", ax, self.images, captions, self.n_columns)
        self.figure_ = self.ax_[0].figure
        return self


class PredictionGridDisplay:
    """A grid of images with true label, predicted label and the probability of the latter.

    A wrong prediction has a thick dashed frame and the word "wrong" on its image.

    Parameters
    ----------
    images : array-like of n images or file paths
        As in `ImageGridDisplay`.
    y_true, y_pred : array-like of shape (n,)
    probabilities : array-like of shape (n,), floating point in [0, 1]
        Of the predicted labels.
    n_columns : int, default=6

    Attributes
    ----------
    ax_, figure_ : ndarray of n matplotlib Axes, and their Figure
    """

    def __init__(
        self,
        images: Any,
        *,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        probabilities: ArrayLike,
        n_columns: int = 6,
    ) -> None:
        self.images = check_images(images, name="images")
        self.y_true = column(y_true, self.images, "y_true")
        self.y_pred = column(y_pred, self.images, "y_pred")
        self.probabilities = column(probabilities, self.images, "probabilities")
        self.n_columns = n_columns

    @classmethod
    def from_report(
        cls,
        report: EvaluationReport,
        X: Any,
        *,
        select: str | ArrayLike = "first",
        n_rows: int = 3,
        n_columns: int = 6,
        random_state: int | None = None,
    ) -> "PredictionGridDisplay":
        """Return the display of some of the images that a report is about.

        Parameters
        ----------
        report : EvaluationReport
        X : array-like
            All the images that were evaluated.
        select : {"first", "random", "wrong", "unlikely", "uncertain"} or array-like of int
            Which come first: the last three as in `EvaluationReport.ranked_images`. Row numbers
            choose images one by one, as those of `EvaluationReport.label_errors`.
        n_rows, n_columns : int
            Of the grid; images beyond it are left out.
        random_state : int, optional
            Seed of "random".
        """
        y_true = column(report.y_true, X, "y_true of the report")
        rows = _select(_rank(report, select), (n_rows, n_columns), select, random_state)
        return cls(
            _take(X, rows),
            y_true=y_true[rows],
            y_pred=report.y_pred[rows],
            probabilities=report.probabilities[rows].max(axis=1),
            n_columns=n_columns,
        )

    def plot(self, ax: "Sequence[Axes] | None" = None) -> "PredictionGridDisplay":
        """Draw on one Axes per image, or on a new figure; ImportError if matplotlib is missing."""
        columns = zip(self.y_true, self.y_pred, self.probabilities, strict=True)
        captions = [
            f"true: {plain(str(true), 40)}\npredicted: {plain(str(pred), 40)} ({chance:.2f})"
            for true, pred, chance in columns
        ]
        self.ax_ = draw_grid("PredictionGridDisplay", ax, self.images, captions, self.n_columns)
        self.figure_ = self.ax_[0].figure
        for panel, wrong in zip(self.ax_, self.y_true != self.y_pred, strict=True):
            if wrong:
                panel.spines[:].set(
                    color=VERMILION, linewidth=4, linestyle=(0, (2, 1)), capstyle="butt"
                )
                box = {"facecolor": VERMILION, "edgecolor": "none", "pad": 2}
                style = {"fontsize": 9, "fontweight": "bold", "color": "white", "bbox": box}
                panel.annotate(
                    "wrong", (0, 1), (7, -7), "axes fraction", "offset points", va="top", **style
                )
        return self


def _rank(report: EvaluationReport, select: Any) -> NDArray[np.intp]:
    """Return row numbers in the order in which images are shown."""
    n_samples = report.n_samples
    if isinstance(select, str):
        check_choice("select", select, [*_UNRANKED, *ORDERS])
        return report.ranked_images(select) if select in ORDERS else np.arange(n_samples)
    rows = np.asarray(select)
    if rows.ndim == 1 and len(rows) == 0:
        return np.arange(0)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= n_samples:
        orders = ", ".join(repr(order) for order in (*_UNRANKED, *ORDERS))
        raise ValueError(
            f"select must be one of {orders}, or row numbers in [0, {n_samples}); received "
            f"{select!r}. Turn a mask into row numbers with numpy.flatnonzero."
        )
    return rows.astype(np.intp)


def _select(
    rows: NDArray[np.intp], shape: tuple[int, int], select: Any, random_state: int | None
) -> NDArray[np.intp]:
    names = zip(("n_rows", "n_columns"), shape, strict=True)
    raise_problems([number_problem(name, n, integer=True, low=1) for name, n in names])
    if len(rows) == 0:
        raise ValueError(f"select={select!r} must leave at least one image; received none.")
    if isinstance(select, str) and select == "random":
        rows = check_random_state(random_state).permutation(rows)
    return rows[: shape[0] * shape[1]]


def _take(X: Any, rows: NDArray[np.intp]) -> NDArray[Any]:
    """Check the chosen images only, where the others can be left on disk."""
    images = X if isinstance(X, np.ndarray) and X.ndim > 1 else check_images(X)
    return check_images(images[rows])
