"""A user's callbacks, told of all stages as of one training of the whole model."""

import copy
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tlclassify.networks.cuts import note_training
from tlclassify.training.loop import LOSS

_PARTS_OF_A_MODEL = (keras.layers.Layer, keras.Variable, keras.optimizers.Optimizer)


class WholeFit(keras.callbacks.CallbackList):  # type: ignore[misc]
    """Tell callbacks of all stages as of one training, with the whole model, until `close`."""

    def __init__(
        self, callbacks: Sequence[keras.callbacks.Callback], whole: keras.Model, *, n_epochs: int
    ) -> None:
        self._before = [dict(vars(callback)) for callback in callbacks]
        self._whole = whole
        self._part = keras.callbacks.Callback()
        self._n_epochs, self._n_done = n_epochs, 0
        self._has_begun = False
        self._logs: dict[str, Any] | None = None
        super().__init__(callbacks)

    def set_params(self, params: dict[str, Any]) -> None:
        """Tell how many epochs all stages have, instead of this one."""
        super().set_params(params | {"epochs": self._n_epochs} if params else params)

    def set_model(self, model: keras.Model | None) -> None:
        """Compile the whole as the part that a stage trains, and make it the callbacks' model."""
        if model is None:
            return
        self._part.set_model(model)
        # The optimizer scales the loss already, where the policy of precision asks for it.
        self._whole.compile(model.optimizer, loss=LOSS, metrics=["accuracy"], auto_scale_loss=False)
        if not self._has_begun:
            super().set_model(self._whole)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Tell of the first stage's beginning alone."""
        if not self._has_begun:
            super().on_train_begin(logs)
        self._has_begun = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Tell nothing, because another stage may follow."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Tell the epoch's number over all stages."""
        super().on_epoch_begin(self._n_done, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Tell the epoch's number over all stages, and end the stage where a callback says so."""
        part = self._part.model
        super().on_epoch_end(self._n_done, logs)
        part.stop_training |= self._whole.stop_training
        self._logs = logs
        self._n_done += 1

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Tell of the batch, and end the stage where a callback says so."""
        # With JAX, asking for the part brings the variables up to date that both share.
        part = self._part.model
        note_training()
        super().on_train_batch_end(batch, logs)
        part.stop_training |= self._whole.stop_training

    def close(self) -> None:
        """Say that training has ended, and leave no files, writers and models in the callbacks."""
        try:
            if self._has_begun:
                super().on_train_end(self._logs)
        finally:
            for callback, before in zip(self.callbacks, self._before, strict=True):
                items = list(vars(callback).items())
                vars(callback).clear()
                vars(callback).update(before)
                kept = {name: x for name, x in items if self._can_stay(x, before.get(name))}
                vars(callback).update(kept)

    def _can_stay(self, value: Any, before: Any) -> bool:
        """Return whether it is as it was, or can be copied and is no model or its weights."""
        if value is before:
            return True
        parts = keras.tree.flatten(value)
        if any(isinstance(p, _PARTS_OF_A_MODEL) or keras.ops.is_tensor(p) for p in parts):
            return False
        shapes = [tuple(weight.shape) for weight in self._whole.weights]
        if [np.shape(part) for part in parts if isinstance(part, np.ndarray)] == shapes:
            return False
        try:
            copy.deepcopy(value)
        except Exception:  # noqa: BLE001 - objects refuse by whatever they like
            return False
        return True
