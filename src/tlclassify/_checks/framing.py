"""How pictures that are not square come before a backbone, which sees squares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

STRETCH = "stretch"
ASPECTS = (STRETCH, "pad", "crop", "soft")


class Span(NamedTuple):
    """Along one axis: the pixels of a picture that are seen, and how many they become."""

    start: int
    n_seen: int
    n_covered: int


@dataclass(frozen=True)
class Framing:
    """Which part of a picture is seen, and the colour around it, RGB in [0, 255]."""

    aspect: str = STRETCH
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def side(self, shapes: ArrayLike) -> NDArray[np.float64]:
        """Return the side, in a picture's pixels, of the square seen of shapes (..., 2)."""
        shorter, longer = np.min(shapes, axis=-1), np.max(shapes, axis=-1)
        if self.aspect == "soft":
            return np.asarray(np.sqrt(shorter * longer))
        return np.asarray(shorter if self.aspect == "crop" else longer)

    def kept(self, shapes: ArrayLike) -> NDArray[np.float64]:
        """Return the share of a square or of a picture, whichever is less, that is made use of."""
        side = self.side(shapes)
        shorter, longer = np.min(shapes, axis=-1), np.max(shapes, axis=-1)
        return np.asarray(np.minimum(shorter / side, side / longer))

    def zooms(self, shape: Sequence[int], canvas: Sequence[int]) -> NDArray[np.float64]:
        """Return by what a picture's height and width are multiplied on a canvas."""
        ratios = np.divide(canvas, shape)
        if self.aspect == STRETCH:
            return ratios
        if self.aspect == "pad":
            return np.full(2, ratios.min())
        return np.full(2, self.side(canvas) / self.side(shape))

    def place(self, shape: Sequence[int], canvas: Sequence[int]) -> list[Span]:
        """Return what is seen of rows and of columns; it comes to the middle of the canvas."""
        spans = []
        for n, room, zoom in zip(shape, canvas, self.zooms(shape, canvas), strict=True):
            n_seen = min(n, max(1, round(room / zoom)))
            spans.append(Span((n - n_seen) // 2, n_seen, min(room, max(1, round(n * zoom)))))
        return spans

    def extent(self, shape: Sequence[int], canvas: Sequence[int]) -> NDArray[np.float64]:
        """Return a picture's height and width, when it has come by a canvas, in squares seen."""
        on_canvas = np.multiply(shape, self.zooms(shape, canvas))
        return np.multiply(on_canvas, self.zooms(canvas, (1, 1)))


STRETCHED = Framing()
