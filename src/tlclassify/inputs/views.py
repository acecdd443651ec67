"""Images in their fixed views, as a network is run over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify.inputs.augmentation import Augmentation, count_views, fixed_views
from tlclassify.inputs.images import ImageSource


@dataclass(frozen=True)
class ViewSource:
    """One view of each image, for networks that `add_views` makes: ten numbers say which."""

    images: ImageSource
    numbers: NDArray[np.float32]
    image_digests: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, start: int, stop: int) -> tuple[NDArray[Any], ...]:
        """Return images as uint8 RGB, and the numbers of their views."""
        return self.images.read(start, stop), self.numbers[start:stop]

    def take(self, rows: NDArray[np.intp]) -> "ViewSource":
        """Return the given rows alone."""
        return ViewSource(self.images.take(rows), self.numbers[rows], self.image_digests[rows])

    def digests(self) -> NDArray[np.uint8]:
        """Return the SHA-256 of each image's own and its view, shape (n, 32)."""
        pairs = np.concatenate([self.image_digests, self.numbers.view(np.uint8)], axis=1)
        return np.stack([np.frombuffer(sha256(pair).digest(), np.uint8) for pair in pairs])


def open_views(
    images: ImageSource, augmentation: Augmentation | None, image_size: Sequence[int]
) -> list[ImageSource | ViewSource]:
    """Return the source of each fixed view, the images themselves first."""
    if augmentation is None or count_views(augmentation) == 1:
        return [images]
    digests, others = images.digests(), range(1, count_views(augmentation))
    numbers = (fixed_views(augmentation, digests, n, image_size=image_size) for n in others)
    return [images, *(ViewSource(images, view, digests) for view in numbers)]
