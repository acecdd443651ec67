"""What a report can tell about its mistakes: pairs, images, calibration, curves, labels.

Plain functions of NumPy arrays; the methods of `EvaluationReport` are their doors.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from tlclassify.evaluation.intervals import wilson_intervals

N_BINS = 15
ORDERS = ("wrong", "unlikely", "uncertain")


class ConfusedPair(NamedTuple):
    """Images of one class that were taken for another; `fraction` is of the true class."""

    true: Any
    predicted: Any
    n_images: int
    fraction: float


class LabelError(NamedTuple):
    """An image whose label is likely wrong: its row, its label, a likelier one and its chances.

    The probabilities are those of the label given and of the one suggested.
    """

    row: int
    label: Any
    suggested: Any
    label_probability: float
    suggested_probability: float


@dataclass(frozen=True, eq=False)
class Reliability:
    """Accuracy by confidence, in bins of equal width over [0, 1].

    Attributes
    ----------
    edges : ndarray of shape (n_bins + 1,)
        Of the bins; an image on an edge belongs to the bin below.
    n_images : ndarray of shape (n_bins,), int
    confidence, accuracy : ndarray of shape (n_bins,), float in [0, 1]
        Mean probability of the predicted labels, and fraction that was right; NaN where a bin is
        empty.
    accuracy_intervals : ndarray of shape (n_bins, 2)
        Wilson's, at the report's confidence level.
    error : float in [0, 1]
        The expected calibration error: |accuracy - confidence|, averaged over the images.
    """

    edges: NDArray[np.float64]
    n_images: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    accuracy_intervals: NDArray[np.float64]
    error: float


class ClassCurve(NamedTuple):
    """A curve of one class against all others.

    For ROC, `x` and `y` are the false and the true positive rate and `area` the area under the
    curve; for precision and recall, `x` is recall, `y` precision and `area` the average precision.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    area: float


class CoverageCurve(NamedTuple):
    """Accuracy on the surest images: of those whose probability is at least the threshold.

    All three arrays have one entry for each distinct threshold, the highest first; `coverage` is
    the fraction of images that are answered.
    """

    coverage: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def find_pairs(
    matrix: NDArray[np.int64], classes: NDArray[Any], n_pairs: int
) -> list[ConfusedPair]:
    """Return the pairs of classes with the most images confused, in falling order."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    largest = np.argsort(-wrong, axis=None, kind="stable")[:n_pairs]
    rows, columns = np.unravel_index(largest, wrong.shape)
    labels, support = classes.tolist(), matrix.sum(axis=1)
    return [
        ConfusedPair(labels[i], labels[j], int(wrong[i, j]), float(wrong[i, j] / support[i]))
        for i, j in zip(rows, columns, strict=True)
        if wrong[i, j]
    ]


def rank_images(true: NDArray[np.intp], chances: NDArray[Any], order: str) -> NDArray[np.intp]:
    """Return rows in one of `ORDERS`; equal ones keep their order.

    "wrong": wrong predictions, the surest first. "unlikely": all images, the lowest probability
    of the true label first. "uncertain": all, the smallest lead of the largest probability over
    the second first.
    """
    if order == "wrong":
        wrong = np.flatnonzero(chances.argmax(axis=1) != true)
        return wrong[np.argsort(-chances[wrong].max(axis=1), kind="stable")]
    if order == "unlikely":
        return np.argsort(chances[np.arange(len(true)), true], kind="stable")
    second, first = np.partition(chances, -2, axis=1)[:, -2:].T
    return np.argsort(first - second, kind="stable")


def measure_reliability(
    correct: NDArray[np.bool_],
    confidence: NDArray[Any],
    *,
    n_bins: int = N_BINS,
    confidence_level: float,
) -> Reliability:
    """Return accuracy by confidence; see `Reliability`."""
    edges = np.linspace(0, 1, n_bins + 1)
    order = np.argsort(confidence, kind="stable")  # so that the order of images changes no sum
    correct, confidence = correct[order], confidence[order].astype(np.float64)
    bins = np.searchsorted(edges[1:-1], confidence)
    n_images = np.bincount(bins, minlength=n_bins)
    n_correct = np.bincount(bins, weights=correct, minlength=n_bins)
    sums = np.bincount(bins, weights=confidence, minlength=n_bins)
    occupied = np.where(n_images, n_images, np.nan)
    return Reliability(
        edges=edges,
        n_images=n_images,
        confidence=sums / occupied,
        accuracy=n_correct / occupied,
        accuracy_intervals=wilson_intervals(
            n_correct.astype(np.int64), n_images, confidence_level=confidence_level
        ),
        error=float(np.abs(n_correct - sums).sum() / len(confidence)),
    )


def roc_curve(positive: NDArray[np.bool_], scores: NDArray[Any]) -> ClassCurve:
    """Return scikit-learn's ROC curve and the area under it."""
    x, y, thresholds = metrics.roc_curve(positive, scores)
    return ClassCurve(x, y, thresholds, float(metrics.auc(x, y)))


def precision_recall_curve(positive: NDArray[np.bool_], scores: NDArray[Any]) -> ClassCurve:
    """Return scikit-learn's precision-recall curve and the average precision."""
    precision, recall, thresholds = metrics.precision_recall_curve(positive, scores)
    area = float(-np.sum(np.diff(recall) * precision[:-1]))  # average_precision_score's own sum
    return ClassCurve(recall, precision, thresholds, area)


def coverage_curve(correct: NDArray[np.bool_], confidence: NDArray[Any]) -> CoverageCurve:
    """Return accuracy against the fraction of images answered; see `CoverageCurve`."""
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    # Equal probabilities are answered together or not at all.
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    n_answered = last + 1
    accuracy = np.cumsum(correct[order])[last] / n_answered
    return CoverageCurve(n_answered / len(falling), accuracy, falling[last].astype(np.float64))


def find_label_errors(
    true: NDArray[np.intp], chances: NDArray[Any], classes: NDArray[Any]
) -> list[LabelError]:
    """Return likely label errors by confident learning, the likeliest first."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise ImportError(
            'label_errors needs cleanlab. Install it with: pip install "tlclassify[labels]".'
        ) from error
    # Cleanlab is given the classes that occur only: it takes each to have examples.
    present, given = np.unique(true, return_inverse=True)
    if len(present) < 2:
        raise ValueError(
            f"y must hold two classes or more for label errors; received {len(present)}. Evaluate "
            "on images of more classes."
        )
    shares = chances[:, present].astype(np.float64)
    shares = (shares + 1e-12) / (shares + 1e-12).sum(axis=1, keepdims=True)
    rows = find_label_issues(given, shares, return_indices_ranked_by="self_confidence", n_jobs=1)
    labels, best = classes.tolist(), chances.argmax(axis=1)
    return [
        LabelError(
            int(row),
            labels[true[row]],
            labels[best[row]],
            float(chances[row, true[row]]),
            float(chances[row, best[row]]),
        )
        for row in rows
    ]
