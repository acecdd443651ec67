"""From probabilities and labels to a report."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics

from tlclassify.evaluation.diagnosis import measure_reliability, wilson_interval, wilson_intervals
from tlclassify.evaluation.origins import Origin
from tlclassify.evaluation.report import ClassAverage, EvaluationReport

_SUM_TOLERANCE = 1e-3


def check_probabilities(values: ArrayLike, *, shape: tuple[int, int]) -> NDArray[Any]:
    """Return a copy of a classifier's probabilities, or an error that says what is wrong."""
    probabilities = np.array(values)
    if probabilities.shape != shape or probabilities.dtype.kind != "f":
        raise ValueError(
            f"clf.predict_proba must return floating point of shape (n_samples, n_classes) = "
            f"{shape}; received {probabilities.dtype} of shape {probabilities.shape}."
        )
    sums = probabilities.sum(axis=1, dtype=float)
    good = np.abs(sums - 1) < _SUM_TOLERANCE  # False for NaN
    bad = np.flatnonzero(~(good & (probabilities >= 0).all(axis=1)))
    if len(bad):
        raise ValueError(
            "clf.predict_proba must return probabilities, finite and summing to 1 in each row; "
            f"received {len(bad)} of {len(sums)} rows that are not, the first at row {bad[0]}, "
            f"with sum {sums[bad[0]]:g}. NaN comes from a training that diverged: lower the "
            "learning rate and fit again."
        )
    return probabilities


def build_report(
    true: NDArray[np.intp],
    probabilities: NDArray[Any],
    classes: NDArray[Any],
    *,
    top_k: Sequence[int] = (5,),
    confidence_level: float = 0.95,
    origin: Origin,
) -> EvaluationReport:
    """Return the report on checked probabilities, with the true labels as columns of these."""
    pred, columns = probabilities.argmax(axis=1), np.arange(len(classes))
    *scores, _ = metrics.precision_recall_fscore_support(
        true, pred, labels=columns, zero_division=0.0
    )
    counts, level = metrics.confusion_matrix(true, pred, labels=columns), float(confidence_level)
    right, support, correct = counts.diagonal(), counts.sum(axis=1), true == pred
    confidence = probabilities.max(axis=1)
    reliability = measure_reliability(correct, confidence, confidence_level=level)
    return EvaluationReport(
        classes=classes,
        y_true=classes[true],
        y_pred=classes[pred],
        probabilities=probabilities,
        accuracy=float(correct.mean()),
        accuracy_interval=wilson_interval(int(correct.sum()), len(true), level),
        confidence_level=level,
        top_k_accuracy=_top_k_accuracy(true, probabilities, top_k),
        log_loss=_log_loss(true, probabilities),
        calibration_error=reliability.error,
        confusion_matrix=counts,
        confusion_matrix_normalized=counts / np.maximum(support, 1)[:, None],
        precision=scores[0],
        precision_intervals=wilson_intervals(right, counts.sum(axis=0), level),
        recall=scores[1],
        recall_intervals=wilson_intervals(right, support, level),
        f1=scores[2],
        support=support,
        macro_average=ClassAverage(*np.array(scores)[:, support > 0].mean(axis=1).tolist()),
        weighted_average=ClassAverage(*np.average(scores, axis=1, weights=support).tolist()),
        origin=origin,
    )


def _top_k_accuracy(
    true: NDArray[np.intp], probabilities: NDArray[Any], top_k: Sequence[int]
) -> dict[int, float]:
    """Return the accuracies; equal probabilities rank in the order of classes, as in argmax."""
    columns, of_true = np.arange(probabilities.shape[1]), probabilities[np.arange(len(true)), true]
    ties = (probabilities == of_true[:, None]) & (columns < true[:, None])
    ranks = (ties | (probabilities > of_true[:, None])).sum(axis=1)
    return {k: float((ranks < k).mean()) for k in sorted({min(k, len(columns)) for k in top_k})}


def _log_loss(true: NDArray[np.intp], probabilities: NDArray[Any]) -> float:
    labels = np.arange(probabilities.shape[1])
    with warnings.catch_warnings():  # float32 rows kept as float64 sum to 1 too loosely for it
        warnings.filterwarnings("ignore", message=".*do not sum to one", category=UserWarning)
        return float(metrics.log_loss(true, np.minimum(probabilities, 1), labels=labels))
