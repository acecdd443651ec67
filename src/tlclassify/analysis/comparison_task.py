"""What the classifiers of a comparison are fitted on, and what they are judged by."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

from tlclassify._checks.labels import check_labels, encode_labels
from tlclassify.inputs.images import open_images
from tlclassify.inputs.splits import check_targets, split_rows


@dataclass(frozen=True)
class Task:
    """What all rows are fitted on and judged by.

    Parameters
    ----------
    X, labels : images and ndarray of shape (n,)
    X_test, labels_test : images and ndarray
        None with `cv`.
    classes : ndarray of shape (n_classes,)
    cv : int, scikit-learn splitter or None
    confidence_level : float
    """

    X: Any
    labels: NDArray[Any]
    X_test: Any
    labels_test: NDArray[Any] | None
    classes: NDArray[Any]
    cv: Any
    confidence_level: float

    @property
    def judged(self) -> tuple[Any, NDArray[Any]]:
        """Images and labels that the report is of."""
        if self.labels_test is None:
            return self.X, self.labels
        return self.X_test, self.labels_test


def split_task(
    X: Any,
    y: ArrayLike,
    X_test: Any,
    y_test: ArrayLike | None,
    *,
    cv: Any,
    fraction: float,
    seed: int,
    level: float,
) -> Task:
    """Check images and labels, and split them where there is nothing else to judge by."""
    if (X_test is None) != (y_test is None):
        raise ValueError("X_test and y_test must come together; received one of them.")
    if X_test is not None and cv is not None:
        raise ValueError("cv must be None where X_test is given; received both. Drop one of them.")
    source = open_images(X)
    labels = check_labels(y, n_samples=len(source))
    classes, targets = check_targets(labels)
    if cv is not None:
        return Task(X, labels, None, None, classes, cv, level)
    if X_test is None:
        rows, held_out = split_rows(
            targets, classes, fraction, seed, name="test_fraction", instead="pass X_test and y_test"
        )
        images = source.images
        return Task(
            images[rows], labels[rows], images[held_out], labels[held_out], classes, None, level
        )
    test = open_images(X_test, pixel_range=source.pixel_range, name="X_test")
    labels_test = check_labels(y_test, n_samples=len(test), name="y_test")  # type: ignore[arg-type]
    encode_labels(labels_test, classes, name="y_test", source="seen in y")
    return Task(X, labels, X_test, labels_test, classes, None, level)
