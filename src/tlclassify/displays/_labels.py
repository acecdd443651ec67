"""Names beside points, where they hide neither each other nor what is drawn."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlclassify.displays._drawing import settle

_FONT_SIZE, _GAP, _STEPS = 9, 3.0, (0, 12, 24, 40)  # in typographic points
_SIDES = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)]


def place_labels(
    ax: Any, names: list[str], *, points: ArrayLike, radii: ArrayLike, bars: ArrayLike
) -> list[Any]:
    """Write each name near its point and return the annotations.

    Parameters
    ----------
    points : array-like of shape (n, 2)
        In data coordinates.
    radii : array-like of shape (n,)
        Of the markers, in typographic points.
    bars : array-like of shape (n, 2)
        Ends of a vertical error bar at each point.
    """
    sizes = _measure(ax, names)
    pixels = ax.figure.dpi / 72
    centers = ax.transData.transform(points)
    reach = np.asarray(radii)[:, None] * pixels
    lines = _bar_boxes(ax, centers, bars)
    taken = [np.hstack([centers - reach, centers + reach])]
    labels = []
    for i, (name, point) in enumerate(zip(names, np.asarray(points).tolist(), strict=True)):
        places = _candidates(sizes[i], float(reach[i, 0]), pixels)
        boxes = np.hstack([centers[i] + places - sizes[i] / 2, centers[i] + places + sizes[i] / 2])
        best = int(_costs(boxes, np.vstack(taken), lines, ax.bbox.extents).argmin())
        taken.append(boxes[best : best + 1])
        # A name that stands at its point needs no line to it.
        leader = {"arrowstyle": "-", "color": "0.5", "linewidth": 0.6}
        label = ax.annotate(
            name,
            point,
            xytext=places[best] / pixels,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=_FONT_SIZE,
            arrowprops=None if best < len(_SIDES) else leader,
            in_layout=False,
        )
        labels.append(label)
    return labels


def _measure(ax: Any, names: list[str]) -> NDArray[Any]:
    """Return width and height of each text in pixels."""
    texts = [ax.text(0, 0, name, fontsize=_FONT_SIZE, in_layout=False) for name in names]
    settle(ax)
    boxes = [text.get_window_extent() for text in texts]
    for text in texts:
        text.remove()
    return np.array([[box.width, box.height] for box in boxes])


def _bar_boxes(ax: Any, centers: NDArray[Any], bars: ArrayLike) -> NDArray[Any]:
    ends = np.asarray(bars)
    heights = [ax.transData.transform(np.column_stack([ends[:, k], ends[:, k]])) for k in (0, 1)]
    across = centers[:, 0]
    return np.column_stack([across - 1, heights[0][:, 1], across + 1, heights[1][:, 1]])


def _candidates(size: NDArray[Any], reach: float, pixels: float) -> NDArray[Any]:
    """Return where a label's centre may lie, from its point, the nearest ones first."""
    places = []
    for step, side in itertools.product(_STEPS, _SIDES):
        slant = 0.7 if all(side) else 1.0
        away = slant * (reach + (_GAP + step) * pixels)
        places.append(np.array(side) * (away + size / 2))
    return np.array(places)


def _costs(
    boxes: NDArray[Any], taken: NDArray[Any], lines: NDArray[Any], frame: NDArray[Any]
) -> NDArray[Any]:
    """Return how bad each place is: what it hides or crosses, what leaves the frame, how far."""
    sizes = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    shared = _overlap(boxes, taken)
    hidden = (shared / sizes[:, None] + (shared > 0)).sum(axis=1)
    crossed = (_overlap(boxes, lines) > 0).sum(axis=1)
    outside = 1 - _overlap(boxes, frame[None])[:, 0] / sizes
    costs: NDArray[Any] = (
        hidden + 0.15 * crossed + (outside > 0) + 9 * outside + np.arange(len(boxes)) / 100
    )
    return costs


def _overlap(boxes: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Return the area that each two boxes share; a box is (left, bottom, right, top)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), axis=2)  # type: ignore[no-any-return]
