"""Several backbones on one task: which one, how much better, and at what price."""

import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from tlclassify._checks.files import show_progress
from tlclassify._checks.parameters import number_problem, raise_problems
from tlclassify.activations.run import run_batches
from tlclassify.analysis.comparison_task import Task, open_task
from tlclassify.analysis.evaluate import evaluate
from tlclassify.engines.runners import Runner
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.evaluation.comparison import Comparison, ComparisonRow, compare_reports
from tlclassify.evaluation.text import short_name
from tlclassify.inputs.images import ImageSource, reopen_images
from tlclassify.inputs.splits import draw_seeds
from tlclassify.networks.backbones import Backbone, get_backbone

__all__ = ["compare_backbones"]

_STEPS = ("fit", "evaluate", "measure speed")
_TIMED_IMAGES, _TIMED_SECONDS = 512, 2.0
_REASON_WIDTH = 300
# What keeps a backbone from a task: weights, disk, network, memory, size, precision, packages.
_EXPECTED = (OSError, MemoryError, ValueError, FloatingPointError, OverflowError, ImportError)


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
    error_score: float | str = np.nan,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 1,
) -> Comparison:
    """Fit several backbones on one task and judge them by the same images.

    Parameters
    ----------
    names : sequence of str, Backbone or TransferClassifier; or mapping of str to these
        Registered backbones, or classifiers with settings of their own. A mapping names the rows.
    X, y : array-like
        Images and labels, as in `TransferClassifier.fit`.
    X_test, y_test : array-like, optional
        The images to judge by, and their labels.
    test_fraction : float in (0, 1), default 0.2
        The share of `X`, stratified by class, to judge by where there is no `X_test` and no `cv`.
    cv : int, scikit-learn splitter, iterable or None
        Folds: every image of `X` is judged by a classifier that has not seen it. Another fit, on
        all of `X`, is the one whose time is taken.
    classifier : TransferClassifier, optional
        The settings of rows given by name; by default ``TransferClassifier(random_state=...)``.
    cache_dir : path, optional
        Where activations and finished rows are kept, for the same call again, or after one that
        was killed. Rows whose settings have no lasting name (functions, `RandomState` objects)
        are fitted anew.
    confidence_level : float in (0, 1), default 0.95
        Of intervals and of differences.
    error_score : "raise" or np.nan, default np.nan
        NaN: a row that fails of what can be expected says why, and the others go on: missing
        weights or packages, no memory or disk, a setting that the backbone refuses (OSError,
        ImportError, MemoryError, ValueError), or a training that diverges (FloatingPointError).
        Other errors end the call; with "raise", all do.
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
    >>> compare_backbones(["mobilenet_micro"], X, y, random_state=0, verbose=0).best.name
    'mobilenet_micro'
    """
    fractions = {"test_fraction": test_fraction, "confidence_level": confidence_level}
    problems = [
        number_problem(name, value, low=0, high=1, low_included=False, high_included=False)
        for name, value in fractions.items()
    ]
    if error_score != "raise" and not (isinstance(error_score, float) and math.isnan(error_score)):
        problems.append(f"error_score must be 'raise' or np.nan; received {error_score!r}")
    raise_problems(problems)
    split_seed, seed = draw_seeds(random_state, 2)
    template = TransferClassifier(random_state=seed) if classifier is None else classifier
    classifiers = _name_rows(names, template, cache_dir=cache_dir, verbose=max(verbose - 1, 0))
    task = open_task(
        *(X, y, X_test, y_test),
        cv=cv,
        fraction=test_fraction,
        seed=split_seed,
        confidence_level=confidence_level,
        cache_dir=cache_dir,
    )
    rows: list[ComparisonRow] = []
    n_steps = len(_STEPS)
    with show_progress(len(classifiers) * n_steps, "", unit="step", verbose=verbose) as progress:
        for name, clf in classifiers.items():
            row = task.read_row(name, clf)
            try:
                rows.append(row or _measure_row(name, clf, task, progress))
            except Exception as error:
                if error_score == "raise" or not _is_expected(error):
                    raise
                reason = short_name(f"{type(error).__name__}: {error}", width=_REASON_WIDTH)
                rows.append(ComparisonRow(name, failure=reason))
            progress.update(len(rows) * n_steps - progress.n)
    return compare_reports(rows, confidence_level=confidence_level)


def _is_expected(error: Exception) -> bool:
    # No backend says MemoryError.
    words = f"{type(error).__name__} {error}".replace("_", "").lower()
    return isinstance(error, _EXPECTED) or "resourceexhausted" in words


def _name_rows(
    names: Any, template: TransferClassifier, *, cache_dir: str | Path | None, verbose: int
) -> dict[str, TransferClassifier]:
    if isinstance(names, str) or not isinstance(names, Mapping | Sequence):
        names = [names]
    given = names if isinstance(names, Mapping) else dict(enumerate(names))
    if not given:
        raise ValueError("names must hold at least one backbone; received none.")
    classifiers: dict[str, TransferClassifier] = {}
    for key, part in given.items():
        clf = clone(part if isinstance(part, TransferClassifier) else template)
        if not isinstance(part, TransferClassifier):
            clf.set_params(backbone=part)
        row = get_backbone(clf.backbone)
        clf.set_params(cache_dir=clf.cache_dir or cache_dir, verbose=verbose)
        name = str(key) if isinstance(names, Mapping) else row.name
        copies = sum(other.partition(" #")[0] == name for other in classifiers)
        classifiers[f"{name} #{copies + 1}" if copies else name] = clf
    return classifiers


def _measure_row(name: str, clf: TransferClassifier, task: Task, progress: Any) -> ComparisonRow:
    # Folds read what the fit on all images has run.
    needs_folder = task.folds is not None and clf.cache_dir is None
    folder = tempfile.TemporaryDirectory() if needs_folder else nullcontext(clf.cache_dir)
    with folder as cache_dir, tempfile.TemporaryDirectory() as scratch:
        clf.set_params(cache_dir=cache_dir)
        progress.set_description(f"{name}: {_STEPS[0]}")
        start = time.perf_counter()
        clf.fit(task.X, task.labels)
        fit_seconds = time.perf_counter() - start
        progress.update()
        progress.set_description(f"{name}: {_STEPS[1]}")
        level = task.confidence_level
        report = evaluate(clf, task.X_test, task.labels_test, cv=task.folds, confidence_level=level)
        progress.update()
        progress.set_description(f"{name}: {_STEPS[2]}")
        source = reopen_images(task.X_test, clf.image_shape_, clf.pixel_range_)
        whole, frozen = (Runner(network, clf.engine) for network in (clf.model_, clf.backbone_))
        file = Path(scratch) / "model.keras"
        clf.model_.save(file)
        row = ComparisonRow(
            name,
            report,
            fit_seconds=fit_seconds,
            extraction_images_per_second=_measure_rate(frozen, source, clf.batch_size),
            prediction_images_per_second=_measure_rate(whole, source, clf.batch_size),
            single_image_milliseconds=1000 / _measure_rate(whole, source, 1),
            n_parameters=clf.model_.count_params(),
            file_bytes=file.stat().st_size,
        )
    task.keep_row(clf, row)
    return row


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
