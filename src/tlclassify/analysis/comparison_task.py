"""What the rows of a comparison are fitted on and judged by, and the rows kept from call to call.

A row lies in a file of its own, named by the SHA-256 of the images, the labels, the split, the
classifier's settings and the versions at work: probabilities and numbers, nothing that runs. What
cannot be read counts as absent.
"""

import hashlib
import io
import json
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import check_cv

from tlclassify._checks.files import write_whole
from tlclassify._checks.labels import check_labels, encode_labels
from tlclassify.analysis.evaluate import list_versions, trace_origin
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.evaluation.comparison import ComparisonRow
from tlclassify.evaluation.measuring import build_report
from tlclassify.inputs.images import open_images
from tlclassify.inputs.splits import check_targets, split_rows
from tlclassify.networks.backbones import get_backbone
from tlclassify.networks.rows import BUILT_IN

_NUMBERS = [field.name for field in fields(ComparisonRow)[3:]]
_ORIGIN = ("created", "versions", "history")
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Task:
    """Images and labels to fit on and to judge by; with folds, these are the same.

    Finished rows lie in `folder`, where there is one, under names that begin with the task.
    """

    X: Any
    labels: NDArray[Any]
    X_test: Any
    labels_test: NDArray[Any]
    classes: NDArray[Any]
    folds: list[tuple[NDArray[np.intp], NDArray[np.intp]]] | None
    confidence_level: float
    folder: Path | None

    def read_row(self, name: str, clf: TransferClassifier) -> ComparisonRow | None:
        """Return the row that an equal classifier left, or None."""
        path = self._path(clf)
        if path is None:
            return None
        try:
            written = path.read_bytes()
            digest, content = written[:_DIGEST_BYTES], written[_DIGEST_BYTES:]
            if hashlib.sha256(content).digest() != digest:
                return None
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                probabilities, numbers = arrays["probabilities"], json.loads(str(arrays["numbers"]))
            measured = {key: numbers[key] for key in _NUMBERS}
            origin = {key: numbers[key] for key in _ORIGIN} | {"history": tuple(numbers["history"])}
        except (OSError, KeyError):
            return None
        true, level = encode_labels(self.labels_test, self.classes), self.confidence_level
        report = build_report(true, probabilities, self.classes, confidence_level=level)
        today = trace_origin(clf, self.X_test, report)
        return ComparisonRow(name, replace(report, origin=replace(today, **origin)), **measured)

    def keep_row(self, clf: TransferClassifier, row: ComparisonRow) -> None:
        """Keep a row; where that cannot be done, warn, for the row itself is not lost."""
        path, report = self._path(clf), row.report
        if path is None or report is None:
            return
        numbers = {key: getattr(row, key) for key in _NUMBERS}
        numbers |= {key: getattr(report.origin, key) for key in _ORIGIN}
        file = io.BytesIO()
        np.savez(file, probabilities=report.probabilities, numbers=np.array(json.dumps(numbers)))
        content = file.getvalue()
        try:
            write_whole(path, hashlib.sha256(content).digest() + content)
        except OSError as error:
            warnings.warn(
                f"cache_dir: the row {row.name!r} could not be kept in {path.parent} ({error}); "
                "the same call again would fit it anew. Free some room or choose another folder.",
                stacklevel=2,
            )

    def _path(self, clf: TransferClassifier) -> Path | None:
        """Return a row's file; None where another session would write the settings otherwise.

        That is so where an object's text holds its address or is cut short, and where a backbone
        is the user's own, whose name may mean another network tomorrow.
        """
        settings = {k: v for k, v in clf.get_params().items() if k not in {"cache_dir", "verbose"}}
        text = repr(sorted((name, repr(value)) for name, value in settings.items()))
        is_lasting = " at 0x" not in text and "..." not in text
        if self.folder is None or not is_lasting or get_backbone(clf.backbone) not in BUILT_IN:
            return None
        weights = Path(str(clf.weights))
        if weights.is_file():
            status = weights.stat()
            text += f" {status.st_size} {status.st_mtime_ns}"
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.row"


def open_task(
    X: Any,
    y: ArrayLike,
    X_test: Any,
    y_test: ArrayLike | None,
    *,
    cv: Any,
    fraction: float,
    seed: int,
    confidence_level: float,
    cache_dir: str | Path | None,
) -> Task:
    """Check images and labels, and split them where there is nothing else to judge by."""
    if (X_test is None) != (y_test is None):
        raise ValueError("X_test and y_test must come together; received one of them.")
    if X_test is not None and cv is not None:
        raise ValueError("cv must be None where X_test is given; received both. Drop one of them.")
    source, folds = open_images(X), None
    labels = check_labels(y, n_samples=len(source))
    classes, targets = check_targets(labels)
    if cv is not None:
        X_test, labels_test = X, labels
        # All rows are judged by the same folds, also where a splitter draws new ones at each call.
        folds = list(check_cv(cv, labels, classifier=True).split(np.zeros(len(labels)), labels))
    elif y_test is None:
        instead = "pass X_test and y_test"
        rows, held_out = split_rows(
            targets, classes, fraction, seed, name="test_fraction", instead=instead
        )
        X, X_test = source.images[rows], source.images[held_out]
        labels, labels_test = labels[rows], labels[held_out]
    else:
        test = open_images(X_test, pixel_range=source.pixel_range, name="X_test")
        labels_test = check_labels(y_test, n_samples=len(test), name="y_test")
        encode_labels(labels_test, classes, name="y_test", source="seen in y")
    folder = None
    if cache_dir is not None:
        pairs = [[part.tolist() for part in pair] for pair in folds or ()]
        digest = hashlib.sha256(f"{sorted(list_versions().items())} {pairs}".encode())
        for images, names in ((X, labels), (X_test, labels_test)):
            digest.update(open_images(images).digests().tobytes())
            digest.update(repr(names.tolist()).encode())
        folder = Path(cache_dir) / "comparisons" / digest.hexdigest()
    return Task(X, labels, X_test, labels_test, classes, folds, confidence_level, folder)
