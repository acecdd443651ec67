"""Will more labels help? Accuracy against labelled images a class, from stored activations."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from tlclassify._checks.parameters import (
    COUNT,
    SHARE,
    Interval,
    check_parameters,
    check_type,
    listed,
    show_progress,
)
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.evaluation.learning_curve import LearningCurve
from tlclassify.inputs.splits import Task, check_weights, draw_seeds, open_task
from tlclassify.training.fit import Fit
from tlclassify.training.preparation import choose_head, prepare_fit

# The last of them gives way to the largest size where that is hardly more.
_SIZES = np.ravel(np.outer(10 ** np.arange(7), (1, 2, 5)))
_HARDLY_MORE = 1.25


@dataclass(frozen=True)
class _Draw:
    """Rows of X in the order in which they are taken, those of each class, and those held out."""

    by_class: list[NDArray[np.intp]]
    held_out: NDArray[np.intp]

    def take(self, size: int) -> NDArray[np.intp]:
        """Return the rows of the first images of each class."""
        return np.concatenate([rows[:size] for rows in self.by_class])


def learning_curve(
    clf: TransferClassifier,
    X: Any,
    y: ArrayLike,
    *,
    X_test: Any = None,
    y_test: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    train_sizes: Sequence[int] | None = None,
    n_draws: int = 5,
    test_fraction: float = 0.2,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
    verbose: int = 1,
) -> LearningCurve:
    """Fit a classifier on ever more images of each class, and say what still more would give.

    No image is run through the frozen part twice. Where the head is solved and nothing comes after
    it, a fit takes a fraction of a second; other classifiers are cloned and fitted for each size
    and draw.

    Parameters
    ----------
    clf : TransferClassifier
        Never changed; whether it is fitted makes no difference.
    X, y, X_test, y_test, groups
        Images, labels, images to judge all draws by, and groups, as in `compare_backbones`.
    train_sizes : sequence of int, optional
        Images a class. By default 1, 2, 5, 10, 20, 50 and so on, and at last as many as the
        smallest class has beside its test share.
    n_draws : int
        How often images are drawn; a draw's smaller sizes are parts of its larger ones.
    test_fraction : float in (0, 1)
        The share of `X`, stratified by class, that each draw holds out to be judged by, where
        there is no `X_test`. Every draw holds out others, so that a few images do not decide.
    confidence_level : float in (0, 1), of intervals
    random_state : int, RandomState or None
        Seed of the draws. Fits have the classifier's own.
    verbose : int, 1 shows a progress bar, 0 is silent

    Raises
    ------
    ValueError, TypeError
        If the images, labels or settings are not as above.

    Examples
    --------
    >>> from tlclassify import TransferClassifier, learning_curve
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(120, random_state=0)
    >>> clf = TransferClassifier("mobilenet_micro", random_state=0, verbose=0)
    >>> curve = learning_curve(clf, X, y, n_draws=3, random_state=0, verbose=0)
    >>> curve.train_sizes.tolist()
    [1, 2, 5, 10, 20, 32]
    >>> bool(curve.mean_accuracies[0] < curve.mean_accuracies[-1])
    True
    """
    advice = "a TransferClassifier; pass the last step of a pipeline, or a search's best_estimator_"
    check_type("clf", clf, TransferClassifier, advice)
    check_type("verbose", verbose, int, "0 or 1")
    check_parameters(
        ("n_draws", n_draws, COUNT),
        ("test_fraction", test_fraction, SHARE),
        ("confidence_level", confidence_level, SHARE),
    )
    task = open_task(X, y, groups, X_test, y_test)
    draws = [_draw(task, test_fraction, seed) for seed in draw_seeds(random_state, n_draws)]
    sizes = _choose_sizes(train_sizes, draws, task.classes)
    judged_by = np.unique(np.concatenate([draw.held_out for draw in draws]))
    n_classes, n_test = len(task.classes), len(judged_by if X_test is None else task.labels_test)
    with tempfile.TemporaryDirectory() as scratch:
        own = clone(clf).set_params(cache_dir=clf.cache_dir or scratch, verbose=0)
        accuracies = _measure(own, task, draws, sizes, verbose=verbose)
    return LearningCurve(np.array(sizes), accuracies, n_test, n_classes, float(confidence_level))


def _draw(task: Task, fraction: float, seed: int) -> _Draw:
    """Hold images out, and put the others of each class in a random order."""
    targets = task.targets
    rows, held_out = task.hold_out(fraction if task.X_test is None else 0, seed)
    rows = np.random.default_rng(seed).permutation(rows)
    by_class = [rows[targets[rows] == number] for number in range(len(task.classes))]
    return _Draw(by_class, held_out)


def _choose_sizes(given: Any, draws: Sequence[_Draw], classes: NDArray[Any]) -> list[int]:
    """Return the sizes in order, checked or, if there are none, chosen."""
    counts = np.array([[len(rows) for rows in draw.by_class] for draw in draws]).min(axis=0)
    largest, smallest = int(counts.min()), classes[counts.argmin()].item()
    if given is None:
        return [*_SIZES[largest >= _SIZES * _HARDLY_MORE].tolist(), largest]
    sizes = list(given) if isinstance(given, Sequence | np.ndarray) else [given]
    wrong = [size for size in sizes if size not in Interval(1, largest, integer=True)]
    if wrong or not sizes or isinstance(given, str):
        beside = " beside its test share" if len(draws[0].held_out) else ""
        raise ValueError(
            f"train_sizes must hold integers from 1 to {largest}, which is what the smallest "
            f"class, {smallest!r}, has{beside}; received {listed(wrong) or 'none'}. "
            "Leave larger ones out, or add images of that class."
        )
    return sorted({int(size) for size in sizes})


def _measure(
    clf: TransferClassifier,
    task: Task,
    draws: Sequence[_Draw],
    sizes: Sequence[int],
    *,
    verbose: int,
) -> NDArray[np.float64]:
    """Return the accuracy of each size and draw, shape (n_sizes, n_draws)."""
    taken = [rows for draw in draws for rows in (draw.take(sizes[-1]), draw.held_out)]
    used = np.unique(np.concatenate(taken))
    whole = clone(clf).set_params(validation_fraction=0, verbose=verbose)
    part = task.take(used)
    test = None if task.X_test is None else (task.X_test, task.labels_test)
    fit = prepare_fit(whole, part.images, part.labels, validation=test)
    # What all fits read is run before, and so is what judges them.
    fit.store(fit.lowest)
    accuracies = np.empty((len(sizes), len(draws)))
    with show_progress(accuracies.size, "learning curve", unit="fit", verbose=verbose) as progress:
        for i, size in enumerate(sizes):
            head, is_solved = choose_head(clf, size * len(task.classes))
            alone = is_solved and clf.fine_tune_stage is None
            alone &= not (clf.validation_fraction or clf.predict_mirrored)
            for j, draw in enumerate(draws):
                rows, held_out = (
                    np.searchsorted(used, x) for x in (draw.take(size), draw.held_out)
                )
                if alone:
                    accuracies[i, j] = _solve(fit, head, clf.class_weight, rows, held_out)
                else:
                    drawn, others = part.take(rows), part.take(held_out)
                    fitted = clone(clf).fit(drawn.images, drawn.labels, groups=drawn.groups)
                    X_test, labels_test = test or (others.images, others.labels)
                    accuracies[i, j] = np.mean(fitted.predict(X_test) == labels_test)
                progress.update()
    return accuracies


def _solve(
    fit: Fit, head: Any, class_weight: Any, rows: NDArray[np.intp], held_out: NDArray[np.intp]
) -> float:
    """Return the accuracy of a head solved on some rows, from what is stored of all."""
    training, stored = fit.training.take(rows), fit.store(fit.features)
    weights = check_weights(None, class_weight, fit.classes[training.targets], fit.classes)
    # The first view is the image itself.
    *views, judged = stored if fit.validation else [*stored, stored[0].take(held_out)]
    part = replace(
        fit,
        head=head,
        training=replace(training, weights=weights),
        validation=fit.validation or fit.training.take(held_out),
        stages={},
        history=[],
        at_lowest=[*(view.take(rows) for view in views), judged],
    )
    part.solve()
    return float(part.history[-1]["val_accuracy"])
