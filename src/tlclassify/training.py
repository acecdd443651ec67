"""A stage of training as parameters, and the one function that trains."""

import math
import time
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from tqdm.auto import tqdm

from tlclassify._validation import check_choice, number_problem, raise_problems
from tlclassify.tensorflow_logs import without_retracing_notes

__all__ = ["Stage", "check_stage", "run_stage"]

_OPTIMIZERS = {
    "adamw": keras.optimizers.AdamW,
    "adam": keras.optimizers.Adam,
    "sgd": keras.optimizers.SGD,
}
_SCHEDULES = ("plateau", "constant")
_PLATEAU = {"patience": 2, "factor": 0.2}
_N_LOWER_RATES = 2
_IMPROVEMENT = 1e-3
_ADAMW_WEIGHT_DECAY = 1.0
_PROGRESS_DELAY_SECONDS = 1.0


class Stage(BaseEstimator):  # type: ignore[misc]
    """One training run: how long and how fast.

    Parameters
    ----------
    epochs : int, default 100
        Passes over the training images at most; `patience` usually ends a stage earlier.
    learning_rate : float, default 2e-3
        At the start.
    schedule : {"plateau", "constant"}, default "plateau"
        "plateau": after 2 epochs without improvement the learning rate falls to a fifth, twice
        at most.
    batch_size : int, default 256
        Images per step of the optimizer.
    optimizer : {"adamw", "adam", "sgd"}, default "adamw"
        By Keras's names; "sgd" has momentum 0.9.
    weight_decay : float, optional
        Decoupled: each step takes `learning_rate` times this share of every kernel; biases and
        batch normalisation are left alone. None: 1.0 with "adamw", whose steps then keep
        weights below about 1 at any learning rate; 0.0 with the others.
    patience : int or None, default 5
        Epochs without improvement after which the stage ends; None: all epochs are run. The
        best epoch's weights are kept either way. An improvement is a validation loss (training
        loss where there is no validation) lower by more than 0.001.

    Examples
    --------
    >>> from tlclassify import Stage
    >>> Stage(epochs=20, learning_rate=3e-3)
    Stage(epochs=20, learning_rate=0.003)
    """

    def __init__(
        self,
        epochs: int = 100,
        *,
        learning_rate: float = 2e-3,
        schedule: str = "plateau",
        batch_size: int = 256,
        optimizer: str = "adamw",
        weight_decay: float | None = None,
        patience: int | None = 5,
    ) -> None:
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.patience = patience


def check_stage(stage: Any, *, name: str) -> Stage:
    """Return a stage whose parameters are valid.

    Raises
    ------
    TypeError
        If it is no Stage.
    ValueError
        If parameters are not valid; all of them are listed.
    """
    if not isinstance(stage, Stage):
        raise TypeError(f"{name} must be a Stage; received {type(stage).__name__}.")
    problems = [
        number_problem(f"{name}__epochs", stage.epochs, integer=True, low=1),
        number_problem(f"{name}__learning_rate", stage.learning_rate, low=0, low_included=False),
        number_problem(f"{name}__batch_size", stage.batch_size, integer=True, low=1),
    ]
    if stage.weight_decay is not None:
        problems.append(number_problem(f"{name}__weight_decay", stage.weight_decay, low=0))
    if stage.patience is not None:
        problems.append(number_problem(f"{name}__patience", stage.patience, integer=True, low=1))
    for choice, allowed in (("optimizer", tuple(_OPTIMIZERS)), ("schedule", _SCHEDULES)):
        try:
            check_choice(f"{name}__{choice}", getattr(stage, choice), allowed)
        except ValueError as error:
            problems.append(str(error).rstrip("."))
    raise_problems(problems)
    return stage


class Examples(keras.utils.PyDataset):  # type: ignore[misc]
    """Features, targets and weights in batches; with a seed, shuffled anew every epoch.

    Parameters
    ----------
    features : ndarray of shape (n, ...)
    targets : ndarray of shape (n,), int
    sample_weight : ndarray of shape (n,), optional
    batch_size : int
    rows : ndarray of int, optional
        The rows of `features` and the others that belong to these examples.
    seed : int, optional
        None: the order stays as it is.
    """

    def __init__(
        self,
        features: NDArray[Any],
        targets: NDArray[Any],
        *,
        batch_size: int,
        sample_weight: NDArray[Any] | None = None,
        rows: NDArray[np.intp] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.targets = targets
        self.sample_weight = sample_weight
        self.batch_size = batch_size
        self.rows = np.arange(len(targets)) if rows is None else rows
        self._rng = None if seed is None else np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, number: int) -> tuple[NDArray[Any], ...]:
        """Return one batch."""
        rows = self.rows[number * self.batch_size : (number + 1) * self.batch_size]
        batch = (self.features[rows], self.targets[rows])
        return batch if self.sample_weight is None else (*batch, self.sample_weight[rows])

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        if self._rng is not None:
            self.rows = self._rng.permutation(self.rows)


class _Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    """Keep a row of history per epoch and show the progress."""

    def __init__(self, name: str, epochs: int, verbose: int) -> None:
        super().__init__()
        self.history: list[dict[str, Any]] = []
        self._name = name
        self._bar = tqdm(
            total=epochs,
            desc=f"training: {name}",
            unit="epoch",
            disable=not verbose,
            delay=_PROGRESS_DELAY_SECONDS,
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = {"stage": self._name, "epoch": epoch + 1}
        row |= {key: float(value) for key, value in (logs or {}).items()}
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        row |= {"learning_rate": float(rate), "seconds": time.perf_counter() - self._start}
        self.history.append(row)
        shown = {key: f"{row[key]:.3f}" for key in ("loss", "val_accuracy") if key in row}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._bar.close()


def run_stage(
    model: keras.Model,
    stage: Stage,
    *,
    name: str,
    training: Examples,
    validation: Examples | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> list[dict[str, Any]]:
    """Train a model in place and leave it with the weights of its best epoch.

    Parameters
    ----------
    model : keras.Model
        From what `training` holds to class probabilities.
    stage : Stage
    name : str
        The stage's name in the history.
    training, validation : Examples
    callbacks : sequence of keras.callbacks.Callback
        The user's own.
    verbose : int, default 0
        1 shows a progress bar for work of more than a second.

    Returns
    -------
    list of dict
        One row an epoch: stage, epoch (from 1), loss, accuracy, val_loss, val_accuracy,
        learning_rate, seconds; the val_ entries only where there is validation.

    Raises
    ------
    FloatingPointError
        If the loss was not finite in the first epoch.

    Warns
    -----
    UserWarning
        If it was not finite later: the stage then ended with the best epoch before.
    """
    optimizer = _build_optimizer(stage, model)
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    recorder = _Recorder(name, stage.epochs, verbose)
    watched = "loss" if validation is None else "val_loss"
    # The recorder comes before what changes the rate: it notes the one that an epoch was run at.
    own = [keras.callbacks.TerminateOnNaN(), recorder, *_watchers(stage, watched)]
    with without_retracing_notes():
        model.fit(
            training,
            validation_data=validation,
            epochs=stage.epochs,
            shuffle=False,
            verbose=0,
            callbacks=[*callbacks, *own],
        )
    _check_losses(recorder.history, name)
    return recorder.history


def _watchers(stage: Stage, watched: str) -> list[keras.callbacks.Callback]:
    """Return what keeps the best epoch, ends the stage and lowers the learning rate."""
    options: dict[str, Any] = {"monitor": watched, "mode": "min"}
    watchers = [
        keras.callbacks.EarlyStopping(**options, patience=stage.epochs, restore_best_weights=True)
    ]
    options["min_delta"] = _IMPROVEMENT
    if stage.patience is not None:
        watchers.append(keras.callbacks.EarlyStopping(**options, patience=stage.patience))
    if stage.schedule == "plateau":
        lowest = stage.learning_rate * _PLATEAU["factor"] ** _N_LOWER_RATES
        watchers.append(keras.callbacks.ReduceLROnPlateau(**options, **_PLATEAU, min_lr=lowest))
    return watchers


def _build_optimizer(stage: Stage, model: keras.Model) -> keras.optimizers.Optimizer:
    decay = stage.weight_decay
    if decay is None:
        decay = _ADAMW_WEIGHT_DECAY if stage.optimizer == "adamw" else 0.0
    options: dict[str, Any] = {"momentum": 0.9} if stage.optimizer == "sgd" else {}
    # AdamW demands a number; the others pay for a decay of 0.0 in every step.
    if decay or stage.optimizer == "adamw":
        options["weight_decay"] = decay
    optimizer = _OPTIMIZERS[stage.optimizer](stage.learning_rate, **options)
    if decay:
        vectors = [variable for variable in model.trainable_variables if len(variable.shape) < 2]
        optimizer.exclude_from_weight_decay(var_list=vectors)
    return optimizer


def _check_losses(history: list[dict[str, Any]], name: str) -> None:
    finite = [np.isfinite(row["loss"]) for row in history]
    if all(finite):
        return
    if not finite[0]:
        raise FloatingPointError(
            f"stage {name!r} diverged in its first epoch: its loss was not finite. Lower its "
            "learning_rate."
        )
    warnings.warn(
        f"stage {name!r} ended in epoch {len(history)} because its loss was not finite; the best "
        "weights before that are kept. Lower its learning_rate.",
        stacklevel=3,
    )
