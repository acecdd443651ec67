"""What all pictures share: matplotlib imported late, colours, names, panels."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify.evaluation.text import short_name

# Okabe and Ito's colours, which every colour vision tells apart; their yellow is too light to draw.
BLUE, VERMILION = "#0072B2", "#D55E00"
COLORS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES, MARKERS = ("-", "--", "-.", (0, (1, 1))), "osD^v"
CHARACTER_INCHES = 0.6 / 72  # mean width of a character, per point of font size


def import_pyplot(display: str) -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{display}.plot needs matplotlib. Install it with: pip install "tlclassify[plot]".'
        ) from error
    return plt


def plain(name: str, width: int) -> str:
    return short_name(name, width=width).replace("$", r"\$")  # else it would be read as TeX


def text_inches(texts: Iterable[str], *, fontsize: float) -> float:
    """Return about how wide the longest text is."""
    return max(map(len, texts), default=0) * fontsize * CHARACTER_INCHES


def draw_diagonal(ax: Any) -> None:
    ax.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle=":", zorder=1)


def settle(ax: Any) -> None:
    """Give panels and texts their final sizes."""
    ax.figure.canvas.figure.draw_without_rendering()


def name_lines(ax: Any, *, title: str | None = None) -> None:
    """Put the legend above the frame, where it hides nothing."""
    ax.legend(title=title, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, alignment="left")


def panels(
    ax: Any,
    *,
    n_panels: int,
    shape: tuple[int, int],
    figsize: tuple[float, float],
    display: str,
    gridspec: Mapping[str, Any] | None = None,
) -> NDArray[Any]:
    """Return the caller's Axes, or new ones; a grid with a `left` margin is laid out by itself."""
    plt = import_pyplot(display)
    if ax is None:
        layout = "none" if gridspec and "left" in gridspec else "constrained"
        figure, ax = plt.subplots(
            *shape, figsize=figsize, layout=layout, squeeze=False, gridspec_kw=gridspec
        )
        if layout == "constrained":
            figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    axes = np.asarray(ax, dtype=object).ravel()
    if len(axes) < n_panels:
        raise ValueError(f"ax must hold {n_panels} Axes for {display}; received {len(axes)}.")
    for unused in axes[n_panels:]:
        unused.set_axis_off()
    return axes[:n_panels]
