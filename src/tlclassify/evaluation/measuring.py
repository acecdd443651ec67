"""From probabilities and labels to a report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics

from tlclassify.evaluation.diagnosis import (
    ClassAverage,
    Origin,
    measure_reliability,
    wilson_interval,
    wilson_intervals,
)
from tlclassify.evaluation.report import EvaluationReport

_SUM_TOLERANCE = 1e-3


def build_report(
    true: NDArray[np.intp],
    probabilities: ArrayLike,
    classes: NDArray[Any],
    *,
    top_k: Sequence[int] = (5,),
    confidence_level: float = 0.95,
) -> EvaluationReport:
    """Return the report on probabilities and true columns of them, its origin left empty."""
    p = _check_probabilities(probabilities, shape=(len(true), len(classes)))
    pred, columns, level = p.argmax(axis=1), np.arange(len(classes)), float(confidence_level)
    counts = metrics.confusion_matrix(true, pred, labels=columns)
    right, support, correct = counts.diagonal(), counts.sum(axis=1), true == pred
    scores = np.stack(
        metrics.precision_recall_fscore_support(true, pred, labels=columns, zero_division=0.0)[:3]
    )
    of_true = p[np.arange(len(true)), true]
    smallest = np.finfo(p.dtype).eps  # as in scikit-learn's log_loss
    # Equal probabilities rank in the order of classes, as in argmax.
    ahead = (p > of_true[:, None]) | ((p == of_true[:, None]) & (columns < true[:, None]))
    ranks, ks = ahead.sum(axis=1), sorted({min(k, len(classes)) for k in top_k})
    return EvaluationReport(
        classes=classes,
        y_true=classes[true],
        y_pred=classes[pred],
        probabilities=p,
        accuracy=float(correct.mean()),
        accuracy_interval=wilson_interval(int(correct.sum()), len(true), level),
        confidence_level=level,
        top_k_accuracy={k: float((ranks < k).mean()) for k in ks},
        log_loss=float(-np.log(np.clip(of_true, smallest, 1 - smallest)).mean()),
        calibration_error=measure_reliability(correct, p.max(axis=1), level).error,
        confusion_matrix=counts,
        confusion_matrix_normalized=counts / np.maximum(support, 1)[:, None],
        precision=scores[0],
        precision_intervals=wilson_intervals(right, counts.sum(axis=0), level),
        recall=scores[1],
        recall_intervals=wilson_intervals(right, support, level),
        f1=scores[2],
        support=support,
        macro_average=ClassAverage(*scores[:, support > 0].mean(axis=1).tolist()),
        weighted_average=ClassAverage(*np.average(scores, axis=1, weights=support).tolist()),
        origin=Origin({}, {}, "", (), {}),
    )


def _check_probabilities(values: ArrayLike, *, shape: tuple[int, int]) -> NDArray[Any]:
    """Return a copy, or an error that says what is wrong."""
    p = np.array(values)
    if p.shape != shape or p.dtype.kind != "f":
        raise ValueError(
            f"clf.predict_proba must return floating point of shape (n_samples, n_classes) = "
            f"{shape}; received {p.dtype} of shape {p.shape}."
        )
    sums = p.sum(axis=1, dtype=float)
    # False for NaN.
    good = (np.abs(sums - 1) < _SUM_TOLERANCE) & (p >= 0).all(axis=1)
    bad = np.flatnonzero(~good)
    if len(bad):
        raise ValueError(
            "clf.predict_proba must return probabilities, finite and summing to 1 in each row; "
            f"received {len(bad)} of {len(p)} rows that are not, the first at row {bad[0]}, with "
            f"sum {sums[bad[0]]:g}. NaN comes from a training that diverged: lower the learning "
            "rate and fit again."
        )
    return p
