"""Images as arrays: checked, or an error that says what to do."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS_CHECKED_AT_ONCE = 1024


def check_images(X: Any, *, name: str = "X") -> NDArray[Any]:
    """Return images as an array (n, h, w) or (n, h, w, c), or file paths as an object array.

    The data are neither copied nor changed; colour conversion happens batch by batch.

    Parameters
    ----------
    X : array-like
        Pixels of shape (n, h, w), (n, h, w, 1) or (n, h, w, 3), uint8 in [0, 255] or floating
        point in [0, 1] or [0, 255]; or n file paths.
    name : str
        The parameter's name, for messages.

    Returns
    -------
    ndarray
        The pixels as they came, or paths of shape (n,) and dtype object.

    Raises
    ------
    ValueError
        If there are no images, or shape or values are not as above.
    TypeError
        If the dtype is not as above.
    """
    images = _as_array(X, name)
    if len(images) == 0:
        raise ValueError(f"{name} must hold at least one image; received none.")
    if images.dtype == object:
        return images
    if images.ndim not in {3, 4} or (images.ndim == 4 and images.shape[3] not in {1, 3}):
        raise ValueError(_shape_message(images, name))
    if 0 in images.shape:
        raise ValueError(f"{name} must hold images of at least 1x1; received {images.shape}.")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise TypeError(
            f"{name} must be uint8, or floating point in [0, 255] or [0, 1]; received "
            f"{images.dtype}. If the values lie in [0, 255], pass {name}.astype('uint8')."
        )
    _check_float_range(images, name)
    return images


def _as_array(X: Any, name: str) -> NDArray[Any]:
    try:
        images = np.asarray(X)
    except ValueError:
        raise ValueError(
            f"{name} must hold images of one shape; received images of different shapes. "
            "Resize them first, or pass file paths: files are resized while they are read."
        ) from None
    if images.ndim == 0:
        raise ValueError(
            f"{name} must be an array of images or a list of file paths; received a single "
            f"{type(X).__name__}. Pass [{name}] for one image."
        )
    if images.dtype.kind in "OU":
        paths = np.empty(len(images), dtype=object)
        paths[:] = list(X)
        if images.ndim != 1 or not all(isinstance(path, str) or _is_path(path) for path in paths):
            raise TypeError(
                f"{name} must be an array of pixels or a list of file paths; received "
                f"dtype {images.dtype} and shape {images.shape}."
            )
        return paths
    return images


def _is_path(value: object) -> bool:
    return hasattr(value, "__fspath__")


def _shape_message(images: NDArray[Any], name: str) -> str:
    if images.ndim == 4 and images.shape[3] == 4:
        step = f"RGBA has no single meaning here: drop the alpha channel with {name}[..., :3]."
    elif images.ndim == 4 and images.shape[1] in {1, 3}:
        step = f"Put channels last with {name}.transpose(0, 2, 3, 1)."
    elif images.ndim == 2:
        step = f"Give flattened images their shape back with {name}.reshape(n, height, width)."
    else:
        step = f"For a single image pass {name}[None]."
    return (
        f"{name} must have shape (n, height, width), (n, height, width, 1) or "
        f"(n, height, width, 3); received {images.shape}. {step}"
    )


def _check_float_range(images: NDArray[Any], name: str) -> None:
    for start in range(0, len(images), _ROWS_CHECKED_AT_ONCE):
        low, high = pixel_limits(images[start : start + _ROWS_CHECKED_AT_ONCE])
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(
                f"{name} must be finite; received NaN or infinity among images {start} to "
                f"{min(start + _ROWS_CHECKED_AT_ONCE, len(images)) - 1}. Drop or repair them."
            )
        if low < 0 or high > 255:
            raise ValueError(
                f"{name} must lie in [0, 255] or [0, 1]; received values from {low:g} to "
                f"{high:g}. Pass raw pixels: scaling for the backbone happens inside the model."
            )


def pixel_limits(images: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and the largest value; NaN wherever one occurs."""
    return float(images.min()), float(images.max())
