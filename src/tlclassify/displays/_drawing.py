"""What all pictures share: matplotlib imported late, colours, names, panels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify.evaluation import short_name

# Two of Okabe and Ito's colours, which every colour vision tells apart.
BLUE, VERMILION = "#0072B2", "#D55E00"
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


def panels(
    ax: Any, *, n_panels: int, shape: tuple[int, int], figsize: tuple[float, float], display: str
) -> NDArray[Any]:
    plt = import_pyplot(display)
    if ax is None:
        figure, ax = plt.subplots(*shape, figsize=figsize, layout="constrained", squeeze=False)
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    axes = np.asarray(ax, dtype=object).ravel()
    if len(axes) < n_panels:
        raise ValueError(f"ax must hold {n_panels} Axes for {display}; received {len(axes)}.")
    for unused in axes[n_panels:]:
        unused.set_axis_off()
    return axes[:n_panels]
