"""Measure a classifier once; every table and picture is a view of the report."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics
from sklearn.model_selection import cross_val_predict

from tlclassify._checks.labels import check_labels, encode_labels
from tlclassify.evaluation.checks import (
    check_probabilities,
    check_settings,
    fitted_classes,
)
from tlclassify.evaluation.diagnosis import measure_reliability, rank_images
from tlclassify.evaluation.intervals import wilson_interval, wilson_intervals
from tlclassify.evaluation.origins import N_THUMBNAILS, Origin, trace_origin
from tlclassify.evaluation.report import ClassAverage, EvaluationReport


def evaluate(
    clf: Any,
    X: Any,
    y: ArrayLike,
    *,
    cv: Any = None,
    top_k: int | Sequence[int] = 5,
    confidence_level: float = 0.95,
) -> EvaluationReport:
    """Run a fitted classifier once over a test set and return all its numbers.

    Parameters
    ----------
    clf : classifier
        Any scikit-learn classifier or pipeline with `predict_proba`, fitted unless `cv` is given.
        The predicted label is that of the largest probability; `predict` is not called.
    X : array-like of n_samples rows
        Whatever `clf` takes: images, file paths, features.
    y : array-like of shape (n_samples,)
        The labels, all known to `clf`. A class may be absent: its support is 0.
    cv : int, scikit-learn splitter or iterable, optional
        Folds: each part of `X` is predicted by a copy of `clf` fitted on the others, so that every
        image is judged by a classifier that has not seen it. `clf` itself is left as it is.
    top_k : int or sequence of int, each at least 1
        Which top-k accuracies; a k above the number of classes counts as that number.
    confidence_level : float in (0, 1)
        Of the interval of the accuracy, by Wilson's score [1]_.

    Raises
    ------
    TypeError, NotFittedError
        If `clf` has no `predict_proba`, or is not fitted.
    ValueError
        If a parameter is out of range, `X` and `y` differ in length or are empty, `y` holds labels
        unknown to `clf`, or its probabilities are not finite or do not sum to 1.

    References
    ----------
    .. [1] E. B. Wilson (1927), Probable inference, the law of succession, and statistical
       inference, Journal of the American Statistical Association 22(158), 209-212.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> X, y = load_iris(return_X_y=True)
    >>> evaluate(GaussianNB().fit(X[::2], y[::2]), X[1::2], y[1::2])
    EvaluationReport(accuracy=0.9600, n_samples=75, n_classes=3)
    """
    asked = check_settings(top_k, confidence_level)
    classes = None if cv is not None else fitted_classes(clf)
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    if n_samples == 0:
        raise ValueError("X and y must hold at least one image; received none.")
    labels = check_labels(y, n_samples=n_samples)
    if classes is not None:
        true = encode_labels(labels, classes)
        chances = clf.predict_proba(X)
    else:
        classes, true = np.unique(labels, return_inverse=True)
        chances = cross_val_predict(clf, X, labels, cv=cv, method="predict_proba")
    return build_report(
        chances, classes, true, clf=clf, X=X, top_k=asked, confidence_level=float(confidence_level)
    )


def build_report(
    chances: ArrayLike,
    classes: NDArray[Any],
    true: NDArray[np.intp],
    *,
    clf: Any,
    X: Any,
    top_k: Sequence[int] = (5,),
    confidence_level: float = 0.95,
) -> EvaluationReport:
    """Return the report on probabilities that are there already.

    Parameters
    ----------
    chances : array-like of shape (n_samples, n_classes)
    classes : ndarray of shape (n_classes,)
    true : ndarray of shape (n_samples,), int
        The place of each image's label among the classes.
    clf, X, top_k, confidence_level
        As in `evaluate`.
    """
    checked = check_probabilities(chances, shape=(len(true), len(classes)))
    ks = sorted({min(k, len(classes)) for k in top_k})
    orders = (rank_images(true, checked, order)[:N_THUMBNAILS] for order in ("wrong", "uncertain"))
    origin = trace_origin(clf, X, sorted({int(row) for order in orders for row in order}))
    return _measure(true, checked, classes, ks=ks, level=confidence_level, origin=origin)


def _measure(
    true: NDArray[np.intp],
    chances: NDArray[Any],
    classes: NDArray[Any],
    *,
    ks: list[int],
    level: float,
    origin: Origin,
) -> EvaluationReport:
    pred = chances.argmax(axis=1)
    columns = np.arange(len(classes))
    scores = metrics.precision_recall_fscore_support(true, pred, labels=columns, zero_division=0.0)
    counts = metrics.confusion_matrix(true, pred, labels=columns)
    shares = metrics.confusion_matrix(true, pred, labels=columns, normalize="true")
    correct = true == pred
    n_right = counts.diagonal()
    reliability = measure_reliability(correct, chances.max(axis=1), confidence_level=level)
    return EvaluationReport(
        classes=classes,
        y_true=classes[true],
        y_pred=classes[pred],
        probabilities=chances,
        accuracy=float(metrics.accuracy_score(true, pred)),
        accuracy_interval=wilson_interval(
            int(correct.sum()), n_samples=len(true), confidence_level=level
        ),
        confidence_level=level,
        top_k_accuracy={k: _top_k_accuracy(true, chances, k) for k in ks},
        log_loss=_log_loss(true, chances),
        calibration_error=reliability.error,
        confusion_matrix=counts,
        confusion_matrix_normalized=shares,
        precision=scores[0],
        precision_intervals=wilson_intervals(n_right, counts.sum(axis=0), confidence_level=level),
        recall=scores[1],
        recall_intervals=wilson_intervals(n_right, counts.sum(axis=1), confidence_level=level),
        f1=scores[2],
        support=scores[3],
        macro_average=_class_average(true, pred, "macro"),
        weighted_average=_class_average(true, pred, "weighted"),
        origin=origin,
    )


def _top_k_accuracy(true: NDArray[np.intp], chances: NDArray[Any], k: int) -> float:
    if k == chances.shape[1]:
        return 1.0
    if k == 1:  # scikit-learn wants one column of scores where there are two classes
        return float(metrics.accuracy_score(true, chances.argmax(axis=1)))
    # Among equal probabilities scikit-learn ranks the last column first, argmax the first one.
    columns = np.arange(chances.shape[1])
    score = metrics.top_k_accuracy_score(columns[-1] - true, chances[:, ::-1], k=k, labels=columns)
    return float(score)


def _log_loss(true: NDArray[np.intp], chances: NDArray[Any]) -> float:
    labels = np.arange(chances.shape[1])
    with warnings.catch_warnings():  # float32 rows kept as float64 sum to 1 too loosely for it
        warnings.filterwarnings("ignore", message=".*do not sum to one", category=UserWarning)
        return float(metrics.log_loss(true, np.minimum(chances, 1), labels=labels))


def _class_average(true: NDArray[np.intp], pred: NDArray[np.intp], kind: str) -> ClassAverage:
    scores = metrics.precision_recall_fscore_support(
        true, pred, labels=np.unique(true), average=kind, zero_division=0.0
    )
    return ClassAverage(*(float(score) for score in scores[:3]))
