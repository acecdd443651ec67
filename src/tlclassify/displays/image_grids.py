"""Images in rows and columns, with their labels or with what was predicted for them."""

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from sklearn.utils import check_random_state

from tlclassify._validation import (
    check_choice,
    check_images,
    number_problem,
    pixel_limits,
    raise_problems,
)
from tlclassify.displays._drawing import VERMILION, panels, plain
from tlclassify.evaluation import EvaluationReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_IMAGE_INCHES, _CAPTION_WIDTH, _FILE_PIXELS = 1.7, 25, 256


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
        self.labels = _column(no_labels if labels is None else labels, self.images, "labels")
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
        check_choice("select", select, ["first", "random"])
        labels = None if y is None else _column(y, X, "y")
        rows = _select(np.arange(len(X)), (n_rows, n_columns), select, random_state)
        return cls(
            _take(X, rows), labels=y if labels is None else labels[rows], n_columns=n_columns
        )

    def plot(self, ax: "Sequence[Axes] | None" = None) -> "ImageGridDisplay":
        """Draw on one Axes per image, or on a new figure; ImportError if matplotlib is missing."""
        captions = [plain(str(label), 2 * _CAPTION_WIDTH) for label in self.labels]
        self.ax_ = _draw_grid("ImageGridDisplay", ax, self.images, captions, self.n_columns)
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
        self.y_true = _column(y_true, self.images, "y_true")
        self.y_pred = _column(y_pred, self.images, "y_pred")
        self.probabilities = _column(probabilities, self.images, "probabilities")
        self.n_columns = n_columns

    @classmethod
    def from_report(
        cls,
        report: EvaluationReport,
        X: Any,
        *,
        select: str = "first",
        n_rows: int = 3,
        n_columns: int = 6,
        random_state: int | None = None,
    ) -> "PredictionGridDisplay":
        """Return the display of the "first", "random" or "wrong" (surest first) images of `X`."""
        check_choice("select", select, ["first", "random", "wrong"])
        y_true = _column(report.y_true, X, "y_true of the report")
        surest = report.probabilities.max(axis=1)
        rows = np.arange(len(y_true))
        if select == "wrong":
            rows = np.flatnonzero(y_true != report.y_pred)
            rows = rows[np.argsort(-surest[rows], kind="stable")]
        rows = _select(rows, (n_rows, n_columns), select, random_state)
        return cls(
            _take(X, rows),
            y_true=y_true[rows],
            y_pred=report.y_pred[rows],
            probabilities=surest[rows],
            n_columns=n_columns,
        )

    def plot(self, ax: "Sequence[Axes] | None" = None) -> "PredictionGridDisplay":
        """Draw on one Axes per image, or on a new figure; ImportError if matplotlib is missing."""
        columns = zip(self.y_true, self.y_pred, self.probabilities, strict=True)
        captions = [
            f"true: {plain(str(true), 40)}\npredicted: {plain(str(pred), 40)} ({chance:.2f})"
            for true, pred, chance in columns
        ]
        self.ax_ = _draw_grid("PredictionGridDisplay", ax, self.images, captions, self.n_columns)
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


def _column(values: ArrayLike, X: Any, name: str) -> NDArray[Any]:
    column = np.asarray(values)
    if column.shape != (len(X),):
        raise ValueError(
            f"{name} must have one value per image; received shape {column.shape} for {len(X)} "
            "images."
        )
    return column


def _select(
    rows: NDArray[np.intp], shape: tuple[int, int], select: str, random_state: int | None
) -> NDArray[np.intp]:
    names = zip(("n_rows", "n_columns"), shape, strict=True)
    raise_problems([number_problem(name, n, integer=True, low=1) for name, n in names])
    if len(rows) == 0:
        raise ValueError(f"select={select!r} must leave at least one image; received none.")
    if select == "random":
        rows = check_random_state(random_state).permutation(rows)
    return rows[: shape[0] * shape[1]]


def _take(X: Any, rows: NDArray[np.intp]) -> NDArray[Any]:
    """Check the chosen images only, where the others can be left on disk."""
    images = X if isinstance(X, np.ndarray) and X.ndim > 1 else check_images(X)
    return check_images(images[rows])


def _pixels(image: Any, top: float) -> NDArray[Any]:
    if not isinstance(image, np.ndarray):
        with Image.open(image) as file:
            picture = file.convert("RGB")
        picture.thumbnail((_FILE_PIXELS, _FILE_PIXELS))
        return np.asarray(picture)
    color = np.broadcast_to(image.reshape(*image.shape[:2], -1), (*image.shape[:2], 3))
    return color if color.dtype == np.uint8 else color.astype(float) / top


def _draw_grid(
    display: str, ax: Any, images: NDArray[Any], captions: list[str], n_columns: int
) -> NDArray[Any]:
    raise_problems([number_problem("n_columns", n_columns, integer=True, low=1)])
    top = 255 if images.dtype.kind != "f" or pixel_limits(images)[1] > 1 else 1
    pictures = [_pixels(image, top) for image in images]
    texts = [
        "\n".join(textwrap.fill(line, _CAPTION_WIDTH) for line in caption.split("\n"))
        for caption in captions
    ]
    across = min(n_columns, len(images))
    down = math.ceil(len(images) / across)
    tallest = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    height = (
        _IMAGE_INCHES * min(tallest, 3) + 0.15 * max(text.count("\n") + 1 for text in texts) + 0.15
    )
    size = (across * (_IMAGE_INCHES + 0.15), down * height)
    axes = panels(ax, n_panels=len(images), shape=(down, across), figsize=size, display=display)
    for panel, picture, text in zip(axes, pictures, texts, strict=True):
        panel.imshow(picture)
        panel.set(xticks=[], yticks=[])
        panel.set_title(text, fontsize=8)
    return axes
