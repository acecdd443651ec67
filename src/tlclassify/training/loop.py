"""The one function that trains."""

import time
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from tqdm.auto import tqdm

from tlclassify.networks.fingerprints import note_training
from tlclassify.networks.graphs import without_retracing_notes
from tlclassify.training.batches import Examples
from tlclassify.training.optimizers import build_optimizer
from tlclassify.training.stages import Stage, resolve_stage

_PLATEAU = {"patience": 2, "factor": 0.2}
_N_LOWER_RATES = 2
_IMPROVEMENT = 1e-3
_PLATEAU_ARTICLE = {"patience": 3, "factor": 0.01, "min_lr": 1e-5}
_PROGRESS_DELAY_SECONDS = 1.0


class _Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    """Keep a row of history per epoch and show the progress."""

    def __init__(self, history: list[dict[str, Any]], name: str, epochs: int, verbose: int) -> None:
        super().__init__()
        self._history = history
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
        self._history.append(row)
        shown = {key: f"{row[key]:.3f}" for key in ("loss", "val_accuracy") if key in row}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def close(self) -> None:
        """End the progress bar."""
        self._bar.close()


class _StopAtNaN(keras.callbacks.Callback):  # type: ignore[misc]
    """End the stage once a loss is not finite; Keras's own prints about it."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if not np.isfinite((logs or {}).get("loss", 0.0)):
            self.model.stop_training = True


class _Announcer(keras.callbacks.Callback):  # type: ignore[misc]
    """Tell engines that weights are others by now: another callback may predict with them."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        note_training()


class _BestEpoch(keras.callbacks.Callback):  # type: ignore[misc]
    """Keep the weights of the best epoch so far; before the first, those that there were.

    Variables rather than weights: with JAX, a `fit` that is interrupted leaves none of them behind,
    the states of dropout included.
    """

    def __init__(self, variables: Sequence[keras.Variable], watched: str) -> None:
        super().__init__()
        self._variables = variables
        self._watched = watched
        self.lowest = np.inf
        self._values = self._copy()

    def _copy(self) -> list[Any]:
        return [np.array(keras.ops.convert_to_numpy(variable)) for variable in self._variables]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        value = (logs or {}).get(self._watched, np.inf)
        if value < self.lowest:
            # Asking for the model brings its variables up to date.
            assert self.model is not None
            self.lowest, self._values = value, self._copy()

    def restore(self) -> None:
        """Put the values back."""
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)


def run_stage(
    model: keras.Model,
    stage: Stage,
    *,
    name: str,
    training: Examples,
    validation: Examples | None = None,
    history: list[dict[str, Any]],
    variables: Sequence[keras.Variable] | None = None,
    trained_before: bool = False,
    rate_factors: Sequence[float] | None = None,
    steps_per_execution: int = 1,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> None:
    """Train a model in place and leave it with the weights of its best epoch.

    Interrupted by Ctrl-C, it is left so too.

    Parameters
    ----------
    model : keras.Model
        From what `training` holds to class probabilities.
    stage : Stage
    name : str
        The stage's name in the history.
    training, validation : Examples
    history : list of dict
        Gets one row an epoch: stage, epoch (from 1), loss, accuracy, val_loss, val_accuracy,
        learning_rate, seconds; the val_ entries only where there is validation.
    variables : sequence of keras.Variable, optional
        What the best epoch is made of; by default all variables of the model.
    trained_before : bool, default False
        Whether the model's weights are worth keeping. With validation, its loss is then measured
        first, and they are kept if no epoch has a lower one.
    rate_factors : sequence of float, optional
        What the learning rate of each trainable variable is multiplied by.
    steps_per_execution : int, default 1
        Steps that Keras takes at once; more than 1 pays where a step is short.
    callbacks : sequence of keras.callbacks.Callback
        The user's own.
    verbose : int, default 0
        1 shows a progress bar for work of more than a second.

    Raises
    ------
    FloatingPointError
        If the loss was not finite in the first epoch of a model that had not been trained.

    Warns
    -----
    UserWarning
        If it was not finite later: the best weights before that are kept.
    """
    stage = resolve_stage(stage)
    optimizer = build_optimizer(
        stage,
        model.trainable_variables,
        n_steps=stage.epochs * len(training),
        rate_factors=rate_factors,
    )
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=stage.label_smoothing)
    model.compile(
        optimizer, loss=loss, metrics=["accuracy"], steps_per_execution=steps_per_execution
    )
    recorder = _Recorder(history, name, stage.epochs, verbose)
    n_before = len(history)
    watched = "loss" if validation is None else "val_loss"
    best = _BestEpoch(model.variables if variables is None else variables, watched)
    # The recorder comes before what changes the rate or takes time of its own.
    own = [_Announcer(), _StopAtNaN(), recorder, best]
    try:
        with without_retracing_notes():
            if trained_before and validation is not None:
                best.lowest = model.evaluate(validation, verbose=0, return_dict=True)["loss"]
            model.fit(
                training,
                validation_data=validation,
                epochs=stage.epochs,
                shuffle=False,
                verbose=0,
                callbacks=[*own, *callbacks, *_watchers(stage, validation)],
            )
    finally:
        recorder.close()
        best.restore()
        note_training()
    _check_losses(history[n_before:], name, trained_before=trained_before)


def _watchers(stage: Stage, validation: Examples | None) -> list[keras.callbacks.Callback]:
    """Return what ends the stage and what lowers the learning rate."""
    prefix = "" if validation is None else "val_"
    options: dict[str, Any] = {
        "monitor": f"{prefix}loss",
        "mode": "min",
        "min_delta": _IMPROVEMENT,
    }
    watchers = []
    if stage.patience is not None:
        watchers.append(keras.callbacks.EarlyStopping(**options, patience=stage.patience))
    if stage.schedule == "plateau":
        lowest = stage.learning_rate * _PLATEAU["factor"] ** _N_LOWER_RATES  # type: ignore[operator]
        watchers.append(keras.callbacks.ReduceLROnPlateau(**options, **_PLATEAU, min_lr=lowest))
    elif stage.schedule == "plateau_article":
        monitor = f"{prefix}accuracy"
        watchers.append(
            keras.callbacks.ReduceLROnPlateau(monitor=monitor, mode="max", **_PLATEAU_ARTICLE)
        )
    return watchers


def _check_losses(history: list[dict[str, Any]], name: str, *, trained_before: bool) -> None:
    finite = [np.isfinite(row["loss"] + row.get("val_loss", 0.0)) for row in history]
    if all(finite):
        return
    if not finite[0] and not trained_before:
        raise FloatingPointError(
            f"stage {name!r} diverged in its first epoch: its loss was not finite. Lower its "
            "learning_rate."
        )
    warnings.warn(
        f"stage {name!r} ended in epoch {len(history)} because its loss was not finite; the best "
        "weights before that are kept. Lower its learning_rate.",
        stacklevel=2,
    )
