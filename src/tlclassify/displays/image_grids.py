"""Images in rows and columns: with labels, with what was predicted, or under maps of heat."""

import copy
import math
import textwrap
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from tlclassify._checks import files
from tlclassify._checks.images import as_uint8, check_images
from tlclassify._checks.parameters import COUNT, check_choice, check_parameters
from tlclassify._checks.tables import Part, shown_by
from tlclassify.displays.drawing import VERMILION, Axes, draw, open_axes, plain
from tlclassify.evaluation.report import ORDERS, EvaluationReport

_CAPTION_WIDTH, _IMAGE_INCHES, _FILE_PIXELS = 25, 1.7, 256
_LUMINANCE, _GRAYNESS, _STRONGEST = (0.299, 0.587, 0.114), 0.8, 0.8  # of images under heat


@dataclass(eq=False, repr=False)
class ImageGridDisplay:
    """A grid of images with their labels.

    Images are an array (n, h, w), (n, h, w, 1) or (n, h, w, 3), uint8 in [0, 255] or floating point
    in [0, 1] or [0, 255], or n file paths; `labels` has shape (n,).

    Examples
    --------
    >>> images = np.zeros((10, 8, 8, 3), dtype="uint8")
    >>> display = ImageGridDisplay.from_images(images, list("abcdefghij"), n_rows=1, n_columns=3)
    >>> [ax.get_title() for ax in display.plot().ax_]
    ['a', 'b', 'c']
    """

    images: Any
    _: KW_ONLY
    labels: Any = None
    n_columns: int = 6

    def __post_init__(self) -> None:
        self.images = as_uint8(*check_images(self.images, name="images"))
        self.labels = _column(self.labels, len(self.images), "labels")

    @classmethod
    def from_images(
        cls,
        X: Any,
        y: ArrayLike | None = None,
        *,
        select: str | ArrayLike = "first",
        n_rows: int = 3,
        n_columns: int = 6,
        random_state: int | None = None,
    ) -> "ImageGridDisplay":
        """Return the display of the "first" or "random" images of a data set, or of given rows."""
        size = (n_rows, n_columns)
        images, labels, _ = _choose(X, y, None, select=select, size=size, seed=random_state)
        return cls(images, labels=labels, n_columns=n_columns)

    def plot(self, ax: Sequence[Axes] | None = None) -> "ImageGridDisplay":
        """Draw on an Axes each or a new figure, `ax_` of `figure_`; needs matplotlib."""
        self.ax_, self.figure_ = _draw_grid(self, ax, [plain(label, 40) for label in self.labels])
        return self


@dataclass(eq=False, repr=False)
class PredictionGridDisplay:
    r"""A grid of images with true label, predicted label and the probability of the latter.

    A wrong prediction has a thick dashed frame and the word "wrong" on its image. Images are as in
    `ImageGridDisplay`, all else has shape (n,); `probabilities` are those of the predicted labels.

    Examples
    --------
    >>> images = np.zeros((1, 8, 8, 3), dtype="uint8")
    >>> one = {"y_true": ["cat"], "y_pred": ["dog"], "probabilities": [0.7]}
    >>> PredictionGridDisplay(images, **one).plot().ax_[0].get_title()
    'true: cat\npredicted: dog (0.70)'
    """

    images: Any
    _: KW_ONLY
    y_true: Any
    y_pred: Any
    probabilities: Any
    n_columns: int = 6

    def __post_init__(self) -> None:
        self.images = as_uint8(*check_images(self.images, name="images"))
        for name in ("y_true", "y_pred", "probabilities"):
            setattr(self, name, _column(getattr(self, name), len(self.images), name))

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
        """Return the display of some of the images `X` that a report is about.

        `select` says which: the "first", "random" ones, or an order of
        `EvaluationReport.ranked_images`; or it holds row numbers. Others are left out.
        """
        y, size = report.y_true, (n_rows, n_columns)
        images, y_true, rows = _choose(X, y, report, select=select, size=size, seed=random_state)
        probabilities = report.probabilities[rows].max(axis=1)
        numbers = {"y_pred": report.y_pred[rows], "probabilities": probabilities}
        return cls(images, y_true=y_true, n_columns=n_columns, **numbers)

    def plot(self, ax: Sequence[Axes] | None = None) -> "PredictionGridDisplay":
        """Draw on an Axes each or a new figure, `ax_` of `figure_`; needs matplotlib."""
        columns = zip(self.y_true, self.y_pred, self.probabilities, strict=True)
        captions = [
            f"true: {plain(true, 40)}\npredicted: {plain(predicted, 40)} ({probability:.2f})"
            for true, predicted, probability in columns
        ]
        self.ax_, self.figure_ = _draw_grid(self, ax, captions)
        frame = {"color": VERMILION, "linewidth": 4, "linestyle": (0, (2, 1)), "capstyle": "butt"}
        box = {"facecolor": VERMILION, "edgecolor": "none", "pad": 2}
        style = {"fontsize": 9, "fontweight": "bold", "color": "white", "bbox": box, "va": "top"}
        for panel in self.ax_[self.y_true != self.y_pred]:
            panel.spines[:].set(**frame)
            panel.annotate("wrong", (0, 1), (7, -7), "axes fraction", "offset points", **style)
        return self


def _describe_heat(display: "HeatmapDisplay") -> list[Part]:
    rows, columns = display.heatmaps.shape[1:]
    table = [("", f"hottest of {rows} x {columns} at", "hot by half or more")]
    for caption, heat in zip(display.captions, display.heatmaps, strict=True):
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        where = f"row {row}, column {column}" if heat.any() else "nowhere"
        table.append((plain(caption, 40), where, f"{(heat >= 0.5).mean():.0%}"))
    return [table]


def _draw_heat(display: "HeatmapDisplay") -> str:
    # Where a figure is there, it is shown already.
    return "" if hasattr(display, "figure_") else draw(copy.copy(display), "Heat maps")


@shown_by(_describe_heat, draw=_draw_heat)
@dataclass(eq=False, repr=False)
class HeatmapDisplay:
    """A grid of images under their heat maps, as `grad_cam` makes them.

    The images, as in `ImageGridDisplay`, are shown nearly gray, so that colour means heat; the
    hotter a place, the more of it is covered. Heat maps (n, rows, columns), floating point in
    [0, 1], are stretched over them; captions (n,) stand above.

    Examples
    --------
    >>> images = np.zeros((2, 8, 8, 3), dtype="uint8")
    >>> heatmaps = np.full((2, 4, 4), 0.5)
    >>> display = HeatmapDisplay(images, heatmaps=heatmaps, captions=["cat", "dog"])
    >>> [ax.get_title() for ax in display.plot().ax_]
    ['cat', 'dog']
    """

    images: Any
    _: KW_ONLY
    heatmaps: Any
    captions: Any = None
    n_columns: int = 6

    def __post_init__(self) -> None:
        self.images = as_uint8(*check_images(self.images, name="images"))
        self.captions = _column(self.captions, len(self.images), "captions")
        self.heatmaps = heat = np.asarray(self.heatmaps)
        fits = heat.ndim == 3 and len(heat) == len(self.images) and 0 not in heat.shape
        if not (fits and heat.dtype.kind == "f" and heat.min() >= 0 and heat.max() <= 1):
            raise ValueError(
                f"heatmaps must be {len(self.images)} maps of one shape, one for each image, "
                f"floating point in [0, 1]; received {heat.dtype} of shape {heat.shape}. Divide "
                "each map by its largest value."
            )

    def plot(self, ax: Sequence[Axes] | None = None) -> "HeatmapDisplay":
        """Draw on an Axes each or, with a bar of colours, a new figure, `ax_` of `figure_`."""
        captions = [plain(caption, 40) for caption in self.captions]
        self.ax_, self.figure_ = _draw_grid(self, ax, captions)
        from matplotlib import colormaps
        from matplotlib.colors import ListedColormap

        steps = np.linspace(0, 1, 256)
        colors = colormaps["viridis"](steps, alpha=_STRONGEST * steps)
        style = {"cmap": ListedColormap(colors), "vmin": 0, "vmax": 1, "interpolation": "bilinear"}
        for panel, heat in zip(self.ax_, self.heatmaps, strict=True):
            (image,) = panel.images
            color = image.get_array() / 255
            image.set_data(color + _GRAYNESS * ((color @ _LUMINANCE)[..., None] - color))
            drawn = panel.imshow(heat, extent=image.get_extent(), **style)
        if ax is None:
            width, height = self.figure_.get_size_inches()
            self.figure_.set_figwidth(width + 0.6)
            size = {"shrink": min(1, 3 / height), "anchor": (0, 1), "pad": 0.2 / width}
            places = {"ax": self.ax_.tolist(), "ticks": [0, 1]}
            self.figure_.colorbar(drawn, label="Heat", **size, **places)
        return self


def _column(values: ArrayLike | None, n: int, name: str) -> NDArray[Any]:
    """Return one value an image, empty texts for none."""
    found = np.asarray([""] * n if values is None else values)
    if found.shape != (n,):
        raise ValueError(
            f"{name} must have one value per image; received shape {found.shape} for {n} images."
        )
    return found


def _choose(
    X: Any,
    y: ArrayLike | None,
    report: EvaluationReport | None,
    *,
    select: Any,
    size: tuple[int, int],
    seed: int | None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
    """Return as many images as a grid has places, in the order of `select`, labels and rows."""
    # An array may lie on disk, so that only what is shown is checked.
    images = X if isinstance(X, np.ndarray) and X.ndim > 1 else check_images(X)[0]
    n, orders, name = len(images), ["first", "random"], "y"
    if report is not None:
        orders, name = [*orders, *ORDERS], "y_true of the report"
    labels = _column(y, n, name)
    check_parameters(("n_rows", size[0], COUNT), ("n_columns", size[1], COUNT))
    rows = np.arange(n) if isinstance(select, str) else np.asarray(select)
    if isinstance(select, str):
        check_choice("select", select, orders)
        if select == "random":
            rows = check_random_state(seed).permutation(rows)
        elif report is not None and select != "first":
            rows = report.ranked_images(select)
    elif rows.ndim != 1 or rows.dtype.kind not in "iu" or not np.isin(rows, range(n)).all():
        raise ValueError(
            f"select must be one of {', '.join(map(repr, orders))}, or row numbers in [0, {n}); "
            f"received {select!r}. Turn a mask into row numbers with numpy.flatnonzero."
        )
    if len(rows) == 0:
        raise ValueError(f"select={select!r} must leave at least one image; received none.")
    rows = rows[: math.prod(size)].astype(np.intp)
    # Dark images alone do not tell in what range their values lie; all of them do.
    white = check_images(images)[1] if images.dtype.kind == "f" else 255
    return as_uint8(check_images(images[rows])[0], white), labels[rows], rows


def _draw_grid(display: Any, ax: Any, captions: Sequence[str]) -> tuple[Any, Any]:
    """Draw each image under its caption, as the network saw it; return panels and figure."""
    check_parameters(("n_columns", display.n_columns, COUNT))
    images = display.images
    if images.dtype == object:
        read = partial(files.read_image, max_side=_FILE_PIXELS)
        images, errors = files.read_files(read, images)
        files.raise_unreadable(errors)
    pictures = [
        np.broadcast_to(image.reshape(*image.shape[:2], -1), (*image.shape[:2], 3))
        for image in images
    ]
    wrap = partial(textwrap.fill, width=_CAPTION_WIDTH)
    texts = ["\n".join(map(wrap, caption.split("\n"))) for caption in captions]
    across = min(display.n_columns, len(images))
    down = math.ceil(len(images) / across)
    tallest = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    lines = max(text.count("\n") + 1 for text in texts)
    height = _IMAGE_INCHES * min(tallest, 3) + 0.15 * lines + 0.15
    grid = {"nrows": down, "ncols": across}
    size = (across * (_IMAGE_INCHES + 0.15), down * height)
    axes, figure = open_axes(display, ax, n_panels=len(images), figsize=size, **grid)
    for panel, picture, text in zip(axes, pictures, texts, strict=True):
        panel.imshow(picture)
        panel.set(xticks=[], yticks=[])
        panel.set_title(text, fontsize=8)
    return axes, figure
