"""Images with a map of heat over each."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlclassify._checks.images import check_images
from tlclassify.displays._drawing import plain
from tlclassify.displays._grids import CAPTION_WIDTH, column, draw_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_LUMINANCE, _GRAYNESS = (0.299, 0.587, 0.114), 0.8
_STRONGEST, _BAR_INCHES, _LONGEST_BAR_INCHES = 0.8, 0.6, 3


class HeatmapDisplay:
    """A grid of images under their heat maps, as `grad_cam` makes them.

    The images are shown nearly gray, so that colour means heat; the hotter a place, the more of it
    is covered. Maps of another size than their images are stretched over them.

    Parameters
    ----------
    images : array-like of shape (n, h, w), (n, h, w, 1) or (n, h, w, 3), or n file paths
        uint8 in [0, 255], or floating point in [0, 1] or [0, 255].
    heatmaps : array-like of shape (n, rows, columns), floating point in [0, 1]
        One for each image.
    captions : array-like of shape (n,), default=None
        What stands above each image.
    n_columns : int, default=6

    Attributes
    ----------
    ax_, figure_ : ndarray of n matplotlib Axes, and their Figure

    Raises
    ------
    ValueError
        If there is not one map or one caption for each image, or heat is not in [0, 1].

    Examples
    --------
    >>> images = np.zeros((2, 8, 8, 3), dtype="uint8")
    >>> heatmaps = np.full((2, 4, 4), 0.5)
    >>> display = HeatmapDisplay(images, heatmaps=heatmaps, captions=["cat", "dog"])
    >>> [ax.get_title() for ax in display.plot().ax_]
    ['cat', 'dog']
    """

    def __init__(
        self,
        images: Any,
        *,
        heatmaps: ArrayLike,
        captions: ArrayLike | None = None,
        n_columns: int = 6,
    ) -> None:
        self.images = check_images(images, name="images")
        self.heatmaps = _check_heatmaps(heatmaps, len(self.images))
        no_captions = [""] * len(self.images)
        self.captions = column(
            no_captions if captions is None else captions, self.images, "captions"
        )
        self.n_columns = n_columns

    def plot(self, ax: "Sequence[Axes] | None" = None) -> "HeatmapDisplay":
        """Draw on one Axes per image, or on a new figure; ImportError if matplotlib is missing.

        A new figure has a bar of the colours.
        """
        captions = [plain(str(caption), 2 * CAPTION_WIDTH) for caption in self.captions]
        self.ax_ = draw_grid("HeatmapDisplay", ax, self.images, captions, self.n_columns)
        self.figure_ = self.ax_[0].figure
        style = {"cmap": _fading_colors(), "vmin": 0, "vmax": 1, "interpolation": "bilinear"}
        for panel, heat in zip(self.ax_, self.heatmaps, strict=True):
            (image,) = panel.images
            image.set_data(_mute(image.get_array()))
            drawn = panel.imshow(heat, extent=image.get_extent(), **style)
        if ax is None:
            _add_bar(self.figure_, self.ax_.tolist(), drawn)
        return self


def _check_heatmaps(heatmaps: ArrayLike, n: int) -> NDArray[Any]:
    found = np.asarray(heatmaps)
    if found.ndim != 3 or len(found) != n or 0 in found.shape:
        raise ValueError(
            f"heatmaps must have shape (n, rows, columns) with one map for each of {n} images; "
            f"received shape {found.shape}."
        )
    if found.dtype.kind != "f" or not (found.min() >= 0 and found.max() <= 1):
        raise ValueError(
            f"heatmaps must be floating point in [0, 1]; received {found.dtype} from "
            f"{found.min()} to {found.max()}. Divide each map by its largest value."
        )
    return found


def _mute(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return an image nearly gray, so that no colour of its own is taken for heat."""
    color = pixels / (255 if pixels.dtype == np.uint8 else 1)
    gray = color @ _LUMINANCE
    return color + _GRAYNESS * (gray[..., None] - color)


def _fading_colors() -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    strength = np.linspace(0, 1, 256)
    colors = colormaps["viridis"](strength)
    colors[:, 3] = _STRONGEST * strength
    return ListedColormap(colors)


def _add_bar(figure: Any, panels: list[Any], drawn: Any) -> None:
    width, height = figure.get_size_inches()
    figure.set_figwidth(width + _BAR_INCHES)
    length = min(1, _LONGEST_BAR_INCHES / height)
    bar = figure.colorbar(
        drawn,
        ax=panels,
        ticks=[0, 1],
        shrink=length,
        anchor=(0, 1),
        aspect=8 * length * height,
        pad=0.2 / width,
    )
    bar.set_label("Heat", fontsize=8)
    bar.ax.tick_params(labelsize=8)
