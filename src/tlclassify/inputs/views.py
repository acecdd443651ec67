"""Images in their views: as a network is run over them, and as an epoch draws from them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify.inputs.augmentation import (
    Augmentation,
    count_views,
    fixed_views,
)
from tlclassify.inputs.images import ImageSource


@dataclass(frozen=True)
class ViewSource:
    """One view of each image, to be run through a network that `add_views` has made.

    Parameters
    ----------
    images : ImageSource
    numbers : ndarray of shape (n, 10), float32
        See `tlclassify.networks.views.build_view`.
    image_digests : ndarray of shape (n, 32), uint8
        SHA-256 of each image.
    """

    images: ImageSource
    numbers: NDArray[np.float32]
    image_digests: NDArray[np.uint8]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def read(self, start: int, stop: int) -> tuple[NDArray[Any], ...]:
        """Return images as uint8 RGB, and the numbers of their views."""
        return self.images.read(start, stop), self.numbers[start:stop]

    def take(self, rows: NDArray[np.intp]) -> "ViewSource":
        """Return the given rows alone."""
        return ViewSource(self.images.take(rows), self.numbers[rows], self.image_digests[rows])

    def digests(self) -> NDArray[np.uint8]:
        """Return the SHA-256 of each image's own and its view, shape (n, 32)."""
        pairs = zip(self.image_digests, self.numbers, strict=True)
        joined = b"".join(
            hashlib.sha256(image.tobytes() + view.tobytes()).digest() for image, view in pairs
        )
        return np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32)


def open_views(
    images: ImageSource, augmentation: Augmentation | None, image_size: Sequence[int]
) -> list[ImageSource | ViewSource]:
    """Return the source of each fixed view, the images themselves first."""
    if augmentation is None or count_views(augmentation) == 1:
        return [images]
    digests = images.digests()
    views = [
        ViewSource(images, fixed_views(augmentation, digests, view, image_size=image_size), digests)
        for view in range(1, count_views(augmentation))
    ]
    return [images, *views]
