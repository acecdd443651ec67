"""What an epoch of training reads, and the one function that trains."""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.parameters import show_progress
from tlclassify.engines.runners import fill_up, round_up
from tlclassify.inputs.augmentation import Augmentation, fresh_views, no_views
from tlclassify.inputs.images import ImageSource
from tlclassify.training.stages import OPTIMIZERS, Stage, build_callbacks

LOSS = "categorical_crossentropy"
_WARMUP_FRACTION = 0.1


@dataclass(frozen=True)
class StoredInputs:
    """What is read at a cut: one of each image's stored views, or that view's row in a table."""

    views: Sequence[NDArray[Any]]

    def draw(self, rows: NDArray[np.intp], rng: np.random.Generator | None) -> NDArray[Any]:
        """Return the outputs of the given images in a view drawn for each; without rng, view 0."""
        if rng is None or len(self.views) == 1:
            return self.views[0][rows]
        drawn = rng.integers(len(self.views), size=len(rows))
        batch = np.empty((len(rows), *self.views[0].shape[1:]), self.views[0].dtype)
        for number, view in enumerate(self.views):
            batch[drawn == number] = view[rows[drawn == number]]
        return batch


@dataclass(frozen=True)
class ImageInputs:
    """Images, in fresh views of the given (height, width) unless `augmentation` is None."""

    images: ImageSource
    augmentation: Augmentation | None
    image_size: Sequence[int]

    def draw(self, rows: NDArray[np.intp], rng: np.random.Generator | None) -> Any:
        """Return images and a fresh view for each; without rng, view 0."""
        images = self.images.take(rows).read(0, len(rows))
        if self.augmentation is None:
            return images
        if rng is None:
            return images, no_views(len(rows))
        return images, fresh_views(self.augmentation, rng, len(rows), image_size=self.image_size)


Inputs = StoredInputs | ImageInputs


@dataclass(eq=False, repr=False)
class Examples(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of inputs, probabilities to be learnt and weights; shuffled where there is a seed."""

    inputs: Inputs
    targets: NDArray[np.intp]
    _: KW_ONLY
    n_classes: int
    batch_size: int
    sample_weight: NDArray[np.float32] | None = None
    label_smoothing: float = 0.0
    mixing: Augmentation | None = None
    seed: int | None = None  # without one every image is in its view 0
    n_devices: int = 1  # among which each batch is divided

    def __post_init__(self) -> None:
        super().__init__()
        self.rows = np.arange(len(self.targets))
        self._epoch = -1
        self.on_epoch_end()

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        """Return one batch."""
        rows = self.rows[number * self.batch_size : (number + 1) * self.batch_size]
        rng = None
        if self.seed is not None:
            # Of its own, so that a batch is the same whenever and however often it is asked for.
            rng = np.random.default_rng((self.seed, self._epoch, number))
        inputs = self.inputs.draw(rows, rng)
        of_each = self.label_smoothing / self.n_classes
        targets = np.full((len(rows), self.n_classes), of_each, dtype=np.float32)
        targets[np.arange(len(rows)), self.targets[rows]] += 1 - self.label_smoothing
        if self.mixing is not None and rng is not None:
            inputs, targets = _mix(self.mixing, rng, inputs, targets)
        if self.sample_weight is None and self.n_devices == 1:
            return inputs, targets
        n, n_filled = len(rows), round_up(len(rows), self.n_devices)
        weights = np.zeros(n_filled, np.float32)
        weights[:n] = 1 if self.sample_weight is None else self.sample_weight[rows]
        if self.n_devices > 1:
            # Filled up by images that weigh nothing. Keras divides each batch's sum of losses by
            # its size, and weighs batches by it. So steps are those of one device and, where
            # nothing is learnt, so is the loss.
            size = len(self.rows) if self.seed is None else n
            weights *= round_up(size, self.n_devices) / size
            inputs, targets = fill_up((inputs, targets), n_filled)
        return inputs, targets, weights

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        self._epoch += 1
        if self.seed is not None:
            rng = np.random.default_rng((self.seed, self._epoch))
            self.rows = rng.permutation(len(self.rows))


def _mix(
    mixing: Augmentation, rng: np.random.Generator, inputs: Any, targets: NDArray[np.float32]
) -> tuple[Any, NDArray[np.float32]]:
    """Return images and targets after Keras's MixUp and CutMix, where they are on."""
    images, *views = inputs if isinstance(inputs, tuple) else (inputs,)
    seeds = rng.integers(2**31, size=2).tolist()
    kinds = (keras.layers.MixUp, keras.layers.CutMix)
    strengths = (mixing.mixup_alpha, mixing.cutmix_factor)
    for kind, strength, seed in zip(kinds, strengths, seeds, strict=True):
        if strength:
            with warnings.catch_warnings():
                # Keras up to 3.15 asks JAX for 64-bit indices, which it does not need.
                warnings.filterwarnings("ignore", message="(?s).*Explicitly requested dtype")
                together = {"images": images.astype(np.float32), "labels": targets}
                mixed = kind(strength, seed=seed)(together, training=True)
            images = np.rint(keras.ops.convert_to_numpy(mixed["images"])).astype(np.uint8)
            targets = keras.ops.convert_to_numpy(mixed["labels"])
    return (images, *views) if views else images, targets


@dataclass(eq=False, repr=False)
class _Epochs(keras.callbacks.Callback):  # type: ignore[misc]
    """Keep a row of history an epoch and the best epoch's weights; stop at what is not finite."""

    # Rather than weights: with JAX, a `fit` that is interrupted leaves none of them behind, the
    # states of dropout included.
    variables: Sequence[keras.Variable]
    history: list[dict[str, Any]]
    name: str
    watched: str
    progress: Any
    loss_before: float = np.inf
    lowest: float = np.inf
    best_epoch: int | None = None
    broken_epoch: int | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self.best = self.start = self._copy()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if not np.isfinite((logs or {}).get("loss", 0.0)):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Asking for the model brings its variables up to date with JAX.
        model = self.model
        row: dict[str, Any] = {"stage": self.name, "epoch": epoch + 1}
        row |= {key: float(value) for key, value in (logs or {}).items()}
        rate = keras.ops.convert_to_numpy(model.optimizer.learning_rate)
        row |= {"learning_rate": float(rate), "seconds": time.perf_counter() - self._start}
        self.history.append(row)
        shown = {key: f"{row[key]:.3f}" for key in ("loss", "val_accuracy") if key in row}
        self.progress.set_postfix(shown, refresh=False)
        self.progress.update()
        finite = bool(np.isfinite(row["loss"] + row.get("val_loss", 0.0)))
        if finite and row[self.watched] < self.lowest:
            values = self._copy()
            # The loss of an epoch was measured before its last step.
            finite = all(np.isfinite(value).all() for value in values)
            if finite:
                self.lowest, self.best = row[self.watched], values
                self.best_epoch = epoch + 1
        if not finite:
            self.broken_epoch = epoch + 1
            model.stop_training = True

    def _copy(self) -> list[Any]:
        return [np.array(keras.ops.convert_to_numpy(variable)) for variable in self.variables]

    def restore(self, start_share: float) -> None:
        """Put back the average of the best epoch's weights with those before the stage."""
        for variable, best, start in zip(self.variables, self.best, self.start, strict=True):
            is_number = keras.backend.is_float_dtype(variable.dtype)
            variable.assign((1 - start_share) * best + start_share * start if is_number else best)

    def report(self, kept_loss: float, *, trained_before: bool) -> None:
        """Raise FloatingPointError where there is no good epoch, warn where there is one."""
        if self.broken_epoch == 1 and not trained_before:
            raise FloatingPointError(
                f"stage {self.name!r} diverged in its first epoch: its loss or a weight was not "
                "finite. Lower its learning_rate."
            )
        if self.broken_epoch:
            warnings.warn(
                f"stage {self.name!r} ended in epoch {self.broken_epoch} because its loss or a "
                "weight was not finite; the best weights before that are kept. Lower its "
                "learning_rate.",
                stacklevel=3,
            )
        elif kept_loss == self.loss_before < np.inf:
            warnings.warn(
                f"stage {self.name!r} is undone: its lowest validation loss was no lower than "
                f"{kept_loss:.3f}, that of the network before it. Lower its learning_rate, or "
                "unfreeze less.",
                stacklevel=3,
            )


@dataclass(frozen=True)
class Prepared:
    """A resolved stage, its model and on what it is trained; `variables` (all) are the best's."""

    model: keras.Model
    stage: Stage
    training: Examples
    validation: Examples | None = None
    variables: Sequence[keras.Variable] | None = None
    rate_factors: Sequence[float] | None = None
    n_steps: int = 1  # at once


def build_optimizer(
    stage: Stage,
    variables: Sequence[keras.Variable],
    *,
    n_steps: int,
    rate_factors: Sequence[float] | None = None,
) -> keras.optimizers.Optimizer:
    """Return the optimizer of a resolved stage of `n_steps` for the variables that it trains."""
    rate: Any = stage.learning_rate
    if stage.schedule == "cosine":
        n_warmup = round(_WARMUP_FRACTION * n_steps)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if n_warmup else stage.learning_rate,
            decay_steps=n_steps - n_warmup,
            warmup_target=stage.learning_rate if n_warmup else None,
            warmup_steps=n_warmup,
        )
    kind: Any = OPTIMIZERS[stage.optimizer]
    factors = rate_factors or [1.0] * len(variables)
    decay = stage.weight_decay or 0.0
    decays = [decay if len(variable.shape) > 1 else 0.0 for variable in variables]

    class OfEachVariable(kind):  # type: ignore[misc]
        """Steps and weight decay by a factor for each variable."""

        # Scaled gradients would change nothing with Adam, which divides each by its own size.
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            number = self._get_variable_index(variable)
            learning_rate = keras.ops.cast(learning_rate * factors[number], variable.dtype)
            if decays[number]:
                self.assign_sub(variable, variable * (learning_rate * decays[number]))
            super().update_step(gradient, variable, learning_rate)

        def _apply_weight_decay(self, _: Any) -> None:
            """Leave to Keras none of what `update_step` does."""

        def _all_reduce_sum_gradients(self, pairs: Any) -> Any:
            # TensorFlow never frees the graph in which it sums gradients over replicas.
            if self._distribution_strategy.num_replicas_in_sync == 1:
                return list(pairs)
            return super()._all_reduce_sum_gradients(pairs)

    # A file that a callback writes is read with Keras's own.
    OfEachVariable.__name__, OfEachVariable.__module__ = kind.__name__, "keras.optimizers"
    options: dict[str, Any] = {"momentum": 0.9} if stage.optimizer == "sgd" else {}
    optimizer = OfEachVariable(rate, weight_decay=decay, **options)
    # Inside a compiled step, what it keeps would be kept by TensorFlow for ever.
    optimizer.build(variables)
    return optimizer


def run_stage(
    prepared: Prepared,
    *,
    name: str,
    history: list[dict[str, Any]],
    trained_before: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> None:
    """Train a model in place and leave it with its best epoch, also when it is interrupted."""
    model, stage = prepared.model, prepared.stage
    training, validation = prepared.training, prepared.validation
    n_epochs: int = stage.epochs  # type: ignore[assignment]
    optimizer = build_optimizer(
        stage,
        model.trainable_variables,
        n_steps=n_epochs * len(training),
        rate_factors=prepared.rate_factors,
    )
    model.compile(
        optimizer, loss=LOSS, weighted_metrics=["accuracy"], steps_per_execution=prepared.n_steps
    )
    progress = show_progress(n_epochs, f"training: {name}", unit="epoch", verbose=verbose)
    watched = "loss" if validation is None else "val_loss"
    epochs = _Epochs(prepared.variables or model.variables, history, name, watched, progress)
    # Epochs come before what changes the rate or takes time of its own.
    callbacks = [epochs, *callbacks, *build_callbacks(stage, watched)]
    share = (stage.start_share or 0.0) if trained_before else 0.0
    judge: dict[str, Any] = {"x": validation, "verbose": 0, "return_dict": True}
    try:
        if trained_before and validation is not None:
            epochs.loss_before = float(np.nan_to_num(model.evaluate(**judge)["loss"], nan=np.inf))
        model.fit(
            training,
            validation_data=validation,
            epochs=n_epochs,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )
    finally:
        progress.close()
        losses = {1.0: epochs.loss_before, 0.0: epochs.lowest}
        epochs.restore(share if validation is None else min(losses, key=losses.__getitem__))
    if share and validation is not None:
        epochs.restore(share)
        losses[share] = model.evaluate(**judge)["loss"]
        epochs.restore(min(losses, key=losses.__getitem__))
    epochs.report(min(losses.values()), trained_before=trained_before)
