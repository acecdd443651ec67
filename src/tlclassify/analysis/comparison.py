"""Several backbones on one task: which one, how much better, and at what price."""

import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from tqdm.auto import tqdm

from tlclassify._checks.parameters import number_problem, raise_problems
from tlclassify.activations.run import run_batches
from tlclassify.analysis.comparison_task import Task, split_task
from tlclassify.analysis.kept_rows import KeptRows, open_kept_rows
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.evaluation import Comparison, evaluate
from tlclassify.evaluation.comparison import ComparisonRow, compare_reports
from tlclassify.inputs.images import ImageSource, reopen_images
from tlclassify.inputs.splits import draw_seeds
from tlclassify.networks.backbones import Backbone, get_backbone

__all__ = ["compare_backbones"]

_STEPS = ("fit", "evaluate", "measure speed")
_TIMED_IMAGES, _TIMED_SECONDS = 512, 2.0
_REASON_WIDTH = 300


def compare_backbones(
    names: Sequence[str | Backbone | TransferClassifier] | Mapping[str, Any],
    X: Any,
    y: ArrayLike,
    *,
    X_test: Any = None,
    y_test: ArrayLike | None = None,
    test_fraction: float = 0.2,
    cv: Any = None,
    classifier: TransferClassifier | None = None,
    cache_dir: str | Path | None = None,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 1,
) -> Comparison:
    """Fit several backbones on one task and judge them by the same images.

    A row that fails, for want of weights or of memory, says why, and the others go on.

    Parameters
    ----------
    names : sequence of str, Backbone or TransferClassifier; or mapping of str to these
        Registered backbones, or classifiers with settings of their own. A mapping names the rows.
    X : array-like
        Images, as in `TransferClassifier.fit`.
    y : array-like of shape (n,)
        Labels.
    X_test, y_test : optional
        The images to judge by, and their labels.
    test_fraction : float in (0, 1), default 0.2
        The share of `X`, stratified by class, to judge by where there is no `X_test` and no `cv`.
    cv : int, scikit-learn splitter or None
        Folds: every image of `X` is judged by a classifier that has not seen it. Another fit, on
        all of `X`, is the one whose time is taken.
    classifier : TransferClassifier, optional
        The settings of rows given by name; by default ``TransferClassifier(random_state=...)``.
    cache_dir : path, optional
        Where activations and finished rows are kept. The same call again takes finished rows from
        there, with the times that were measured then; a call that was killed goes on. Rows whose
        settings have no lasting name (functions, `RandomState` objects) are fitted anew.
    confidence_level : float in (0, 1), default 0.95
        Of intervals and of differences.
    random_state : int, RandomState or None
        Seed of the split, and of the classifiers given by name.
    verbose : int, default 1
        1 shows a progress bar over the whole comparison, 2 also those of its parts; 0 is silent.

    Returns
    -------
    Comparison
        Rows in order of accuracy, with paired tests between them.

    Raises
    ------
    ValueError, TypeError
        If a name is unknown, or the images, labels or settings are not as above.

    Examples
    --------
    >>> from tlclassify import compare_backbones
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(120, random_state=0)
    >>> comparison = compare_backbones(["mobilenet_micro"], X, y, random_state=0, verbose=0)
    >>> comparison.rows[0].name
    'mobilenet_micro'
    """
    problems = [
        number_problem(name, value, low=0, high=1, low_included=False, high_included=False)
        for name, value in (
            ("test_fraction", test_fraction),
            ("confidence_level", confidence_level),
        )
    ]
    raise_problems(problems)
    split_seed, seed = draw_seeds(random_state, 2)
    if classifier is None:
        classifier = TransferClassifier(random_state=seed)
    classifiers = _name_rows(names, classifier, cache_dir=cache_dir, verbose=max(verbose - 1, 0))
    task = split_task(
        X, y, X_test, y_test, cv=cv, fraction=test_fraction, seed=split_seed, level=confidence_level
    )
    kept = open_kept_rows(cache_dir, task)
    rows = []
    total = len(classifiers) * len(_STEPS)
    with tqdm(total=total, disable=not verbose, unit="step") as progress:
        for name, clf in classifiers.items():
            rows.append(kept.read(name, clf) or _try_row(name, clf, task, kept, progress))
            progress.update(len(rows) * len(_STEPS) - progress.n)
    return compare_reports(rows, confidence_level=confidence_level)


def _name_rows(
    names: Any, template: TransferClassifier, *, cache_dir: str | Path | None, verbose: int
) -> dict[str, TransferClassifier]:
    if isinstance(names, str | Backbone | TransferClassifier):
        names = [names]
    parts = list(names.values()) if isinstance(names, Mapping) else list(names)
    if not parts:
        raise ValueError("names must hold at least one backbone; received none.")
    classifiers: dict[str, TransferClassifier] = {}
    for number, part in enumerate(parts):
        given = isinstance(part, TransferClassifier)
        clf = clone(part) if given else clone(template).set_params(backbone=part)
        row = get_backbone(clf.backbone)
        if clf.cache_dir is None:
            clf.set_params(cache_dir=cache_dir)
        clf.set_params(verbose=verbose)
        name = list(names)[number] if isinstance(names, Mapping) else row.name
        copies = sum(other.partition(" #")[0] == name for other in classifiers)
        classifiers[f"{name} #{copies + 1}" if copies else name] = clf
    return classifiers


def _try_row(
    name: str, clf: TransferClassifier, task: Task, kept: KeptRows, progress: Any
) -> ComparisonRow:
    try:
        row = _measure_row(name, clf, task, progress)
    except Exception as error:  # noqa: BLE001 - whatever a backbone fails of, the others go on
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        short = reason if len(reason) <= _REASON_WIDTH else f"{reason[: _REASON_WIDTH - 3]}..."
        return ComparisonRow(name, failure=short)
    kept.write(clf, row)
    return row


def _measure_row(name: str, clf: TransferClassifier, task: Task, progress: Any) -> ComparisonRow:
    # Folds read what the fit on all images has run.
    needs_folder = task.cv is not None and clf.cache_dir is None
    folder = tempfile.TemporaryDirectory() if needs_folder else nullcontext(clf.cache_dir)
    with folder as cache_dir:
        clf.set_params(cache_dir=cache_dir)
        progress.set_description(f"{name}: {_STEPS[0]}")
        start = time.perf_counter()
        clf.fit(task.X, task.labels)
        fit_seconds = time.perf_counter() - start
        progress.update()
        progress.set_description(f"{name}: {_STEPS[1]}")
        X, labels = task.judged
        report = evaluate(clf, X, labels, cv=task.cv, confidence_level=task.confidence_level)
        progress.update()
        progress.set_description(f"{name}: {_STEPS[2]}")
        source = reopen_images(X, clf.image_shape_, clf.pixel_range_)
        return ComparisonRow(
            name,
            report,
            fit_seconds=fit_seconds,
            extraction_images_per_second=_measure_rate(clf.backbone_, source, clf.batch_size),
            prediction_images_per_second=_measure_rate(clf.model_, source, clf.batch_size),
            single_image_milliseconds=1000 / _measure_rate(clf.model_, source, 1),
            n_parameters=clf.model_.count_params(),
            file_bytes=_measure_file(clf.model_),
        )


def _measure_rate(model: keras.Model, source: ImageSource, batch_size: int) -> float:
    """Return images a second: the median over batches, after one that is not counted."""
    n_images = min(len(source), batch_size)
    batch = source.take(np.arange(n_images))
    seconds: list[float] = []
    n_rounds = math.ceil(_TIMED_IMAGES / n_images) if n_images > 1 else 20
    for number in range(n_rounds + 1):
        start = time.perf_counter()
        for _ in run_batches(model, batch, batch_size=n_images):
            pass
        seconds += [time.perf_counter() - start] if number else []
        if sum(seconds) > _TIMED_SECONDS:
            break
    return n_images / statistics.median(seconds)


def _measure_file(model: keras.Model) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.stat().st_size
