"""Names beside files: what a classifier says of images, as a table one can act on."""

import os
from typing import Any

import numpy as np

from tlclassify._checks.parameters import COUNT, Interval, check_parameters
from tlclassify.analysis.evaluate import (
    check_probabilities,
    count_rows,
    fitted_classes,
    take_thumbnails,
)
from tlclassify.evaluation.predictions import PredictionTable
from tlclassify.evaluation.report import N_THUMBNAILS


def predict_table(
    clf: Any, X: Any, *, n_best: int = 2, threshold: float | None = None
) -> PredictionTable:
    """Return the most probable labels of images, each beside its file, and whether they are sure.

    Parameters
    ----------
    clf : classifier
        As of `evaluate`: fitted, with `predict_proba`; an exported one too.
    X : array-like of n images or file paths, whatever `clf` takes
    n_best : int, at least 1
        How many labels an image gets, the most probable first; no more than there are.
    threshold : float in [0, 1], optional
        The probability from which on an answer is sure, as `EvaluationReport.choose_threshold`
        finds one. By default nothing is said about it.

    Raises
    ------
    TypeError, NotFittedError, ValueError, OSError
        If a parameter is not as above, or files cannot be read.

    Examples
    --------
    >>> from tlclassify import TransferClassifier, predict_table
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(60, random_state=0)
    >>> clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X[:57], y[:57])
    >>> table = predict_table(clf, X[57:], threshold=0.5)
    >>> list(table.columns)
    ['row', 'label', 'probability', 'label_2', 'probability_2', 'sure']
    """
    check_parameters(
        ("n_best", n_best, COUNT), ("threshold", threshold, Interval(0, 1, optional=True))
    )
    classes = fitted_classes(clf)
    shape = (count_rows(X, "X"), len(classes))
    p = check_probabilities(clf.predict_proba(X), shape=shape)
    # Of equal probabilities the first in the order of classes, as in argmax.
    best = np.argsort(-p, axis=1, kind="stable")[:, :n_best]
    probabilities = np.take_along_axis(p, best, axis=1)
    least_sure = np.argsort(probabilities[:, 0], kind="stable")[:N_THUMBNAILS].tolist()
    is_column = getattr(X, "ndim", 1) == 1
    is_paths = is_column and isinstance(next(iter(X)), str | os.PathLike)
    return PredictionTable(
        paths=tuple(map(os.fspath, X)) if is_paths else None,
        labels=classes[best],
        probabilities=probabilities,
        threshold=threshold if threshold is None else float(threshold),
        thumbnails=take_thumbnails(clf, X, least_sure),
    )
