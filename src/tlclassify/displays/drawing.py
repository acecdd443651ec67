"""What all pictures share: libraries imported late, colours, names, panels."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tlclassify.evaluation.text import short_name, to_plain

if TYPE_CHECKING:
    from matplotlib import axes

    Axes: TypeAlias = axes.Axes
else:  # matplotlib is imported when something is drawn
    Axes = Any

# Okabe and Ito's colours, which every colour vision tells apart; their yellow is too light to draw.
BLUE, VERMILION = "#0072B2", "#D55E00"
_COLORS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", "-.", (0, (1, 1)))


def import_extra(module: str, *, user: str) -> Any:
    """Return a module that only pictures and pages need, or say how to get it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f'{user} needs {package}. Install it with: pip install "tlclassify[plot]".'
        ) from error


def curve_style(i: int) -> dict[str, Any]:
    """Return how the i-th of several curves is drawn, so that colour is not all that differs."""
    return {"color": _COLORS[i % len(_COLORS)], "linestyle": _LINES[i % len(_LINES)]}


def plain(name: object, width: int) -> str:
    """Return a name as text on one line, shortened, and safe from being read as TeX."""
    return short_name(str(to_plain(name)), width=width).replace("$", r"\$")


def text_inches(*texts: str, fontsize: float) -> float:
    """Return about how wide the longest text is."""
    return max(map(len, texts)) * fontsize * 0.6 / 72


def settle(figure: Any) -> None:
    """Give panels and texts their final sizes."""
    figure.canvas.figure.draw_without_rendering()


def open_axes(
    display: object, ax: Any, *, n_panels: int = 1, **options: Any
) -> tuple[NDArray[Any], Any]:
    """Return the caller's Axes, or those of a new figure with options of `subplots`; the figure."""
    name = type(display).__name__
    plt = import_extra("matplotlib.pyplot", user=f"{name}.plot")
    if ax is None:
        figure, ax = plt.subplots(**{"layout": "constrained", **options})
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    axes = np.asarray(ax, dtype=object).ravel()
    if len(axes) < n_panels:
        raise ValueError(f"ax must hold {n_panels} Axes for {name}; received {len(axes)}.")
    for unused in axes[n_panels:]:
        unused.set_axis_off()
    return axes[:n_panels], axes[0].figure
