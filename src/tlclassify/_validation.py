"""Turn what the user handed over into a clean value, or into an error that says what to do."""

import difflib
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROWS_CHECKED_AT_ONCE = 1024
_NAMES_IN_MESSAGE = 10


def close_match_hint(name: object, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or an empty string."""
    match = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""


def check_choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of the `allowed` strings.

    Raises
    ------
    ValueError
        With the allowed values and the nearest one to what was received.
    """
    if isinstance(value, str) and value in allowed:
        return value
    listed = ", ".join(repr(choice) for choice in allowed)
    hint = close_match_hint(value, allowed)
    raise ValueError(f"{name} must be one of {listed}; received {value!r}.{hint}")


def choice_problem(name: str, value: object, allowed: Sequence[str]) -> str | None:
    """Return what is wrong with a choice, or None; problems are gathered and raised together."""
    try:
        check_choice(name, value, allowed)
    except ValueError as error:
        return str(error).rstrip(".")
    return None


def number_problem(
    name: str,
    value: object,
    *,
    integer: bool = False,
    low: float = -np.inf,
    high: float = np.inf,
    low_included: bool = True,
    high_included: bool = True,
) -> str | None:
    """Return what is wrong with a number, or None; problems are gathered and raised together."""
    kind = Integral if integer else Real
    if isinstance(value, kind) and not isinstance(value, bool | np.bool_):
        number = float(value)
        above = number >= low if low_included else number > low
        below = number <= high if high_included else number < high
        if above and below:
            return None
    left, right = "[" if low_included else "(", "]" if high_included else ")"
    noun = "an integer" if integer else "a number"
    return f"{name} must be {noun} in {left}{low:g}, {high:g}{right}; received {value!r}"


def raise_problems(problems: Iterable[str | None]) -> None:
    """Raise one ValueError that lists all the problems that are not None.

    Raises
    ------
    ValueError
        If there is any problem.
    """
    found = [problem for problem in problems if problem is not None]
    if len(found) == 1:
        raise ValueError(f"{found[0]}.")
    if found:
        listed = "".join(f"\n  - {problem}." for problem in found)
        raise ValueError(f"{len(found)} parameters are not valid:{listed}")


def check_labels(y: ArrayLike, *, n_samples: int, name: str = "y") -> NDArray[Any]:
    """Return labels as a one-dimensional array of one type and the right length.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Strings, integers or booleans; whole floats are kept as they are.
    n_samples : int
        How many images the labels belong to.
    name : str
        The parameter's name, for messages.

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If the labels have another shape or length, are missing (None, NaN) or fractional.
    TypeError
        If the labels mix types that have no common order.
    """
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(
            f"{name} must hold one label per image, shape (n_samples,); received shape "
            f"{labels.shape}. Turn one-hot rows into labels with {name}.argmax(axis=1)."
        )
    if labels.ndim == 2:
        labels = labels.reshape(-1)
    if labels.ndim != 1:
        raise ValueError(f"{name} must have shape (n_samples,); received shape {labels.shape}.")
    if len(labels) != n_samples:
        raise ValueError(
            f"{name} must have one label per image; received {len(labels)} labels for "
            f"{n_samples} images."
        )
    # np.asarray turns [1, "a"] into strings without a word, so the types are read from the list.
    listed = np.asarray(y, dtype=object).reshape(-1) if labels.dtype.kind in "OUS" else labels
    if listed.dtype == object:
        labels = _one_type(listed, name)
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.floor(labels)):
        raise ValueError(
            f"{name} must hold class labels; received fractional or missing numbers "
            f"({labels.dtype}). Drop rows with NaN, or bin a continuous target first."
        )
    if labels.dtype.kind not in "iufbUS":
        raise TypeError(f"{name} must hold strings or integers; received dtype {labels.dtype}.")
    return labels


def check_sample_weight(sample_weight: ArrayLike, *, n_samples: int) -> NDArray[np.float32]:
    """Return one weight per image.

    Raises
    ------
    ValueError
        If they have another length, are negative or not finite, or all zero.
    """
    weights = np.asarray(sample_weight, dtype=np.float32)
    if weights.shape != (n_samples,) or not np.isfinite(weights).all():
        raise ValueError(
            f"sample_weight must be {n_samples} finite numbers, one per image; received shape "
            f"{weights.shape}, {np.count_nonzero(~np.isfinite(weights))} of them not finite."
        )
    if weights.min() < 0 or weights.max() == 0:
        raise ValueError(
            "sample_weight must be zero or more, and more than zero somewhere; received values "
            f"from {weights.min():g} to {weights.max():g}."
        )
    return weights


def encode_labels(
    labels: NDArray[Any],
    classes: NDArray[Any],
    *,
    name: str = "y",
    source: str = "that clf was fitted on",
    advice: str = "Drop those images, or fit with images of these classes.",
) -> NDArray[np.intp]:
    """Return each label's place among the classes.

    Parameters
    ----------
    labels : ndarray of shape (n,)
    classes : ndarray of shape (n_classes,)
        In any order.
    name, source, advice : str
        The parameter's name, where the classes come from, and what to do, for messages.

    Returns
    -------
    ndarray of shape (n,), int

    Raises
    ------
    ValueError
        If a label is none of the classes.
    """
    # As Python objects: NumPy would turn a number beside a string into a string.
    known = {label: column for column, label in enumerate(classes.tolist())}
    found, places = np.unique(labels, return_inverse=True)
    unseen = [label for label in found.tolist() if label not in known]
    if unseen:
        raise ValueError(
            f"{name} must hold labels {source}: {listed(known)}; received {listed(unseen)} in "
            f"{np.isin(labels, unseen).sum()} of {len(labels)} images."
            f"{close_match_hint(unseen[0], map(str, known))} {advice}"
        )
    return np.array([known[label] for label in found.tolist()], dtype=np.intp)[places]


def listed(values: Iterable[Any]) -> str:
    """Return the first values as Python writes them, and how many more there are."""
    texts = [repr(value) for value in values]
    more = len(texts) - _NAMES_IN_MESSAGE
    shown = ", ".join(texts[:_NAMES_IN_MESSAGE])
    return f"{shown} and {more} more" if more > 0 else shown


def _one_type(labels: NDArray[Any], name: str) -> NDArray[Any]:
    missing = [i for i, label in enumerate(labels) if label is None or label != label]  # noqa: PLR0124 - NaN
    if missing:
        raise ValueError(
            f"{name} must not hold missing labels; received {len(missing)} of them, the first at "
            f"row {missing[0]}. Drop those rows from the images too."
        )
    kinds = sorted({_kind(label) for label in labels})
    if len(kinds) > 1:
        raise TypeError(
            f"{name} must hold labels of one type; received a mix of {' and '.join(kinds)}. "
            f"Convert them first, for example [str(label) for label in {name}]."
        )
    return np.array(labels.tolist())


def _kind(label: object) -> str:
    if isinstance(label, bool | np.bool_):
        return "bool"
    if isinstance(label, Integral):
        return "int"
    if isinstance(label, Real):
        return "float"
    return "str" if isinstance(label, str) else type(label).__name__


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
