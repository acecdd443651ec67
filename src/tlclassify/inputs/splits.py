"""Labels, weights, seeds and the split of images, before any network is involved."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight

from tlclassify._checks.labels import check_sample_weight, encode_labels
from tlclassify._checks.parameters import listed


def draw_seeds(random_state: int | np.random.RandomState | None, n: int) -> list[int]:
    """Return independent seeds, decided by `random_state` unless it is None.

    Raises
    ------
    ValueError
        If `random_state` is neither an integer, a RandomState nor None.
    """
    drawn = check_random_state(random_state).randint(2**31 - 1, size=n)
    return [int(seed) for seed in drawn]


@contextmanager
def seeded(random_state: int | None) -> Iterator[None]:
    """Make the weights built inside depend on `random_state` alone, and nothing outside it.

    Keras draws the seed of every initialiser and dropout layer from Python's own generator, so
    that generator is seeded here and put back afterwards.
    """
    if random_state is None:
        yield
        return
    before = random.getstate()
    random.seed(int(np.random.default_rng(random_state).integers(2**31)))
    try:
        yield
    finally:
        random.setstate(before)


def check_targets(
    labels: NDArray[Any],
    *,
    classes: NDArray[Any] | None = None,
    name: str = "y",
    source: str = "seen in y",
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the sorted classes and each label's place among them.

    Parameters
    ----------
    labels : ndarray of shape (n,)
    classes : ndarray, optional
        Classes that the labels must belong to; None: they are found in the labels.
    name, source : str
        The parameter's name and where `classes` come from, for messages.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
    targets : ndarray of shape (n,), int

    Raises
    ------
    ValueError
        If there is only one class, or a label is not among `classes`.
    """
    if classes is None:
        classes, targets = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"{name} must hold at least two classes; received only {classes.tolist()}. Add "
                "images of another class."
            )
        return classes, targets
    return classes, encode_labels(labels, classes, name=name, source=source)


def check_weights(
    sample_weight: ArrayLike | None,
    class_weight: str | Mapping[Any, float] | None,
    labels: NDArray[Any],
    classes: NDArray[Any],
) -> NDArray[np.float32] | None:
    """Return one weight per image, the product of both kinds, or None.

    Raises
    ------
    ValueError
        If weights have another length, are negative or not finite, or name unknown labels.
    """
    if class_weight is None and sample_weight is None:
        return None
    weights = np.ones(len(labels), dtype=np.float32)
    if sample_weight is not None:
        weights = check_sample_weight(sample_weight, n_samples=len(labels))
    if isinstance(class_weight, Mapping):
        unknown = sorted(set(class_weight) - set(classes.tolist()), key=repr)
        if unknown:
            raise ValueError(
                f"class_weight must name labels in y; received {unknown!r} beside. "
                f"The labels are {listed(classes.tolist())}."
            )
    elif class_weight not in {None, "balanced"}:
        raise ValueError(
            "class_weight must be None, 'balanced' or a dict from label to weight; received "
            f"{class_weight!r}."
        )
    if class_weight is not None:
        weights = weights * compute_sample_weight(class_weight, labels).astype(np.float32)
    return weights


def split_rows(
    targets: NDArray[np.intp],
    classes: NDArray[Any],
    fraction: float,
    seed: int,
    *,
    name: str = "validation_fraction",
    instead: str = "pass validation_data or validation_fraction=0",
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split rows into those for training and those held out, stratified by class.

    Parameters
    ----------
    targets : ndarray of shape (n,), int
    classes : ndarray of shape (n_classes,)
        For messages.
    fraction : float in [0, 1)
        Share held out; at least one image a class, unless it is 0.
    seed : int
    name, instead : str
        The parameter's name and the way without it, for messages.

    Returns
    -------
    training, held_out : ndarray of int

    Raises
    ------
    ValueError
        If a class has a single image, or too few are left for training.
    """
    rows = np.arange(len(targets))
    if fraction == 0:
        return rows, rows[:0]
    counts = np.bincount(targets, minlength=len(classes))
    n_present = int(np.count_nonzero(counts))
    step = f"Add images, or {instead}."
    if (counts == 1).any():
        raise ValueError(
            f"y must hold at least two images of each class for a split by {name}; received one "
            f"of {listed(classes[counts == 1].tolist())}. {step}"
        )
    n_held_out = max(round(fraction * len(rows)), n_present)
    if len(rows) - n_held_out < n_present:
        raise ValueError(
            f"{name}={fraction:g} must leave an image of each class for training; "
            f"received {len(rows)} images of {n_present} classes. {step}"
        )
    training, held_out = train_test_split(
        rows, test_size=n_held_out, stratify=targets, random_state=seed
    )
    return np.sort(training), np.sort(held_out)
