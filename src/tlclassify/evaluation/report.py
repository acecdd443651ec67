"""What a classifier did on a labelled test set: the record that `evaluate` makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from tlclassify._checks.parameters import (
    COUNT,
    SHARE,
    check_parameters,
    close_match_hint,
    encode_labels,
    import_extra,
)
from tlclassify._checks.tables import shown_by
from tlclassify.evaluation import diagnosis
from tlclassify.evaluation.diagnosis import ClassAverage, Origin, wilson_intervals
from tlclassify.evaluation.text import describe_report, to_plain, write_page

N_THUMBNAILS = 24  # of each of the two orders that a page shows
ORDERS = ("wrong", "unlikely", "uncertain")
_NUMBERS = (
    "n_samples n_classes accuracy accuracy_interval confidence_level top_k_accuracy log_loss "
    "calibration_error confusion_matrix confusion_matrix_normalized"
)


@shown_by(describe_report)
@dataclass(frozen=True, eq=False, repr=False)
class EvaluationReport:
    """What a classifier did on a labelled test set, in numbers; `evaluate` makes it.

    The arrays are read-only. `str(report)` is a table.

    Attributes
    ----------
    classes : ndarray (n_classes,), the labels in the order of every per-class array
    y_true, y_pred : ndarray (n_samples,), labels; of equal probabilities the first in `classes`
    probabilities : ndarray (n_samples, n_classes), floating point in [0, 1]
    accuracy, confidence_level : float in [0, 1]
    accuracy_interval : (float, float), Wilson's score interval at that level
    top_k_accuracy : dict of int to float in [0, 1]
        For each k, the fraction of images whose label is among the k most probable.
    log_loss : float, mean negative logarithm of the probability of the true label, in nats
    calibration_error : float in [0, 1], `error` of `reliability`
    confusion_matrix, confusion_matrix_normalized : ndarray (n_classes, n_classes)
        Images by true class (row) and predicted class (column): counts, and fractions of the true
        class, 0 where it has no images.
    precision, recall, f1 : ndarray (n_classes,), float64 in [0, 1]; 0 where not defined
    precision_intervals, recall_intervals : ndarray (n_classes, 2), Wilson's; NaN without images
    support : ndarray (n_classes,), integer, number of images of each true class
    macro_average, weighted_average : ClassAverage
        Means over the classes that have images: each counted once, or by its support.
    origin : Origin, the classifier's settings and history, versions, small pictures
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
    calibration_error: float
    confusion_matrix: NDArray[np.int64]
    confusion_matrix_normalized: NDArray[np.float64]
    precision: NDArray[np.float64]
    precision_intervals: NDArray[np.float64]
    recall: NDArray[np.float64]
    recall_intervals: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    macro_average: ClassAverage
    weighted_average: ClassAverage
    origin: Origin

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
        return tuple(str(to_plain(label)) for label in self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Return all the numbers but those of single images, in types that `json.dumps` takes."""

        def known(intervals: NDArray[np.float64]) -> list[list[float] | None]:
            return [None if np.isnan(low) else [low, high] for low, high in intervals.tolist()]

        columns = {
            "class": self.classes,
            "precision": self.precision,
            "precision_interval": known(self.precision_intervals),
            "recall": self.recall,
            "recall_interval": known(self.recall_intervals),
            "f1": self.f1,
            "support": self.support,
        }
        rows = zip(*columns.values(), strict=True)
        numbers: dict[str, Any] = {name: getattr(self, name) for name in _NUMBERS.split()}
        numbers["per_class"] = [dict(zip(columns, row, strict=True)) for row in rows]
        numbers["macro_average"] = self.macro_average._asdict()
        numbers["weighted_average"] = self.weighted_average._asdict()
        return {name: to_plain(value) for name, value in numbers.items()}

    def __repr__(self) -> str:
        size = f"n_samples={self.n_samples}, n_classes={self.n_classes}"
        return f"EvaluationReport(accuracy={self.accuracy:.4f}, {size})"

    def confused_pairs(self, n_pairs: int = 10) -> list[diagnosis.ConfusedPair]:
        """Return the pairs of classes with the most images confused, at most `n_pairs` of them."""
        check_parameters(("n_pairs", n_pairs, COUNT))
        labels, fractions = self.classes.tolist(), self.confusion_matrix_normalized
        wrong = self.confusion_matrix * ~np.eye(len(labels), dtype=bool)
        largest = np.argsort(-wrong, axis=None, kind="stable")[:n_pairs]
        return [
            diagnosis.ConfusedPair(labels[i], labels[j], int(wrong[i, j]), float(fractions[i, j]))
            for i, j in zip(*np.unravel_index(largest, wrong.shape), strict=True)
            if wrong[i, j]
        ]

    def ranked_images(self, order: str = "wrong") -> NDArray[np.intp]:
        """Return the rows of the "wrong" predictions, the surest first, or those of all images.

        By the probability of the true label, the "unlikely" first; by the lead of the likeliest
        label, the "uncertain" first.
        """
        check_parameters(("order", order, ORDERS))
        if order == "wrong":
            wrong = np.flatnonzero(self.y_true != self.y_pred)
            return wrong[np.argsort(-self.probabilities[wrong].max(axis=1), kind="stable")]
        if order == "unlikely":
            true = encode_labels(self.y_true, self.classes)
            return np.argsort(self.probabilities[np.arange(len(true)), true], kind="stable")
        second, first = np.partition(self.probabilities, -2, axis=1)[:, -2:].T
        return np.argsort(first - second, kind="stable")

    def reliability(self, n_bins: int = diagnosis.N_BINS) -> diagnosis.Reliability:
        """Return accuracy by confidence, in bins of equal width over [0, 1].

        With `edges` (n_bins + 1,), `n_images` (n_bins,) and, NaN where a bin is empty, `accuracy`
        and mean `confidence` (n_bins,), `accuracy_intervals` (n_bins, 2). `error` is the expected
        calibration error: |accuracy - confidence| averaged over the images.
        """
        check_parameters(("n_bins", n_bins, COUNT))
        correct, confidence = self.y_true == self.y_pred, self.probabilities.max(axis=1)
        return diagnosis.measure_reliability(correct, confidence, self.confidence_level, n_bins)

    def roc_curve(self, label: Any) -> diagnosis.ClassCurve:
        """Return true positive rates `y` by false ones `x` of one class against all others.

        By falling `thresholds`. ValueError if the label is unknown, or of no image, or of all.
        """
        x, y, thresholds = metrics.roc_curve(*_one_against_all(self, label))
        return diagnosis.ClassCurve(x, y, thresholds, float(metrics.auc(x, y)))

    def precision_recall_curve(self, label: Any) -> diagnosis.ClassCurve:
        """Return precision `y` by recall `x` of one class; `area` is the average precision.

        By rising `thresholds`, of which there is one fewer. ValueError as of `roc_curve`.
        """
        positive, scores = _one_against_all(self, label)
        precision, recall, thresholds = metrics.precision_recall_curve(positive, scores)
        area = float(metrics.average_precision_score(positive, scores))
        return diagnosis.ClassCurve(recall, precision, thresholds, area)

    def coverage_curve(self) -> diagnosis.CoverageCurve:
        """Return the `accuracy` on the surest images alone, for every share of them, `coverage`.

        It rises to 1, with one entry for each distinct probability; `thresholds` has the lowest.
        """
        correct, confidence = self.y_true == self.y_pred, self.probabilities.max(axis=1)
        order = np.argsort(-confidence, kind="stable")
        falling = confidence[order].astype(np.float64)
        # Equal probabilities are answered together or not at all.
        last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        accuracy = np.cumsum(correct[order])[last] / (last + 1)
        return diagnosis.CoverageCurve((last + 1) / len(falling), accuracy, falling[last])

    def choose_threshold(
        self, *, accuracy: float = 0.95, confidence: float = 0.95
    ) -> diagnosis.ThresholdChoice:
        """Return the lowest probability at which answers are right so often, with that confidence.

        In at most 1 - `confidence` of test sets is the accuracy on new images, of those answered,
        below `accuracy`: as long as these images are like the new ones, and the classifier was
        neither trained nor calibrated on them. Exact binomial tests in a fixed sequence [1]_, begun
        at several ranks [2]_, allow for the choice among many thresholds.

        Parameters
        ----------
        accuracy, confidence : float in (0, 1)

        Returns
        -------
        ThresholdChoice
            With `threshold`, None where none can be shown to do; `n_answered` of `n_samples`
            images, `n_correct` of them rightly; the `share` answered and its `share_interval`,
            Wilson's. `str(choice)` is a sentence.

        References
        ----------
        .. [1] A. N. Angelopoulos et al. (2025), Learn then test, Annals of Applied Statistics 19.
        .. [2] B. L. Wiens (2003), A fixed sequence Bonferroni procedure, Pharm. Statistics 2(3).
        """
        check_parameters(("accuracy", accuracy, SHARE), ("confidence", confidence, SHARE))
        correct, surest = self.y_true == self.y_pred, self.probabilities.max(axis=1)
        return diagnosis.choose_threshold(correct, surest, float(accuracy), float(confidence))

    def label_errors(self) -> list[diagnosis.LabelError]:
        """Return images whose labels are likely wrong, the likeliest first, by cleanlab [1]_.

        The classifier must not have been trained on these images. ImportError without cleanlab,
        which ``pip install "tlclassify[labels]"`` brings; ValueError if there is but one class.

        References
        ----------
        .. [1] C. Northcutt et al. (2021), Confident learning, J. of AI Research 70.
        """
        cleanlab = import_extra("cleanlab.filter", "labels", user="label_errors")
        # Cleanlab is given the classes that occur only: it takes each to have examples.
        true, p = encode_labels(self.y_true, self.classes), self.probabilities
        present, given = np.unique(true, return_inverse=True)
        if len(present) < 2:
            raise ValueError(
                "y must hold two classes or more for label errors; received 1. Evaluate on images "
                "of more classes."
            )
        shares = p[:, present].astype(np.float64) + 1e-12
        shares /= shares.sum(axis=1, keepdims=True)
        ranked = {"return_indices_ranked_by": "self_confidence", "n_jobs": 1}
        rows = cleanlab.find_label_issues(given, shares, **ranked)
        of_label, of_suggested = p[rows, true[rows]], p[rows].max(axis=1)
        columns = (rows, self.y_true[rows], self.y_pred[rows], of_label, of_suggested)
        errors = zip(*(column.tolist() for column in columns), strict=True)
        return [diagnosis.LabelError(*error) for error in errors]

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the report as one page for people, pictures inside, and write it if told where.

        ImportError without matplotlib or Jinja2; OSError if `path` cannot be written.
        """
        return write_page("report.html", path, report=self, n_thumbnails=N_THUMBNAILS)


def _one_against_all(
    report: EvaluationReport, label: Any
) -> tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]:
    known = report.classes.tolist()
    if label not in known:
        raise ValueError(
            f"label must be one of the report's classes; received {label!r}."
            f"{close_match_hint(label, report.class_names)}"
        )
    positive = report.y_true == label
    if positive.all() or not positive.any():
        raise ValueError(
            f"label must have images of its own and of other classes among the {len(positive)} "
            f"evaluated; received {label!r} with {positive.sum()}. Evaluate on more images."
        )
    return positive, report.probabilities[:, known.index(label)]


def build_report(
    true: NDArray[np.intp],
    probabilities: NDArray[Any],
    classes: NDArray[Any],
    *,
    top_k: Sequence[int] = (5,),
    confidence_level: float = 0.95,
) -> EvaluationReport:
    """Return the report on probabilities, and labels as columns of these; its origin is empty."""
    p = probabilities
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
        accuracy_interval=tuple(wilson_intervals(correct.sum(), len(true), level).tolist()),
        confidence_level=level,
        top_k_accuracy={k: float((ranks < k).mean()) for k in ks},
        log_loss=float(-np.log(np.clip(of_true, smallest, 1 - smallest)).mean()),
        calibration_error=diagnosis.measure_reliability(correct, p.max(axis=1), level).error,
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
