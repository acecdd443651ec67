"""What `evaluate` takes: clean values, or clear errors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import NotFittedError

from tlclassify._checks.parameters import number_problem, raise_problems

_SUM_TOLERANCE = 1e-3


def check_settings(top_k: int | Sequence[int], confidence_level: float) -> tuple[int, ...]:
    """Return the ks asked for."""
    ks = tuple(top_k) if isinstance(top_k, Sequence | np.ndarray) else (top_k,)
    problems = [number_problem("top_k", k, integer=True, low=1) for k in ks or (None,)]
    level = number_problem(
        "confidence_level", confidence_level, low=0, high=1, low_included=False, high_included=False
    )
    raise_problems([*problems, level])
    return tuple(int(k) for k in ks)


def fitted_classes(clf: Any) -> NDArray[Any]:
    """Return the labels that a fitted classifier knows, in its own order."""
    name = type(clf).__name__
    if hasattr(clf, "fit") and not hasattr(clf, "classes_"):
        raise NotFittedError(f"clf must be a fitted classifier; call {name}.fit(X, y) first.")
    if not (hasattr(clf, "predict_proba") and hasattr(clf, "classes_")):
        raise TypeError(
            f"clf must be a classifier with predict_proba and classes_; received {name}. Wrap one "
            "that has only predict in sklearn.calibration.CalibratedClassifierCV."
        )
    classes = np.array(clf.classes_)
    if classes.ndim != 1 or len(classes) < 2:
        raise ValueError(f"clf must know two or more classes; its classes_ are {classes}.")
    return classes


def check_probabilities(values: ArrayLike, *, shape: tuple[int, int]) -> NDArray[Any]:
    """Return a copy of a classifier's probabilities."""
    chances = np.array(values)
    if chances.shape != shape or chances.dtype.kind != "f":
        raise ValueError(
            f"clf.predict_proba must return floating point of shape (n_samples, n_classes) = "
            f"{shape}; received {chances.dtype} of shape {chances.shape}."
        )
    good = np.abs(chances.sum(axis=1, dtype=float) - 1) < _SUM_TOLERANCE  # False for NaN
    bad = np.flatnonzero(~(good & (chances >= 0).all(axis=1)))
    if len(bad):
        raise ValueError(
            "clf.predict_proba must return probabilities, finite and summing to 1 in each row; "
            f"received {len(bad)} of {len(chances)} rows that are not, the first at row {bad[0]}, "
            f"with sum {chances[bad[0]].sum():g}. NaN comes from a training that diverged: lower "
            "the learning rate and fit again."
        )
    return chances
