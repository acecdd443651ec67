"""Find the learning rate at which a stage should begin."""

import math
import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from tlclassify._checks.parameters import Interval, check_choice, check_parameters, check_type
from tlclassify._checks.tables import Part, shown_by
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.evaluation.text import draw_with
from tlclassify.training.loop import run_stage
from tlclassify.training.preparation import prepare_fit

_SMOOTHING = 0.9
_HOPELESS = 4.0
_N_STEPS_AT_LEAST = 10


def _describe(search: "LearningRateSearch") -> list[Part]:
    low, high = search.learning_rates[[0, -1]]
    steps = f"{len(search.losses)} steps from {low:.2g} to {high:.2g}"
    return [f"suggested learning rate {search.suggestion:.2g} (of {steps})"]


@shown_by(_describe, draw=partial(draw_with, "LearningRateDisplay.from_search"))
@dataclass(frozen=True)
class LearningRateSearch:
    """The loss of one batch after another at ever higher learning rates.

    Parameters
    ----------
    learning_rates, losses : ndarray of shape (n_steps,), float64
        The rates grow by the same factor from step to step; the losses are smoothed exponentially.
    suggestion : float
        A tenth of the highest learning rate at which the loss was no higher than its median.
    """

    learning_rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    suggestion: float


class _Ramp(keras.callbacks.Callback):  # type: ignore[misc]
    """Raise the learning rate with every batch and note the loss, smoothed exponentially."""

    def __init__(self, rates: NDArray[np.float64]) -> None:
        super().__init__()
        self.losses: list[float] = []
        self._rates = rates
        self._mean = 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        # Keras then tells the loss of this batch, not the mean of the epoch so far.
        self.model.reset_metrics()
        self.model.optimizer.learning_rate = self._rates[len(self.losses)]

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        loss = float((logs or {})["loss"])
        if np.isfinite(loss):
            self._mean = _SMOOTHING * self._mean + (1 - _SMOOTHING) * loss
            self.losses.append(self._mean / (1 - _SMOOTHING ** (len(self.losses) + 1)))
        n_steps = len(self.losses)
        hopeless = n_steps > _N_STEPS_AT_LEAST and self.losses[-1] > _HOPELESS * min(self.losses)
        if n_steps == len(self._rates) or hopeless or not np.isfinite(loss):
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
    """Train a copy of a classifier at ever higher learning rates and see where the loss rises [1]_.

    Parameters
    ----------
    clf : TransferClassifier
        Never changed; whether it is fitted makes no difference.
    X, y : array-like
        Images and labels, as in `TransferClassifier.fit`.
    stage : {"head", "fine_tune"}, optional
        By default the classifier's last. Stages before it are run as they are.
    low, high : float, the learning rates at the first step and at the last
    n_steps : int
        Steps at most; the search ends where the loss is four times its lowest, or not finite.

    Raises
    ------
    ValueError, TypeError
        If parameters, images or labels are not as above.
    FloatingPointError
        If the first loss is not finite.

    References
    ----------
    .. [1] L. N. Smith (2017), Cyclical learning rates for training neural networks, WACV.

    Examples
    --------
    >>> from tlclassify import Stage, TransferClassifier, find_learning_rate
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(120, random_state=0)
    >>> clf = TransferClassifier("mobilenet_micro", head_stage=Stage(), random_state=0)
    >>> 1e-6 < find_learning_rate(clf, X, y, n_steps=50).suggestion < 1
    True
    """
    check_parameters(
        ("low", low, Interval(0, closed="right")),
        ("high", high, Interval(low, closed="right")),
        ("n_steps", n_steps, Interval(_N_STEPS_AT_LEAST, integer=True)),
    )
    check_type("clf", clf, TransferClassifier, "a TransferClassifier")
    fit = prepare_fit(clone(clf).set_params(callbacks=None), X, y)
    if not fit.stages:
        raise ValueError(
            "clf must have a stage with epochs; received one whose head is solved exactly, which "
            "has no learning rate. Set head_stage=Stage() or fine_tune_stage."
        )
    names = list(fit.stages)
    name = check_choice("stage", stage or names[-1], names)
    fit.run(until=name)
    prepared, rates = fit.prepare(name), np.geomspace(low, high, n_steps)
    ramp, n_epochs = _Ramp(rates), math.ceil(n_steps / len(prepared.training))
    ramped = clone(prepared.stage).set_params(
        epochs=n_epochs, learning_rate=float(low), schedule="constant", patience=None
    )
    ramped_part = replace(prepared, stage=ramped, validation=None, n_steps=1)
    with warnings.catch_warnings():
        # A loss that is no longer finite is one of the ways in which a search ends.
        warnings.filterwarnings("ignore", message="stage .* ended", category=UserWarning)
        run_stage(ramped_part, name=name, history=[], trained_before=True, callbacks=[ramp])
    if not ramp.losses:
        raise FloatingPointError(
            f"the loss of stage {name!r} is not finite at the first step, before anything is "
            "learnt, so no learning rate can help. See whether the head gives probabilities and "
            "the weights are finite."
        )
    losses, rates = np.array(ramp.losses), rates[: len(ramp.losses)]
    # Not the lowest loss: after a trained head, that is an accident of some early batch.
    highest = float(rates[losses <= np.median(losses)][-1])
    return LearningRateSearch(rates, losses, highest / 10)
