"""Measure a classifier once, or have it name images: records that are looked at many times."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from sklearn import get_config
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_predict
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import has_fit_parameter

from tlclassify._checks.files import read_image
from tlclassify._checks.images import check_images
from tlclassify._checks.parameters import (
    COUNT,
    SHARE,
    Interval,
    check_labels,
    check_parameters,
    column_names,
    encode_labels,
    take_column,
)
from tlclassify.evaluation.diagnosis import Origin
from tlclassify.evaluation.predictions import PredictionTable
from tlclassify.evaluation.report import N_THUMBNAILS, EvaluationReport, build_report
from tlclassify.evaluation.text import short_name, training_text
from tlclassify.inputs.images import ImageSource, reopen_images, warn_of_known
from tlclassify.inputs.splits import check_groups, split_folds

_THUMBNAIL_PIXELS, _SETTING_WIDTH, _SUM_TOLERANCE = 128, 300, 1e-3
_NOT_TOLD = ("cache_dir", "verbose")  # which change no number
_LIBRARIES = ("tlclassify", "numpy", "keras", "tensorflow", "jax", "torch", "sklearn")


def evaluate(
    clf: Any,
    X: Any,
    y: ArrayLike,
    *,
    cv: Any = None,
    groups: ArrayLike | None = None,
    top_k: int | Sequence[int] = 5,
    confidence_level: float = 0.95,
) -> EvaluationReport:
    """Run a fitted classifier once over a test set and return all its numbers.

    Parameters
    ----------
    clf : classifier
        Any scikit-learn classifier or pipeline with `predict_proba`, fitted unless `cv` is given.
        The predicted label is that of the largest probability; `predict` is not called.
    X : array-like of n_samples rows: images, file paths, or whatever else `clf` takes
    y : array-like of shape (n_samples,), labels known to `clf`
    cv : int, scikit-learn splitter or iterable, optional
        Folds: each part of `X` is predicted by a copy of `clf` fitted on the others.
    groups : array-like of shape (n_samples,), optional
        For `cv`: the patient, camera or plant of each image, which a number of folds never parts.
        A splitter gets them, and so does `clf.fit` where it takes them.
    top_k : int or sequence of int, each at least 1
        Which top-k accuracies; a k above the number of classes counts as that number.
    confidence_level : float in (0, 1), of all intervals, by Wilson's score [1]_

    Raises
    ------
    TypeError, NotFittedError, ValueError
        If `clf` or another parameter is not as above, or probabilities do not sum to 1. A
        UserWarning tells of images in `X` that a `TransferClassifier` was trained on.

    References
    ----------
    .. [1] E. B. Wilson (1927), Probable inference, J. of the American Statistical Association 22.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> X, y = load_iris(return_X_y=True)
    >>> evaluate(GaussianNB().fit(X[::2], y[::2]), X[1::2], y[1::2])
    EvaluationReport(accuracy=0.9600, n_samples=75, n_classes=3)
    """
    ks = tuple(top_k) if isinstance(top_k, Sequence | np.ndarray) else (top_k,)
    check_parameters(
        *(("top_k", k, COUNT) for k in ks or (None,)),
        ("confidence_level", confidence_level, SHARE),
        problems=["groups must be None without cv" if groups is not None and cv is None else None],
    )
    labels = check_labels(y, n_samples=count_rows(X, "X and y"))
    if cv is None:
        classes = fitted_classes(clf)
        true = encode_labels(labels, classes)
        probabilities = clf.predict_proba(X)
        if isinstance(marks := getattr(clf, "image_marks_", None), np.ndarray):
            framing = clf.blueprint_.framing
            warn_of_known(reopen_images(X, clf.image_shape_, clf.pixel_range_, framing), marks)
    else:
        classes, true = np.unique(labels, return_inverse=True)
        groups = check_groups(groups, n_samples=len(labels))
        options: dict[str, Any] = {"cv": split_folds(cv, labels, groups), "method": "predict_proba"}
        takes_groups = has_fit_parameter(clf, "groups")
        if get_config()["enable_metadata_routing"]:
            takes_groups |= bool(get_routing_for_object(clf).consumes("fit", ["groups"]))
        if groups is not None and takes_groups:
            options["params"] = {"groups": groups}
        probabilities = cross_val_predict(clf, X, labels, **options)
    p = check_probabilities(probabilities, shape=(len(true), len(classes)))
    report = build_report(true, p, classes, top_k=ks, confidence_level=confidence_level)
    return replace(report, origin=trace_origin(clf, X, report, cv=cv))


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
    return PredictionTable(
        paths=_paths_of(X),
        labels=classes[best],
        probabilities=probabilities,
        threshold=threshold if threshold is None else float(threshold),
        thumbnails=take_thumbnails(clf, X, least_sure),
    )


def _paths_of(X: Any) -> tuple[str, ...] | None:
    """Return the paths that a column holds, or None of anything else."""
    columns = column_names(X)
    column = take_column(X, "X") if columns is not None and len([*columns]) == 1 else X
    items: list[Any] = list(column) if getattr(column, "ndim", 1) == 1 else [None]
    is_paths = all(isinstance(item, str | os.PathLike) for item in items)
    return tuple(map(os.fspath, items)) if is_paths else None


def trace_origin(clf: Any, X: Any, report: EvaluationReport, *, cv: Any = None) -> Origin:
    """Return where a report on `X` comes from, of the classifier as it is now."""
    params = clf.get_params(deep=False) if hasattr(clf, "get_params") else {}
    params = {name: value for name, value in params.items() if name not in _NOT_TOLD}
    params |= {} if cv is None else {"measured by cross-validation": cv}
    texts = {name: short_name(repr(value), width=_SETTING_WIDTH) for name, value in params.items()}
    # Other libraries keep what they like under this name.
    history = getattr(clf, "history_", None)
    rows = history if isinstance(history, list | tuple) else ()
    epochs = [dict(row) for row in rows if isinstance(row, Mapping)]
    if blueprint := getattr(clf, "blueprint_", None):
        texts["fitted head"] = short_name(repr(blueprint.head), width=_SETTING_WIDTH)
        texts["learnt by"] = training_text(epochs)
    orders = [report.ranked_images(order)[:N_THUMBNAILS] for order in ("wrong", "uncertain")]
    thumbnails = take_thumbnails(clf, X, np.unique(np.concatenate(orders)).tolist())
    paths = _paths_of(X) if thumbnails else None
    return Origin(
        settings={"classifier": type(clf).__name__, **texts},
        versions=list_versions(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        history=tuple(row for row in epochs if {"loss", "accuracy"} <= row.keys()),
        thumbnails=thumbnails,
        names={row: paths[row] for row in thumbnails} if paths else {},
    )


def list_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries at work."""
    found = {name: getattr(sys.modules.get(name), "__version__", "") for name in _LIBRARIES}
    found["scikit-learn"] = found.pop("sklearn")
    return {"python": platform.python_version()} | {k: str(v) for k, v in found.items() if v}


def count_rows(X: Any, name: str) -> int:
    """Return how many images or rows there are, one or more."""
    n = int(X.shape[0] if hasattr(X, "shape") else len(X))
    if n == 0:
        raise ValueError(f"{name} must hold at least one image; received none.")
    return n


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
    """Return a copy, or an error that says what is wrong."""
    p = np.array(values)
    if p.shape != shape or p.dtype.kind != "f":
        raise ValueError(
            f"clf.predict_proba must return floating point of shape (n_samples, n_classes) = "
            f"{shape}; received {p.dtype} of shape {p.shape}."
        )
    sums = p.sum(axis=1, dtype=float)
    bad = np.flatnonzero(~((np.abs(sums - 1) < _SUM_TOLERANCE) & (p >= 0).all(axis=1)))
    if len(bad):
        raise ValueError(
            "clf.predict_proba must return probabilities, finite and summing to 1 in each row; "
            f"received {len(bad)} of {len(p)} rows that are not, the first at row {bad[0]}, with "
            f"sum {sums[bad[0]]:g}. NaN comes from a training that diverged: lower the learning "
            "rate and fit again."
        )
    return p


def take_thumbnails(clf: Any, X: Any, rows: list[int]) -> dict[int, NDArray[np.uint8]]:
    """Return small uint8 RGB pictures of some rows; of what is no image, none."""
    try:
        # An array may lie on disk, so that only what is shown is checked.
        images, white = check_images((X if isinstance(X, np.ndarray) else check_images(X)[0])[rows])
    except (TypeError, ValueError, LookupError, RuntimeError):  # X may be anything, a table or text
        return {}
    source = ImageSource(images, getattr(clf, "pixel_range_", white))
    if not source.is_files:
        images = source.read(0, len(rows))
    thumbnails = {}
    for row, image in zip(rows, images, strict=True):
        with suppress(OSError):
            pixels = read_image(image, max_side=_THUMBNAIL_PIXELS) if source.is_files else image
            picture = Image.fromarray(pixels)
            picture.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
            thumbnails[row] = np.asarray(picture)
    return thumbnails
