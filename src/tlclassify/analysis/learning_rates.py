"""Find the learning rate at which a stage should begin."""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from tlclassify._checks.parameters import check_choice, number_problem, raise_problems
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.training.loop import Examples, run_stage
from tlclassify.training.preparation import prepare_fit
from tlclassify.training.stages import resolve_stage

__all__ = ["LearningRateSearch", "find_learning_rate"]

_SMOOTHING = 0.9
_HOPELESS = 4.0
_N_STEPS_AT_LEAST = 10


@dataclass(frozen=True)
class LearningRateSearch:
    """The loss of one batch after another at ever higher learning rates.

    Parameters
    ----------
    learning_rates : ndarray of shape (n_steps,), float
        Growing by the same factor from step to step.
    losses : ndarray of shape (n_steps,), float
        Smoothed exponentially.
    suggestion : float
        A tenth of the highest learning rate at which the loss was no higher than its median.
    """

    learning_rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    suggestion: float


class _Ramp(keras.callbacks.Callback):  # type: ignore[misc]
    """Raise the learning rate with every batch and note the loss."""

    def __init__(self, rates: NDArray[np.float64], training: Examples) -> None:
        super().__init__()
        self._rates = rates
        self._training = training
        self._mean = 0.0
        self.losses: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._sum, self._n_seen = 0.0, 0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.model.optimizer.learning_rate = self._rates[len(self.losses)]

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        # Keras tells the mean over the images of the epoch so far.
        n_seen = min((batch + 1) * self._training.batch_size, len(self._training.rows))
        total = float((logs or {})["loss"]) * n_seen
        loss = (total - self._sum) / (n_seen - self._n_seen)
        self._sum, self._n_seen = total, n_seen
        if np.isfinite(loss):
            self._mean = _SMOOTHING * self._mean + (1 - _SMOOTHING) * loss
            self.losses.append(self._mean / (1 - _SMOOTHING ** (len(self.losses) + 1)))
        hopeless = len(self.losses) > _N_STEPS_AT_LEAST and (
            self.losses[-1] > _HOPELESS * min(self.losses)
        )
        if len(self.losses) == len(self._rates) or hopeless or not np.isfinite(loss):
            self.model.stop_training = True


def find_learning_rate(
    clf: TransferClassifier,
    X: Any,
    y: ArrayLike,
    *,
    stage: str | None = None,
    low: float = 1e-6,
    high: float = 1.0,
    n_steps: int = 100,
) -> LearningRateSearch:
    """Train a copy of a classifier at ever higher learning rates and see where the loss rises.

    The stages before the one in question are run as they are.

    Parameters
    ----------
    clf : TransferClassifier
        Never changed; whether it is fitted makes no difference.
    X, y
        As in `TransferClassifier.fit`.
    stage : {"head", "fine_tune"}, optional
        None: the classifier's last.
    low, high : float, default 1e-6 and 1.0
        The learning rates at the first step and at the last.
    n_steps : int, default 100
        Steps at most; the search ends where the loss is four times its lowest.

    Returns
    -------
    LearningRateSearch

    References
    ----------
    L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017.

    Examples
    --------
    >>> from tlclassify import TransferClassifier
    >>> from tlclassify.datasets import make_shapes
    >>> from tlclassify.analysis.learning_rates import find_learning_rate
    >>> X, y = make_shapes(120, random_state=0)
    >>> clf = TransferClassifier("mobilenet_micro", random_state=0)
    >>> search = find_learning_rate(clf, X, y, n_steps=50)
    >>> 1e-6 < search.suggestion < 1
    True
    """
    raise_problems(
        [
            number_problem("low", low, low=0, low_included=False),
            number_problem("high", high, low=low, low_included=False),
            number_problem("n_steps", n_steps, integer=True, low=_N_STEPS_AT_LEAST),
        ]
    )
    fit = prepare_fit(clone(clf), X, y)
    name = check_choice("stage", stage or list(fit.stages)[-1], tuple(fit.stages))
    for earlier in list(fit.stages)[: list(fit.stages).index(name)]:
        fit.train(earlier, fit.prepare(earlier))
    prepared = fit.prepare(name)
    rates = np.geomspace(low, high, n_steps)
    ramp = _Ramp(rates, prepared.training)
    ramped = resolve_stage(fit.stages[name]).set_params(
        epochs=math.ceil(n_steps / len(prepared.training)),
        learning_rate=float(low),
        schedule="constant",
        patience=None,
    )
    with warnings.catch_warnings():
        # A loss that is no longer finite is one of the ways in which a search ends.
        warnings.filterwarnings("ignore", message="stage .* ended", category=UserWarning)
        run_stage(
            replace(prepared, stage=ramped, validation=None, steps_per_execution=1),
            name=name,
            history=[],
            trained_before=True,
            callbacks=[ramp],
        )
    losses = np.array(ramp.losses)
    rates = rates[: len(losses)]
    # Not the lowest loss: after a trained head, that is an accident of some early batch.
    highest = rates[losses <= np.median(losses)][-1]
    return LearningRateSearch(rates, losses, float(highest) / 10)
