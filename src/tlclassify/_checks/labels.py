"""Labels and weights: a clean array, or an error that says what to do."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlclassify._checks.parameters import close_match_hint, listed


def check_labels(y: ArrayLike, *, n_samples: int, name: str = "y") -> NDArray[Any]:
    """Return labels as an array (n_samples,) of strings, bytes, integers, bools or whole floats."""
    try:
        labels = np.asarray(y)
    except ValueError:
        raise ValueError(
            f"{name} must hold one label per image; received rows of different lengths. Where "
            "images have several labels, train one classifier for each."
        ) from None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        step = f" Turn one-hot rows into labels with {name}.argmax(axis=1)."
        raise ValueError(
            f"{name} must hold one label per image, shape (n_samples,); received a "
            f"{type(y).__name__} of shape {labels.shape}.{step if labels.ndim == 2 else ''}"
        )
    if len(labels) != n_samples:
        raise ValueError(
            f"{name} must have one label per image; received {len(labels)} labels for "
            f"{n_samples} images."
        )
    if labels.dtype.kind in "SU" and not isinstance(y, np.ndarray):
        # NumPy turns [1, "a"] into strings without a word, so types are read from the list.
        labels = np.asarray(y, dtype=object).reshape(-1)
    if labels.dtype.kind in "OT":
        labels = _one_type(labels.astype(object), name)
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.floor(labels))).all():
        raise ValueError(
            f"{name} must hold class labels; received fractional, infinite or missing numbers "
            f"({labels.dtype}). Drop rows with NaN, or bin a continuous target first."
        )
    if labels.dtype.kind not in "iufbUS":
        raise TypeError(
            f"{name} must hold strings or integers; received dtype {labels.dtype}, the first a "
            f"{type(labels[0]).__name__}. Convert them, for example by [str(k) for k in {name}]."
        )
    return labels


def check_sample_weight(sample_weight: ArrayLike, *, n_samples: int) -> NDArray[np.float32]:
    """Return one finite weight per image, zero or more and not all zero."""
    try:
        weights = np.asarray(sample_weight, dtype=np.float64).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"sample_weight must be {n_samples} numbers; {error}.") from None
    n_bad = np.count_nonzero(~np.isfinite(weights))
    if weights.shape != (n_samples,) or n_bad:
        raise ValueError(
            f"sample_weight must be {n_samples} finite numbers, one per image; received shape "
            f"{weights.shape}, {n_bad} of them not finite."
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
    """Return each label's place among the classes, which may stand in any order.

    `source` says in the message where the classes come from.
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


def _one_type(labels: NDArray[Any], name: str) -> NDArray[Any]:
    """Return labels that came as Python objects as an array of their one type."""
    missing = [row for row, label in enumerate(labels) if _is_missing(label)]
    if missing:
        raise ValueError(
            f"{name} must not hold missing labels; received {len(missing)} of them, the first at "
            f"row {missing[0]}. Drop those rows from the images too."
        )
    kinds = sorted({_kind(found) for found in set(map(type, labels))})
    if len(kinds) > 1:
        raise TypeError(
            f"{name} must hold labels of one type; received a mix of {' and '.join(kinds)}. "
            f"Convert them first, for example [str(label) for label in {name}]."
        )
    return np.array(labels.tolist())


def _is_missing(label: object) -> bool:
    try:
        return label is None or bool(label != label)  # noqa: PLR0124 - NaN
    except TypeError:  # pandas.NA says neither yes nor no
        return True


def _kind(found: type) -> str:
    known = {"bool": (bool, np.bool_), "int": Integral, "float": Real, "str": str}
    names = [name for name, types in known.items() if issubclass(found, types)]  # type: ignore[arg-type]
    return names[0] if names else found.__name__
