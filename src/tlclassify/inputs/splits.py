"""Labels, weights, seeds and the split of images, before any network is involved."""

import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedGroupKFold, check_cv
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight

from tlclassify._checks.parameters import (
    COUNT,
    Interval,
    check_labels,
    check_sample_weight,
    encode_labels,
    listed,
)
from tlclassify.inputs.images import open_images

# Keras draws from one generator for all threads.
_SEEDING = threading.RLock()
_ROUNDING = 1e-9


def draw_seeds(random_state: int | np.random.RandomState | None, n: int) -> list[int]:
    """Return independent seeds, decided by `random_state` unless it is None."""
    try:
        drawn = check_random_state(random_state).randint(2**31 - 1, size=n)
    except ValueError:
        raise ValueError(
            "random_state must be an integer from 0 to 2**32 - 1, a numpy.random.RandomState or "
            f"None; received {random_state!r}."
        ) from None
    return [int(seed) for seed in drawn]


@contextmanager
def seeded(random_state: int | None) -> Iterator[None]:
    """Make the weights built inside depend on `random_state` alone, and nothing outside it."""
    # Keras draws the seeds of its layers from Python's own generator, so that threads take turns.
    with _SEEDING:
        before = random.getstate()
        if random_state is not None:
            random.seed(int(np.random.default_rng(random_state).integers(2**31)))
        try:
            yield
        finally:
            if random_state is not None:
                random.setstate(before)


def check_targets(
    labels: NDArray[Any], *, classes: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the sorted classes, found in the labels unless given, and each label's place."""
    if classes is not None:
        return classes, encode_labels(labels, classes)
    classes, targets = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"y must hold at least two classes; received only {classes.tolist()}. Add images of "
            "another class."
        )
    return classes, targets


@dataclass(frozen=True)
class Task:
    """Checked images and labels to fit on, and those to judge by, None where they are held out."""

    images: NDArray[Any]
    labels: NDArray[Any]
    groups: NDArray[Any] | None
    classes: NDArray[Any]
    targets: NDArray[np.intp]
    X_test: Any = None
    labels_test: Any = None

    def take(self, rows: NDArray[np.intp]) -> "Task":
        """Return the images of some rows, and what stands beside them."""
        parts = {name: getattr(self, name)[rows] for name in ("images", "labels", "targets")}
        return replace(self, groups=None if self.groups is None else self.groups[rows], **parts)

    def hold_out(self, fraction: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return rows to fit on and rows to judge by."""
        words = {"name": "test_fraction", "instead": "pass X_test and y_test"}
        return split_rows(self.targets, self.classes, fraction, seed, groups=self.groups, **words)


def open_task(X: Any, y: Any, groups: Any, X_test: Any, y_test: Any) -> Task:
    """Check images and labels, and those to judge by if they are given."""
    source = open_images(X)
    labels = check_labels(y, n_samples=len(source))
    classes, targets = check_targets(labels)
    task = Task(
        source.images, labels, check_groups(groups, n_samples=len(source)), classes, targets
    )
    if (X_test is None) != (y_test is None):
        raise ValueError("X_test and y_test must come together; received one of them.")
    if y_test is None:
        return task
    test = open_images(X_test, pixel_range=source.pixel_range, name="X_test")
    labels_test = check_labels(y_test, n_samples=len(test), name="y_test")
    encode_labels(labels_test, classes, name="y_test")
    return replace(task, X_test=X_test, labels_test=labels_test)


def check_groups(groups: ArrayLike | None, *, n_samples: int) -> NDArray[Any] | None:
    """Return the group of each image as an array, or None where there are no groups."""
    return None if groups is None else check_labels(groups, n_samples=n_samples, name="groups")


def check_weights(
    sample_weight: ArrayLike | None,
    class_weight: str | Mapping[Any, float] | None,
    labels: NDArray[Any],
    classes: NDArray[Any],
) -> NDArray[np.float32] | None:
    """Return one weight per image, the product of both kinds, or None."""
    by_class = None
    if isinstance(class_weight, Mapping):
        known = dict.fromkeys(classes.tolist(), 1.0)
        wrong = {
            label: weight
            for label, weight in class_weight.items()
            if label not in known or weight not in Interval(0, np.finfo(float).max)
        }
        if wrong:
            raise ValueError(
                "class_weight must hold finite numbers, zero or more, of labels in y; received "
                f"{wrong!r}. The labels are {listed(known)}."
            )
        of_each = np.array([*(known | dict(class_weight)).values()])  # in the order of classes
        by_class = of_each[np.searchsorted(classes, labels)]
    elif isinstance(class_weight, str) and class_weight == "balanced":
        by_class = compute_sample_weight(class_weight, labels)
    elif class_weight is not None:
        raise ValueError(
            "class_weight must be None, 'balanced' or a dict from label to weight; received "
            f"{class_weight!r}."
        )
    weights = None
    if sample_weight is not None:
        weights = check_sample_weight(sample_weight, n_samples=len(labels))
    if by_class is not None:
        by_class = by_class.astype(np.float32)
        weights = by_class if weights is None else weights * by_class
    return weights


def split_rows(
    targets: NDArray[np.intp],
    classes: NDArray[Any],
    fraction: float,
    seed: int,
    *,
    groups: NDArray[Any] | None = None,
    name: str = "validation_fraction",
    instead: str = "pass validation_data or validation_fraction=0",
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows to train on and rows held out, both with all classes, no group in both."""
    rows = np.arange(len(targets))
    if fraction == 0:
        return rows, rows[:0]
    counts = np.bincount(targets, minlength=len(classes))
    if (counts == 1).any():
        raise ValueError(
            f"y must hold at least two images of each class for a split by {name}; received one "
            f"of {listed(classes[counts == 1].tolist())}. Add images, or {instead}."
        )
    rng = np.random.default_rng(seed)
    if groups is not None:
        is_held_out = _hold_out_groups(groups, targets, fraction, rng)
        if lacking := {*targets.tolist()} - {*targets[is_held_out].tolist()}:
            of_class = [len(np.unique(groups[targets == number])) for number in sorted(lacking)]
            raise ValueError(
                f"groups must be so many that both sides of a split by {name} hold every class; "
                f"received {len(np.unique(groups))}, of which {of_class[0]} hold "
                f"{classes[min(lacking)].item()!r}. Add images of other groups, or {instead}."
            )
        return rows[~is_held_out], rows[is_held_out]
    fewest, most = np.minimum(counts, 1), np.maximum(counts - 1, 0)
    shares = fraction * counts
    held_out = np.clip(np.floor(shares).astype(int), fewest, most)
    # What rounding down has left over goes to the classes that have lost most by it.
    lost = np.where(held_out < most, shares - held_out, -1)
    by_loss = np.lexsort((rng.random(len(counts)), -lost))
    n_left = max(round(fraction * len(rows)) - held_out.sum(), 0)
    held_out[by_loss[: min(n_left, np.count_nonzero(lost > 0))]] += 1
    shuffled = rng.permutation(rows)
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    place = rows - np.repeat(np.cumsum(counts) - counts, counts)
    is_held_out = place < np.repeat(held_out, counts)
    return np.sort(by_class[~is_held_out]), np.sort(by_class[is_held_out])


def _hold_out_groups(
    groups: NDArray[Any], targets: NDArray[np.intp], fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return which rows to hold out: whole groups, of each class about a fraction and never all."""
    # scikit-learn's StratifiedGroupKFold knows shares of 1/k alone, and where a class stands in few
    # of many groups either side may go without it.
    _, of_row = np.unique(groups, return_inverse=True)
    _, columns = np.unique(targets, return_inverse=True)
    shares = np.zeros((of_row.max() + 1, columns.max() + 1))
    np.add.at(shares, (of_row, columns), 1)
    shares /= shares.sum(axis=0)
    held_out, is_held_out = np.zeros(shares.shape[1]), np.zeros(len(shares), dtype=bool)
    drawn = rng.permutation(len(shares))
    smallest_first = drawn[np.argsort(shares[drawn].sum(axis=1), kind="stable")]
    for turn, group in enumerate(np.concatenate([drawn, smallest_first])):
        here, after = shares[group] > 0, held_out + shares[group]
        is_closer = np.abs(after - fraction).sum() < np.abs(held_out - fraction).sum()
        # At second sight, what a class lacks altogether is worth more than the right share.
        is_needed = turn >= len(shares) and (held_out[here] == 0).any()
        leaves_all = (after[here] < 1 - _ROUNDING).all()
        if not is_held_out[group] and leaves_all and (is_closer or is_needed):
            held_out, is_held_out[group] = after, True
    return is_held_out[of_row]


def split_folds(
    cv: Any, labels: NDArray[Any], groups: NDArray[Any] | None
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the rows of folds, drawn once; so many folds, if `cv` is a number, part no group."""
    if groups is not None and cv in COUNT:
        if (n_groups := len(np.unique(groups))) < cv:
            raise ValueError(
                f"groups must be at least as many as the {cv} folds of cv; received {n_groups}."
            )
        cv = StratifiedGroupKFold(cv)
    return list(check_cv(cv, labels, classifier=True).split(np.zeros(len(labels)), labels, groups))
