"""Class labels as JSON, and back with their dtype: in saved classifiers and in exported ones."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_BYTES = 16 * 2**20
# What JSON makes of a label, by NumPy's kind.
_KINDS = {"U": str, "S": str, "i": int, "u": int, "b": bool, "f": float}
_DTYPE = re.compile(r"[<>|]([UiubfS])[1-9][0-9]{0,6}")


def encode_labels_as_json(classes: NDArray[Any]) -> tuple[list[Any], str]:
    """Return labels in types that JSON has, and the name of their dtype."""
    labels = classes.tolist()
    if classes.dtype.kind == "S":
        labels = [label.decode("latin-1") for label in labels]
    return labels, classes.dtype.str


def decode_labels_from_json(labels: Any, dtype_name: Any) -> NDArray[Any]:
    """Return labels as an array of the named dtype.

    Parameters
    ----------
    labels, dtype_name : anything
        As `encode_labels_as_json` returns them, from a file that anyone may have written.

    Returns
    -------
    ndarray of shape (n_classes,)

    Raises
    ------
    ValueError, TypeError, OverflowError
        If the dtype is none of labels, or the labels are none, too large, not all different, of
        another type, or do not fit.
    """
    known = _DTYPE.fullmatch(dtype_name) if isinstance(dtype_name, str) else None
    if known is None:
        raise ValueError(f"classes_dtype must be one of labels; received {dtype_name!r}")
    wanted = _KINDS[known[1]]
    if not isinstance(labels, list) or not labels or any(type(x) is not wanted for x in labels):
        raise TypeError(f"classes must be a list of {wanted.__name__} that is not empty")
    dtype = np.dtype(dtype_name)
    # A dtype of endless text would make a small file large in memory.
    if dtype.itemsize * len(labels) > _MAX_BYTES:
        raise ValueError(f"{len(labels)} classes of {dtype_name!r} are too large")
    found = [label.encode("latin-1") for label in labels] if known[1] == "S" else labels
    classes = np.array(found, dtype=dtype)
    if classes.tolist() != found or len(set(found)) != len(found):
        raise ValueError(f"classes must be all different, and fit into {dtype_name!r}")
    return classes
