"""Small image sets that need no download: real digits and drawn shapes."""

from collections.abc import Callable

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.utils import check_random_state

from tlclassify._checks.parameters import COUNT, Interval, check_parameters
from tlclassify.datasets._folder import ImageDataset

# Each says which points of a plane belong to a shape that fills the square from -1 to 1.
_SHAPES: dict[str, Callable[..., NDArray[np.bool_]]] = {
    "circle": lambda x, y: x**2 + y**2 <= 1,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) <= 0.9,
    "triangle": lambda x, y: (np.abs(x) <= (1 + y) / 2) & (y <= 1),
    "cross": lambda x, y: (
        (np.minimum(np.abs(x), np.abs(y)) <= 0.3) & (np.maximum(np.abs(x), np.abs(y)) <= 1)
    ),
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.8) <= 0.2,
    "diamond": lambda x, y: np.abs(x) + np.abs(y) <= 1,
}


def load_digits_rgb(*, image_size: int = 32) -> ImageDataset:
    """Return scikit-learn's 1,797 handwritten digits, 8x8 pixels enlarged, as RGB images.

    Labels are "0" to "9". ValueError if `image_size`, in pixels, is not a positive integer.

    Examples
    --------
    >>> from tlclassify.datasets import load_digits_rgb
    >>> load_digits_rgb(image_size=16)
    ImageDataset(1797 images of 16x16x3, 10 classes)
    """
    check_parameters(("image_size", image_size, COUNT))
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    size, way = (image_size, image_size), Image.Resampling.BILINEAR
    resized = (Image.fromarray(digit).resize(size, way).convert("RGB") for digit in pixels)
    X = np.stack([np.asarray(digit) for digit in resized])
    return ImageDataset(X, digits.target.astype(np.str_), tuple("0123456789"))


def make_shapes(
    n_samples: int = 100,
    *,
    n_classes: int = 3,
    image_size: int = 32,
    noise: float = 0.05,
    random_state: int | RandomState | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Draw images of shapes at random places, sizes and colours.

    The classes are circle, square, triangle, cross, ring and diamond, equal in number. ValueError
    if a parameter is out of its range.

    Parameters
    ----------
    n_samples : int, at least one per class
    n_classes : int, from 2 to 6
    image_size : int, height and width in pixels, at least 8
    noise : float in [0, 1], standard deviation of the noise on each value, as a fraction of 255
    random_state : int, RandomState or None

    Returns
    -------
    X : ndarray of shape (n_samples, image_size, image_size, 3) and dtype uint8, in [0, 255]
    y : ndarray of shape (n_samples,) and dtype str, the name of the shape in each image

    Examples
    --------
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(6, random_state=0)
    >>> X.shape, sorted(set(y.tolist()))
    ((6, 32, 32, 3), ['circle', 'square', 'triangle'])
    """
    possible = Interval(2, len(_SHAPES), integer=True)
    fewest = n_classes if n_classes in possible else 2
    check_parameters(
        ("n_classes", n_classes, possible),
        ("n_samples", n_samples, Interval(fewest, integer=True)),
        ("image_size", image_size, Interval(8, integer=True)),
        ("noise", noise, Interval(0, 1)),
    )
    rng = check_random_state(random_state)
    names = np.array(list(_SHAPES)[:n_classes])
    y = rng.permutation(names[np.arange(n_samples) % n_classes])
    return np.stack([_draw(str(name), image_size, noise, rng) for name in y]), y


def _draw(name: str, size: int, noise: float, rng: RandomState) -> NDArray[np.uint8]:
    radius = rng.uniform(0.2, 0.45) * size
    center_x, center_y = rng.uniform(radius, size - radius, size=2)
    grid = np.arange(size) + 0.5
    inside = _SHAPES[name]((grid[None, :] - center_x) / radius, (grid[:, None] - center_y) / radius)
    background = rng.uniform(0, 256, size=3)
    # On a circle of 256 values this is never closer than 96 in any channel.
    foreground = (background + rng.uniform(96, 160, size=3)) % 256
    image = np.where(inside[:, :, None], foreground, background)
    image += rng.normal(scale=noise * 255, size=image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)
