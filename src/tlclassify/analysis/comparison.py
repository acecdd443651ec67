"""Several backbones on one task: which one, how much better, and at what price."""

import hashlib
import json
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np
from numpy.typing import ArrayLike
from sklearn import config_context
from sklearn.base import clone

from tlclassify._checks.files import open_whole
from tlclassify._checks.parameters import (
    SHARE,
    check_parameters,
    check_type,
    encode_labels,
    show_progress,
)
from tlclassify.analysis.evaluate import evaluate, list_versions, trace_origin
from tlclassify.engines.runners import Runner, run_batches
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.evaluation.comparison import Comparison, ComparisonRow, compare_reports
from tlclassify.evaluation.report import build_report
from tlclassify.evaluation.text import short_name
from tlclassify.inputs.images import ImageSource, open_images, reopen_images
from tlclassify.inputs.splits import Task, draw_seeds, open_task, split_folds
from tlclassify.networks.backbones import get_backbone
from tlclassify.networks.rows import BUILT_IN, Backbone

_N_STEPS = 3
_TIMED_IMAGES, _TIMED_SECONDS = 512, 2.0
_REASON_WIDTH = 300
# What keeps a backbone from a task: weights, disk, network, memory, size, precision, packages.
_EXPECTED = (OSError, MemoryError, ValueError, FloatingPointError, OverflowError, ImportError)


def compare_backbones(
    names: Sequence[str | Backbone | keras.Model | TransferClassifier] | Mapping[str, Any],
    X: Any,
    y: ArrayLike,
    *,
    X_test: Any = None,
    y_test: ArrayLike | None = None,
    test_fraction: float = 0.2,
    cv: Any = None,
    groups: ArrayLike | None = None,
    classifier: TransferClassifier | None = None,
    cache_dir: str | Path | None = None,
    confidence_level: float = 0.95,
    error_score: float | str = np.nan,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 1,
) -> Comparison:
    """Fit several backbones on one task; return them in order, with paired tests between them.

    Parameters
    ----------
    names : sequence of str, Backbone, keras.Model, TransferClassifier; or mapping of str to these
        Backbones, lists of several as one, or classifiers with settings of their own. A mapping
        names the rows.
    X, y : array-like
        Images and labels, as in `TransferClassifier.fit`.
    X_test, y_test : array-like, optional, the images to judge by and their labels
    test_fraction : float in (0, 1)
        The share of `X`, stratified by class, to judge by where there is no `X_test` and no `cv`.
    cv : int, scikit-learn splitter or iterable, optional
        Folds: every image of `X` is judged by a classifier that has not seen it. The fit whose
        time is taken is one more, on all of `X`.
    groups : array-like of shape (n,), optional
        The patient, camera or plant of each image of `X`: never on both sides of any split.
    classifier : TransferClassifier, optional, the settings of rows given by name
    cache_dir : path, optional
        Where activations and finished rows are kept for the same call again; rows whose settings
        have no lasting name (functions, `RandomState` objects) are fitted anew.
    confidence_level : float in (0, 1), of intervals and of differences
    error_score : "raise" or np.nan
        NaN: a row that fails of what can be expected (OSError, ImportError, MemoryError,
        ValueError, FloatingPointError) says why, and the others go on.
    random_state : int, RandomState or None
        Seed of the split, and of the classifiers given by name.
    verbose : int, 1 shows a progress bar, 2 also those of the parts, 0 is silent

    Raises
    ------
    ValueError, TypeError
        If a name is unknown, or the images, labels or settings are not as above.

    Examples
    --------
    >>> from tlclassify import compare_backbones
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(120, random_state=0)
    >>> compare_backbones(["mobilenet_micro"], X, y, random_state=0, verbose=0).best.name
    'mobilenet_micro'
    """
    is_nan = isinstance(error_score, float) and math.isnan(error_score)
    problem = f"error_score must be 'raise' or np.nan; received {error_score!r}"
    check_parameters(
        ("test_fraction", test_fraction, SHARE),
        ("confidence_level", confidence_level, SHARE),
        problems=[] if is_nan or error_score == "raise" else [problem],
    )
    split_seed, seed = draw_seeds(random_state, 2)
    template = TransferClassifier(random_state=seed) if classifier is None else classifier
    check_type("classifier", template, TransferClassifier, "a TransferClassifier, or None")
    classifiers = _name_rows(names, template, cache_dir=cache_dir, verbose=max(verbose - 1, 0))
    task = open_task(X, y, groups, X_test, y_test)
    task, folds = _choose_judges(task, cv, test_fraction, split_seed)
    folder = None if cache_dir is None else Path(cache_dir, "comparisons", _name_task(task, folds))
    rows, level = list[ComparisonRow](), confidence_level
    with show_progress(_N_STEPS * len(classifiers), "", unit="step", verbose=verbose) as progress:
        for name, clf in classifiers.items():
            try:
                path = _name_file(folder, clf)
                row = _read_row(path, name, clf, task, level)
                if row is None:
                    row = _measure_row(name, clf, task, folds=folds, level=level, progress=progress)
                    _keep_row(path, row)
                rows.append(row)
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                # No backend says MemoryError.
                no_memory = "resourceexhausted" in text.replace("_", "").lower()
                if error_score == "raise" or not (no_memory or isinstance(error, _EXPECTED)):
                    raise
                rows.append(ComparisonRow(name, failure=short_name(text, width=_REASON_WIDTH)))
            progress.update(len(rows) * _N_STEPS - progress.n)
    return compare_reports(rows, confidence_level=level)


def _name_rows(
    names: Any, template: TransferClassifier, *, cache_dir: str | Path | None, verbose: int
) -> dict[str, TransferClassifier]:
    if isinstance(names, str) or not isinstance(names, Mapping | Sequence):
        names = [names]
    if not names:
        raise ValueError("names must hold at least one backbone; received none.")
    is_named = isinstance(names, Mapping)
    classifiers: dict[str, TransferClassifier] = {}
    for key, part in names.items() if is_named else enumerate(names):
        whole = isinstance(part, TransferClassifier)
        clf = clone(part) if whole else clone(template).set_params(backbone=part)
        clf.set_params(cache_dir=clf.cache_dir or cache_dir, verbose=verbose)
        name = str(key) if is_named else get_backbone(clf.backbone).name
        copies = sum(other.partition(" #")[0] == name for other in classifiers)
        classifiers[f"{name} #{copies + 1}" if copies else name] = clf
    return classifiers


def _choose_judges(task: Task, cv: Any, fraction: float, seed: int) -> tuple[Task, Any]:
    """Return the task with images to judge by, and the folds of `cv`, if there are any."""
    if cv is not None:
        if task.X_test is not None:
            raise ValueError(
                "cv must be None where X_test is given; received both. Drop one of them."
            )
        # All rows are judged by the same folds, also where a splitter draws new ones at each call.
        folds = split_folds(cv, task.labels, task.groups)
        return replace(task, X_test=task.images, labels_test=task.labels), folds
    if task.X_test is not None:
        return task, None
    rows, held_out = task.hold_out(fraction, seed)
    judges = {"X_test": task.images[held_out], "labels_test": task.labels[held_out]}
    return replace(task.take(rows), **judges), None


def _measure_row(
    name: str, clf: TransferClassifier, task: Task, *, folds: Any, level: float, progress: Any
) -> ComparisonRow:
    with tempfile.TemporaryDirectory() as scratch:
        if folds is not None and clf.cache_dir is None:
            # Folds read what the fit on all images has run.
            clf.set_params(cache_dir=scratch)
        progress.set_description(f"{name}: fit")
        start = time.perf_counter()
        clf.fit(task.images, task.labels, groups=task.groups)
        fit_seconds = time.perf_counter() - start
        progress.update()
        progress.set_description(f"{name}: evaluate")
        groups = None if folds is None else task.groups
        options = {"confidence_level": level, "cv": folds, "groups": groups}
        # Groups go to the classifier itself, whatever a caller's own tools are told.
        with config_context(enable_metadata_routing=False):
            report = evaluate(clf, task.X_test, task.labels_test, **options)
        progress.update()
        progress.set_description(f"{name}: measure speed")
        framing = clf.blueprint_.framing
        source = reopen_images(task.X_test, clf.image_shape_, clf.pixel_range_, framing)
        whole, frozen = (Runner(network, clf.engine) for network in (clf.model_, clf.backbone_))
        file = Path(scratch) / "model.keras"
        clf.model_.save(file)
        return ComparisonRow(
            name,
            report,
            fit_seconds=fit_seconds,
            extraction_images_per_second=_measure_rate(frozen, source, clf.batch_size),
            prediction_images_per_second=_measure_rate(whole, source, clf.batch_size),
            single_image_milliseconds=1000 / _measure_rate(whole, source, 1),
            n_parameters=clf.model_.count_params(),
            file_bytes=file.stat().st_size,
        )


def _measure_rate(runner: Runner, source: ImageSource, batch_size: int) -> float:
    """Return images a second: the median over batches, after one that is not counted."""
    n_images = min(len(source), batch_size)
    batch = source.take(np.arange(n_images))
    n_rounds = math.ceil(_TIMED_IMAGES / n_images) if n_images > 1 else 20
    seconds: list[float] = []
    while len(seconds) <= n_rounds and sum(seconds[1:]) < _TIMED_SECONDS:
        start = time.perf_counter()
        list(run_batches(runner, batch, batch_size=n_images))
        seconds.append(time.perf_counter() - start)
    return n_images / statistics.median(seconds[1:])


def _name_task(task: Task, folds: Any) -> str:
    """Return what is the same only for the same images, labels, folds and versions."""
    pairs = [[part.tolist() for part in pair] for pair in folds or ()]
    groups = None if task.groups is None else task.groups.tolist()
    digest = hashlib.sha256(f"{sorted(list_versions().items())} {pairs} {groups}".encode())
    # What folds judge by is what they fit on.
    judged = [] if folds else [(task.X_test, task.labels_test)]
    for images, labels in [(task.images, task.labels), *judged]:
        digest.update(open_images(images).digests().tobytes())
        digest.update(repr(labels.tolist()).encode())
    return digest.hexdigest()


def _name_file(folder: Path | None, clf: TransferClassifier) -> Path | None:
    """Return a row's file, or None without a folder or where no name of the settings would last."""
    # An object's text may hold its address or be cut short; a user's own backbone may be another
    # network tomorrow.
    settings = {k: v for k, v in clf.get_params().items() if k not in {"cache_dir", "verbose"}}
    text = repr(sorted((name, repr(value)) for name, value in settings.items()))
    is_built_in = set(get_backbone(clf.backbone).parts) <= set(BUILT_IN)
    if folder is None or " at 0x" in text or "..." in text or not is_built_in:
        return None
    weights = Path(str(clf.weights))
    if weights.is_file():
        status = weights.stat()
        text += f" {status.st_size} {status.st_mtime_ns}"
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()}.row"


def _read_row(
    path: Path | None, name: str, clf: TransferClassifier, task: Task, level: float
) -> ComparisonRow | None:
    """Return the row that an equal classifier left, or None, also where it cannot be read."""
    if path is None:
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            probabilities, kept = arrays["probabilities"], json.loads(str(arrays["kept"]))
    except (OSError, LookupError, ValueError, RuntimeError, EOFError, BadZipFile):
        return None
    true = encode_labels(task.labels_test, task.classes)
    report = build_report(true, probabilities, task.classes, confidence_level=level)
    origin = trace_origin(clf, task.X_test, report)
    origin = replace(origin, created=kept["created"], history=tuple(kept["history"]))
    return ComparisonRow(name, replace(report, origin=origin), **kept["costs"])


def _keep_row(path: Path | None, row: ComparisonRow) -> None:
    """Keep a row; where that cannot be done, warn, for the row itself is not lost."""
    report = row.report
    if path is None or report is None:
        return
    costs = {key: x for key, x in vars(row).items() if key not in {"name", "report", "failure"}}
    origin = {"created": report.origin.created, "history": report.origin.history}
    kept = np.array(json.dumps({"costs": costs, **origin}))
    try:
        with open_whole(path) as file:
            np.savez(file, probabilities=report.probabilities, kept=kept)
    except OSError as error:
        warnings.warn(
            f"cache_dir: the row {row.name!r} could not be kept in {path.parent} ({error}); the "
            "same call again would fit it anew. Free some room or choose another folder.",
            stacklevel=3,
        )
