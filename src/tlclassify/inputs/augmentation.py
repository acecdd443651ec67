"""Augmentation as parameters, and a view of an image as numbers that a graph applies."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from tlclassify._checks.parameters import COUNT, Interval, check_choice, check_parameters
from tlclassify.inputs.images import ImageSource

N_VIEW_NUMBERS = 10
_N_DRAWN = 7


@dataclass(kw_only=True, eq=False, repr=False)
class Augmentation(BaseEstimator):  # type: ignore[misc]
    """How training images are changed, as parameters; all are off unless they are set.

    Each view applies one random change of every kind within these limits. Rotation, zoom,
    translation and flip are one transformation, which reflects what it uncovers at the edge.

    Parameters
    ----------
    horizontal_flip : bool
        Whether a view may be mirrored. Wrong where left and right matter: digits, text, signs.
    rotation_degrees : float in [0, 180], to either side
    zoom_fraction : float in [0, 1); 0.1: sides of 0.9 to 1.1 times the length
    translation_fraction : float in [0, 1), of the image's side, in both directions
    brightness : float in [0, 1], added to all pixels, as a fraction of white
    contrast : float in [0, 1); 0.2: 0.8 to 1.2 times each channel's deviation from its mean
    n_views : int
        Views kept of each image where a stage trains on stored activations, the image itself
        among them; each epoch draws one. Flipping alone makes two. Where a stage trains the
        whole network, every epoch sees a fresh view instead.
    mixup_alpha, cutmix_factor : float in [0, 1], only where the whole network is trained
        Of MixUp's beta distribution the parameter, of CutMix's its upper end, as Keras has them.

    References
    ----------
    H. Zhang et al. (2018), mixup, ICLR; S. Yun et al. (2019), CutMix, ICCV.

    Examples
    --------
    >>> from tlclassify import Augmentation
    >>> Augmentation(horizontal_flip=True, rotation_degrees=5)
    Augmentation(horizontal_flip=True, rotation_degrees=5)
    """

    horizontal_flip: bool = False
    rotation_degrees: float = 0.0
    zoom_fraction: float = 0.0
    translation_fraction: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    n_views: int = 4
    mixup_alpha: float = 0.0
    cutmix_factor: float = 0.0


_PRESETS = {
    "flip": Augmentation(horizontal_flip=True),
    "article": Augmentation(horizontal_flip=True, rotation_degrees=2, zoom_fraction=0.1),
    "strong": Augmentation(
        horizontal_flip=True,
        rotation_degrees=10,
        zoom_fraction=0.15,
        translation_fraction=0.1,
        brightness=0.1,
        contrast=0.2,
    ),
}
_ALLOWED = {
    "rotation_degrees": Interval(0, 180),
    "zoom_fraction": Interval(0, 1, closed="left"),
    "translation_fraction": Interval(0, 1, closed="left"),
    "brightness": Interval(0, 1),
    "contrast": Interval(0, 1, closed="left"),
    "n_views": COUNT,
    "mixup_alpha": Interval(0, 1),
    "cutmix_factor": Interval(0, 1),
}
# What changes single views; flipping is not among it.
_CHANGES = ("rotation_degrees", "zoom_fraction", "translation_fraction", "brightness", "contrast")


def get_augmentation(augmentation: str | Augmentation) -> Augmentation:
    """Return a checked augmentation; a preset's name gives a copy of the preset."""
    if isinstance(augmentation, str):
        name = check_choice("augmentation", augmentation, tuple(_PRESETS))
        return clone(_PRESETS[name])  # type: ignore[no-any-return]
    if not isinstance(augmentation, Augmentation):
        raise TypeError(
            "augmentation must be an Augmentation, the name of a preset or None; received "
            f"{type(augmentation).__name__}."
        )
    flip = augmentation.horizontal_flip
    problem = f"augmentation__horizontal_flip must be True or False; received {flip!r}"
    check_parameters(
        *((f"augmentation__{key}", getattr(augmentation, key), _ALLOWED[key]) for key in _ALLOWED),
        problems=[] if isinstance(flip, bool | np.bool_) else [problem],
    )
    return augmentation


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
        return np.stack([np.frombuffer(hashlib.sha256(pair).digest(), np.uint8) for pair in pairs])


def open_views(
    images: ImageSource, augmentation: Augmentation, image_size: Sequence[int]
) -> list[ImageSource | ViewSource]:
    """Return the source of each fixed view, the images themselves first."""
    n_views = augmentation.n_views
    if not any(getattr(augmentation, name) for name in _CHANGES):
        n_views = min(n_views, 2 if augmentation.horizontal_flip else 1)
    if n_views == 1:
        return [images]
    digests = images.digests()
    numbers = (
        fixed_views(augmentation, digests, view, image_size=image_size)
        for view in range(1, n_views)
    )
    return [images, *(ViewSource(images, view, digests) for view in numbers)]


def fixed_views(
    augmentation: Augmentation, digests: NDArray[np.uint8], view: int, *, image_size: Sequence[int]
) -> NDArray[np.float32]:
    """Return the numbers (n, 10) of a view, from 1, of images with these digests (n, 32)."""
    # Of image and view alone, so that they are the same in every fold, order and session.
    number = view.to_bytes(4, "big")
    drawn = b"".join(hashlib.sha256(row.tobytes() + number).digest() for row in digests)
    uniform = np.frombuffer(drawn, dtype=">u4").reshape(-1, 8)[:, :_N_DRAWN] / 2.0**32
    uniform[:, 0] = view % 2
    return _view_numbers(augmentation, uniform, image_size)


def fresh_views(
    augmentation: Augmentation, rng: np.random.Generator, n: int, *, image_size: Sequence[int]
) -> NDArray[np.float32]:
    """Return the numbers of a new random view for each of `n` images."""
    uniform = rng.random((n, _N_DRAWN))
    uniform[:, 0] = np.rint(uniform[:, 0])
    return _view_numbers(augmentation, uniform, image_size)


def no_views(n: int) -> NDArray[np.float32]:
    """Return the numbers of view 0, the image itself, `n` times."""
    numbers = np.zeros((n, N_VIEW_NUMBERS), dtype=np.float32)
    numbers[:, [0, 4, 9]] = 1
    return numbers


def _view_numbers(
    augmentation: Augmentation, uniform: NDArray[np.float64], image_size: Sequence[int]
) -> NDArray[np.float32]:
    """Turn numbers in [0, 1) into those of views; what they mean stands in `build_view`."""
    flip = uniform[:, 0]
    rotation, zoom, shift_x, shift_y, brightness, contrast = 2 * uniform[:, 1:].T - 1
    height, width = image_size
    angle = np.deg2rad(augmentation.rotation_degrees) * rotation
    # The transformation leads from the view's pixels to the image's, so that a zoom divides.
    scale = 1 / (1 + augmentation.zoom_fraction * zoom)
    mirrored = np.where(flip * augmentation.horizontal_flip > 0, -1.0, 1.0)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2
    numbers = no_views(len(uniform))
    numbers[:, 0], numbers[:, 1] = cosine * mirrored, -sine
    numbers[:, 3], numbers[:, 4] = sine * mirrored, cosine
    moved = augmentation.translation_fraction
    numbers[:, 2] = x + moved * width * shift_x - numbers[:, 0] * x - numbers[:, 1] * y
    numbers[:, 5] = y + moved * height * shift_y - numbers[:, 3] * x - numbers[:, 4] * y
    numbers[:, 8] = 255 * augmentation.brightness * brightness
    numbers[:, 9] = 1 + augmentation.contrast * contrast
    return numbers
