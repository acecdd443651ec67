"""Finished rows of a comparison, kept from call to call.

A row lies in a file of its own, named by the SHA-256 of the images, the labels, the split, the
classifier's settings and the versions at work: probabilities and numbers, nothing that runs. What
cannot be read counts as absent.
"""

import hashlib
import io
import json
import warnings
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.files import write_whole
from tlclassify._checks.labels import encode_labels
from tlclassify.analysis.comparison_task import Task
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.evaluation.comparison import ComparisonRow
from tlclassify.evaluation.measuring import build_report
from tlclassify.evaluation.origins import list_versions
from tlclassify.inputs.images import open_images
from tlclassify.networks.backbones import get_backbone
from tlclassify.networks.rows import BUILT_IN

_ADDRESS = " at 0x"  # in the text of an object that has no lasting one
_WITHOUT_EFFECT = {"cache_dir", "verbose"}
_NUMBERS = (
    *("fit_seconds", "extraction_images_per_second", "prediction_images_per_second"),
    *("single_image_milliseconds", "n_parameters", "file_bytes"),
)
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile)


@dataclass(frozen=True)
class KeptRows:
    """The rows of one task.

    Parameters
    ----------
    folder : Path or None
        None: nothing is kept.
    task : Task
    task_digest : str
    """

    folder: Path | None
    task: Task
    task_digest: str

    def read(self, name: str, clf: TransferClassifier) -> ComparisonRow | None:
        """Return the row that an equal classifier left, or None."""
        path = self._path(clf)
        if path is None:
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                chances, text = arrays["probabilities"], str(arrays["numbers"])
            numbers = json.loads(text)
            return self._rebuild(name, clf, chances, numbers)
        except _UNREADABLE:
            return None

    def write(self, clf: TransferClassifier, row: ComparisonRow) -> None:
        """Keep a row; where that cannot be done, warn, for the row itself is not lost."""
        path, report = self._path(clf), row.report
        if path is None or report is None:
            return
        numbers = {name: getattr(row, name) for name in _NUMBERS}
        origin = report.origin
        numbers |= {"created": origin.created, "versions": dict(origin.versions)}
        numbers |= {"history": [dict(entry) for entry in origin.history]}
        content = io.BytesIO()
        np.savez(content, probabilities=report.probabilities, numbers=np.array(json.dumps(numbers)))
        try:
            write_whole(path, content.getvalue())
        except OSError as error:
            warnings.warn(
                f"cache_dir: the row {row.name!r} could not be kept in {path.parent} ({error}); "
                "the same call again would fit it anew. Free some room or choose another folder.",
                stacklevel=2,
            )

    def _rebuild(
        self, name: str, clf: TransferClassifier, chances: NDArray[Any], numbers: dict[str, Any]
    ) -> ComparisonRow:
        X, labels = self.task.judged
        report = build_report(
            chances,
            self.task.classes,
            encode_labels(labels, self.task.classes),
            clf=clf,
            X=X,
            confidence_level=self.task.confidence_level,
        )
        origin = replace(
            report.origin,
            created=str(numbers["created"]),
            versions=dict(numbers["versions"]),
            history=tuple(numbers["history"]),
        )
        measured = {key: numbers[key] for key in _NUMBERS}
        return ComparisonRow(name, replace(report, origin=origin), **measured)

    def _path(self, clf: TransferClassifier) -> Path | None:
        if self.folder is None:
            return None
        settings = _lasting_settings(clf)
        if settings is None:
            return None
        digest = hashlib.sha256(f"{self.task_digest} {settings}".encode()).hexdigest()
        return self.folder / f"{digest}.npz"


def open_kept_rows(cache_dir: str | Path | None, task: Task) -> KeptRows:
    """Return the rows of a task in the folder ``comparisons`` of `cache_dir`."""
    if cache_dir is None:
        return KeptRows(None, task, "")
    folder = Path(cache_dir) / "comparisons"
    digest = hashlib.sha256()
    for X, labels in ((task.X, task.labels), task.judged):
        digest.update(open_images(X).digests().tobytes())
        digest.update(json.dumps(labels.tolist()).encode())
    digest.update(f"{task.cv!r} {sorted(list_versions().items())}".encode())
    return KeptRows(None if _ADDRESS in repr(task.cv) else folder, task, digest.hexdigest())


def _lasting_settings(clf: TransferClassifier) -> str | None:
    """Return a classifier's settings as text; None if another session would write them otherwise.

    That is so where an object's text holds its address, and where a backbone is the user's own,
    whose name may mean another network tomorrow.
    """
    params = {k: v for k, v in clf.get_params().items() if k not in _WITHOUT_EFFECT}
    text = repr(sorted((name, repr(value)) for name, value in params.items()))
    if _ADDRESS in text or get_backbone(clf.backbone) not in BUILT_IN:
        return None
    weights = Path(str(clf.weights))
    if clf.weights not in (None, "pretrained") and weights.is_file():
        status = weights.stat()
        text += f" {status.st_size} {status.st_mtime_ns}"
    return text
