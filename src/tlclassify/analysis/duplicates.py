"""Pictures that are there twice, also where they were saved anew, resized or made brighter."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlclassify._checks.parameters import Interval, check_parameters
from tlclassify.inputs.images import ImageSource, open_images

_SIDE, _BATCH, _ROUNDING = 16, 1024, 1e-5
# In grey levels. A picture with less is one of its mean colour, which else hardly counts.
_LEAST_CONTRAST, _MEANS_SHARE = 8.0, 1 / 32


def find_duplicates(X: Any, X_other: Any = None, *, max_distance: float = 0.3) -> NDArray[np.intp]:
    """Find images that show what an earlier one shows, the same file or nearly the same picture.

    It sees through another size, compression, brightness or contrast; not through mirroring,
    turning or cropping.

    Parameters
    ----------
    X : array-like, images as for `TransferClassifier.fit`
    X_other : array-like, optional
        Images that are looked for in `X`. None: each of `X` is looked for among those before it.
    max_distance : float, default 0.3
        Root mean square difference of two thumbnails, each of standard deviation 1, up to which
        they are the same picture: about 1.4 where they have nothing to do with each other.

    Returns
    -------
    ndarray of shape (n_duplicates, 2), intp
        For each duplicate the row of `X` that is most like it, and its own row, by which they are
        sorted.

    Raises
    ------
    ValueError, TypeError, OSError
        If the images or `max_distance` are not as above; if files cannot be read.

    Examples
    --------
    >>> from tlclassify import find_duplicates
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(30, random_state=0)
    >>> find_duplicates(X[:20], X[18:]).tolist()
    [[18, 0], [19, 1]]
    """
    check_parameters(("max_distance", max_distance, Interval(0)))
    own = _describe(open_images(X))
    others = own if X_other is None else _describe(open_images(X_other, name="X_other"))
    squares, found = np.square(own).sum(axis=1), []
    for start in range(0, len(others), _BATCH):
        part = others[start : start + _BATCH]
        distances = squares - 2 * part @ own.T + np.square(part).sum(axis=1)[:, None]
        if X_other is None:
            distances[np.arange(start, start + len(part))[:, None] <= np.arange(len(own))] = np.inf
        nearest = distances.argmin(axis=1)
        rows = np.flatnonzero(distances.min(axis=1) <= max_distance**2 + _ROUNDING)
        found.append(np.stack([nearest[rows], start + rows], axis=1))
    return np.concatenate(found)


def _describe(source: ImageSource) -> NDArray[np.float32]:
    """Return for each image numbers whose squared differences say how unlike two images are."""
    size = (_SIDE, _SIDE)
    source = replace(source, file_shape=size)
    described = np.empty((len(source), 3 * (_SIDE**2 + 1)), dtype=np.float32)
    for start in range(0, len(source), _BATCH):
        images = [
            np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
            for image in source.read(start, start + _BATCH)
        ]
        pixels = np.stack(images).reshape(len(images), -1, 3).astype(np.float32)
        means = pixels.mean(axis=1)
        pixels = (pixels - means[:, None]).reshape(len(images), -1) / np.sqrt(pixels[0].size)
        contrasts = np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), _LEAST_CONTRAST)
        rows = np.hstack([pixels, means * _MEANS_SHARE]) / contrasts
        described[start : start + len(images)] = rows
    return described
