"""Measure a fitted classifier once; every table and picture is a view of the report."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics
from sklearn.exceptions import NotFittedError

from tlclassify._validation import check_labels, close_match_hint, number_problem, raise_problems

_CLASSES_IN_FULL, _WORST_CLASSES, _NAME_WIDTH = 50, 20, 44
_NAMES_IN_MESSAGE, _SUM_TOLERANCE = 10, 1e-3


class ClassAverage(NamedTuple):
    """Precision, recall and F1, each in [0, 1], averaged over classes."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, eq=False, repr=False)
class EvaluationReport:
    """What a classifier did on a labelled test set, in numbers; `evaluate` makes it.

    The arrays are read-only. `str(report)` is a table.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The labels, in the order of every per-class array below.
    y_true, y_pred : ndarray of shape (n_samples,)
        The label of each image and that of its largest probability, the first of several equal.
    probabilities : ndarray of shape (n_samples, n_classes), floating point in [0, 1]
        As the classifier gave them.
    accuracy, accuracy_interval, confidence_level : float, (float, float), float; in [0, 1]
        Fraction of images whose label was predicted; its Wilson score interval at that level.
    top_k_accuracy : dict of int to float in [0, 1]
        For each k, the fraction of images whose label is among the k most probable; equal
        probabilities rank in the order of `classes`, as in `y_pred`.
    log_loss : float, in nats
        Mean negative logarithm of the probability of the true label.
    confusion_matrix, confusion_matrix_normalized : ndarray of shape (n_classes, n_classes)
        Images by true class (row) and predicted class (column): integer counts, and float64
        fractions of the true class in [0, 1]; the row of a class without images is 0.
    precision, recall, f1 : ndarray of shape (n_classes,), float64 in [0, 1]
        Per class; 0 where it is not defined, as for the recall of a class without images.
    support : ndarray of shape (n_classes,), integer
        Number of images of each true class.
    macro_average, weighted_average : ClassAverage
        Means over the classes that have images: each counted once, or by its support.
    """

    classes: NDArray[Any]
    y_true: NDArray[Any]
    y_pred: NDArray[Any]
    probabilities: NDArray[np.floating[Any]]
    accuracy: float
    accuracy_interval: tuple[float, float]
    confidence_level: float
    top_k_accuracy: dict[int, float]
    log_loss: float
    confusion_matrix: NDArray[np.int64]
    confusion_matrix_normalized: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    macro_average: ClassAverage
    weighted_average: ClassAverage

    def __post_init__(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    @property
    def n_samples(self) -> int:
        """Number of images."""
        return len(self.y_true)

    @property
    def n_classes(self) -> int:
        """Number of classes that the classifier knows."""
        return len(self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """`classes` as text."""
        return tuple(str(label) for label in self.classes.tolist())

    def to_dict(self) -> dict[str, Any]:
        """Return all the numbers but those of single images, in types that `json.dumps` takes."""
        keys = (*ClassAverage._fields, "support")
        columns = [self.classes.tolist(), *(getattr(self, key).tolist() for key in keys)]
        rows = zip(*columns, strict=True)
        return {
            "n_samples": self.n_samples,
            "n_classes": self.n_classes,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "confidence_level": self.confidence_level,
            "top_k_accuracy": {str(k): value for k, value in self.top_k_accuracy.items()},
            "log_loss": self.log_loss,
            "per_class": [dict(zip(("class", *keys), row, strict=True)) for row in rows],
            "macro_average": self.macro_average._asdict(),
            "weighted_average": self.weighted_average._asdict(),
            "confusion_matrix": self.confusion_matrix.tolist(),
            "confusion_matrix_normalized": self.confusion_matrix_normalized.tolist(),
        }

    def __repr__(self) -> str:
        return (
            f"EvaluationReport(accuracy={self.accuracy:.4f}, n_samples={self.n_samples}, "
            f"n_classes={self.n_classes})"
        )

    def __str__(self) -> str:
        low, high = self.accuracy_interval
        interval = f"({100 * self.confidence_level:g}% interval {low:.3f} to {high:.3f})"
        size = f"n = {self.n_samples:,}, {self.n_classes:,} classes"
        ranks = ((k, value) for k, value in self.top_k_accuracy.items() if k < self.n_classes)
        lines = [f"{'accuracy':<16} {self.accuracy:.3f}  {interval}, {size}"]
        lines += [f"{f'top-{k} accuracy':<16} {value:.3f}" for k, value in ranks]
        return "\n".join([*lines, f"{'log loss':<16} {self.log_loss:.3f}", "", *_class_table(self)])


def evaluate(
    clf: Any,
    X: Any,
    y: ArrayLike,
    *,
    top_k: int | Sequence[int] = 5,
    confidence_level: float = 0.95,
) -> EvaluationReport:
    """Run a fitted classifier once over a test set and return all its numbers.

    Parameters
    ----------
    clf : fitted classifier
        Any scikit-learn classifier or pipeline with `predict_proba` and `classes_`. The predicted
        label is that of the largest probability; `predict` is not called.
    X : array-like of n_samples rows
        Whatever `clf` takes: images, file paths, features.
    y : array-like of shape (n_samples,)
        The labels, all known to `clf`. A class may be absent: its support is 0.
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
    asked = _check_settings(top_k, confidence_level)
    classes = _fitted_classes(clf)
    ks = sorted({min(k, len(classes)) for k in asked})
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    true = _encode(check_labels(y, n_samples=n_samples), classes)
    chances = _check_probabilities(clf.predict_proba(X), shape=(len(true), len(classes)))
    return _measure(true, chances, classes, ks, float(confidence_level))


def _measure(
    true: NDArray[np.intp],
    chances: NDArray[Any],
    classes: NDArray[Any],
    ks: list[int],
    level: float,
) -> EvaluationReport:
    pred = chances.argmax(axis=1)
    columns = np.arange(len(classes))
    scores = metrics.precision_recall_fscore_support(true, pred, labels=columns, zero_division=0.0)
    shares = metrics.confusion_matrix(true, pred, labels=columns, normalize="true")
    n_correct = int(np.sum(true == pred))
    return EvaluationReport(
        classes=classes,
        y_true=classes[true],
        y_pred=classes[pred],
        probabilities=chances,
        accuracy=float(metrics.accuracy_score(true, pred)),
        accuracy_interval=wilson_interval(n_correct, n_samples=len(true), confidence_level=level),
        confidence_level=level,
        top_k_accuracy={k: _top_k_accuracy(true, chances, k) for k in ks},
        log_loss=_log_loss(true, chances),
        confusion_matrix=metrics.confusion_matrix(true, pred, labels=columns),
        confusion_matrix_normalized=shares,
        precision=scores[0],
        recall=scores[1],
        f1=scores[2],
        support=scores[3],
        macro_average=_class_average(true, pred, "macro"),
        weighted_average=_class_average(true, pred, "weighted"),
    )


def wilson_interval(
    n_correct: int, *, n_samples: int, confidence_level: float
) -> tuple[float, float]:
    """Return the Wilson (1927) score interval of a proportion, two floats in [0, 1]."""
    z = NormalDist().inv_cdf((1 + confidence_level) / 2)
    share = n_correct / n_samples
    centre = share + z**2 / (2 * n_samples)
    spread = z * np.sqrt(share * (1 - share) / n_samples + (z / (2 * n_samples)) ** 2)
    low, high = np.array([centre - spread, centre + spread]) / (1 + z**2 / n_samples)
    return max(float(low), 0.0), min(float(high), 1.0)


def short_name(name: str, *, width: int) -> str:
    """Return a class name on one line, its middle replaced by "..." past `width` characters."""
    line = " ".join(name.split())
    head = (width - 3) * 2 // 3
    return line if len(line) <= width else f"{line[:head]}...{line[head + 3 - width :]}"


def _check_settings(top_k: int | Sequence[int], confidence_level: float) -> tuple[int, ...]:
    ks = tuple(top_k) if isinstance(top_k, Sequence | np.ndarray) else (top_k,)
    problems = [number_problem("top_k", k, integer=True, low=1) for k in ks or (None,)]
    level = number_problem(
        "confidence_level", confidence_level, low=0, high=1, low_included=False, high_included=False
    )
    raise_problems([*problems, level])
    return tuple(int(k) for k in ks)


def _fitted_classes(clf: Any) -> NDArray[Any]:
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


def _encode(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.intp]:
    known = {label: column for column, label in enumerate(classes.tolist())}
    if len(y) == 0:
        raise ValueError("X and y must hold at least one image; received none.")
    found, inverse = np.unique(y, return_inverse=True)
    unseen = [label for label in found.tolist() if label not in known]
    if unseen:
        raise ValueError(
            f"y must hold classes that clf was fitted on: {_listed(list(known))}; received "
            f"{_listed(unseen)} in {np.isin(y, unseen).sum()} of {len(y)} images."
            f"{close_match_hint(unseen[0], map(str, known))} Drop those images from X and y, or "
            "fit clf with their classes."
        )
    return np.array([known[label] for label in found.tolist()], dtype=np.intp)[inverse]


def _listed(labels: list[Any]) -> str:
    more = len(labels) - _NAMES_IN_MESSAGE
    shown = ", ".join(repr(label) for label in labels[:_NAMES_IN_MESSAGE])
    return f"{shown} and {more} more" if more > 0 else shown


def _check_probabilities(values: ArrayLike, *, shape: tuple[int, int]) -> NDArray[Any]:
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


def _class_table(report: EvaluationReport) -> list[str]:
    names = [short_name(name, width=_NAME_WIDTH) for name in report.class_names]
    shown, title = np.arange(len(names)), "class"
    if len(names) > _CLASSES_IN_FULL:
        present = np.flatnonzero(report.support)
        shown = present[np.argsort(report.f1[present], kind="stable")][:_WORST_CLASSES]
        title = f"class ({len(shown)} of lowest F1)"
    scores = np.stack([report.precision, report.recall, report.f1], axis=1)
    rows = [(names[i], scores[i], report.support[i]) for i in shown]
    rows.append(("macro average", np.array(report.macro_average), report.n_samples))
    rows.append(("weighted average", np.array(report.weighted_average), report.n_samples))
    width = max(len(title), *(len(name) for name, _, _ in rows))
    lines = [f"{title:<{width}}  precision     recall         f1    support"]
    for name, values, support in rows:
        cells = (f"{value:.3f}" if support else "-" for value in values)
        lines.append(f"{name:<{width}}{''.join(f'{c:>11}' for c in cells)}{support:>11,}")
    return lines
