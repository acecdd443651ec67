"""Images in their views: as a network is run over them, and as an epoch draws from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify.inputs.augmentation import Augmentation, fresh_views, no_views
from tlclassify.inputs.images import ImageSource


@dataclass(frozen=True)
class StoredInputs:
    """What an epoch reads at a cut: one of each image's stored views.

    Parameters
    ----------
    views : sequence of ndarray of shape (n, ...)
    """

    views: Sequence[NDArray[Any]]

    def draw(self, rows: NDArray[np.intp], rng: np.random.Generator | None) -> NDArray[Any]:
        """Return the outputs of the given images in a view drawn for each; without rng, view 0."""
        if rng is None or len(self.views) == 1:
            return self.views[0][rows]
        drawn = rng.integers(len(self.views), size=len(rows))
        first = self.views[0]
        batch = np.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
        for number, view in enumerate(self.views):
            batch[drawn == number] = view[rows[drawn == number]]
        return batch


@dataclass(frozen=True)
class StoredRows:
    """What an epoch reads where the stored views lie in the network itself: their row numbers.

    Parameters
    ----------
    n_images : int
    n_views : int
        Of each image; view v of image i is row ``first + v * n_images + i``.
    first : int
    """

    n_images: int
    n_views: int = 1
    first: int = 0

    def draw(self, rows: NDArray[np.intp], rng: np.random.Generator | None) -> NDArray[np.int32]:
        """Return the row of each image in a view drawn for it; without rng, in view 0."""
        views = 0 if rng is None else self.n_images * rng.integers(self.n_views, size=len(rows))
        return (self.first + views + rows).astype(np.int32)


@dataclass(frozen=True)
class ImageInputs:
    """What an epoch reads where the whole network is trained: images, in fresh views.

    Parameters
    ----------
    images : ImageSource
    augmentation : Augmentation or None
        None: the network takes images alone.
    image_size : (height, width)
        Pixels of the images to which views are applied.
    """

    images: ImageSource
    augmentation: Augmentation | None
    image_size: Sequence[int]

    def draw(self, rows: NDArray[np.intp], rng: np.random.Generator | None) -> Any:
        """Return images and a fresh view for each; without rng, view 0."""
        images = self.images.take(rows).read(0, len(rows))
        if self.augmentation is None:
            return images
        if rng is None:
            return images, no_views(len(rows))
        views = fresh_views(self.augmentation, rng, len(rows), image_size=self.image_size)
        return images, views
