"""One fit: stage by stage the network is cut, its lower part run once, its upper part trained."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from tlclassify.activations.run import Running, StoredSource, store_further, store_images
from tlclassify.inputs.augmentation import Augmentation
from tlclassify.inputs.images import ImageSource
from tlclassify.inputs.splits import seeded
from tlclassify.networks.blueprints import Blueprint, build_classifier
from tlclassify.networks.cuts import (
    SCALING,
    add_views,
    cut_points,
    find_cut,
    freeze,
    image_size,
    inputs_of,
    note_training,
    output_at,
    rate_factors,
    unfreeze_above,
)
from tlclassify.networks.heads import Head, HeadBuilder, add_table, build_head, measure_features
from tlclassify.training.callbacks import WholeFit
from tlclassify.training.loop import (
    Examples,
    ImageInputs,
    Inputs,
    Prepared,
    StoredInputs,
    run_stage,
)
from tlclassify.training.solving import solve_logistic
from tlclassify.training.stages import Stage, resolve_stage

_C_TIMES_FEATURES = 10.0
_ROWS_MEASURED = 10_000
_STEPS_PER_EXECUTION = 10
# While it is built, a table lies in memory up to three times.
_TABLE_LIMIT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Labelled:
    """Images and their classes, by number; their weights unless all are equal, and groups."""

    images: ImageSource
    targets: NDArray[np.intp]
    weights: NDArray[np.float32] | None = None
    groups: NDArray[Any] | None = None

    def take(self, rows: NDArray[np.intp]) -> "Labelled":
        """Return the given rows alone."""
        weights, groups = (None if x is None else x[rows] for x in (self.weights, self.groups))
        return Labelled(self.images.take(rows), self.targets[rows], weights, groups)


@dataclass
class Fit:
    """A network from raw images to the head's features, what it is trained on, and how.

    `top` is the head's part with weights, None until its features are known; `layers` are Keras's
    own augmentation; `history` grows by a row an epoch; `seed` is that of the head's weights, the
    order of images and the views drawn. Where the head `is_solved`, that comes before all stages.
    `at_lowest` is what is stored at the lowest cut: each view of the training images, then what is
    held out; None until it is asked for.
    """

    network: keras.Model
    head: Head | HeadBuilder
    blueprint: Blueprint
    classes: NDArray[Any]
    training: Labelled
    validation: Labelled | None
    augmentation: Augmentation | None
    layers: Sequence[keras.layers.Layer]
    stages: Mapping[str, Stage]
    is_solved: bool
    seed: int
    running: Running
    callbacks: Sequence[keras.callbacks.Callback]
    top: keras.Model = None
    history: list[dict[str, Any]] = field(default_factory=list)
    at_lowest: list[StoredSource] | None = None

    def __post_init__(self) -> None:
        points = cut_points(self.network)
        self.cuts = {
            name: find_cut(self.network, stage.unfreeze, name=f"{name}_stage__unfreeze")
            for name, stage in self.stages.items()
        }
        # Up to the scaling there is nothing worth storing.
        scaling, self.features = points.index(SCALING) if SCALING in points else 0, points[-1]
        self.on_images = {n: points.index(cut) <= scaling for n, cut in self.cuts.items()}
        stored = [cut for name, cut in self.cuts.items() if not self.on_images[name]]
        self.lowest = min(stored, key=points.index, default=self.features)

    def run(self, *, until: str | None = None) -> None:
        """Run all stages, or those before one; an interrupted one leaves its best epoch."""
        if self.is_solved:
            self.solve()
        told: list[WholeFit] = []
        with ExitStack() as at_last:
            for name in takewhile(lambda other: other != until, self.stages):
                prepared = self.prepare(name)
                if self.callbacks and not told:
                    n_epochs = sum(stage.epochs for stage in self.stages.values())
                    told = [WholeFit(self.callbacks, self.build_whole(), n_epochs=n_epochs)]
                    at_last.callback(told[0].close)
                self.train(name, prepared, callbacks=told)

    def solve(self) -> None:
        """Find the weights of a linear head exactly, on all training images in all their views."""
        start = time.perf_counter()
        outputs = [part.outputs[:] for part in self.store(self.features)]
        held_out = outputs.pop() if self.validation is not None else None
        n_views = len(outputs)
        features = outputs[0] if n_views == 1 else np.concatenate(outputs)
        targets, weights = np.tile(self.training.targets, n_views), self.training.weights
        weights = None if weights is None else np.tile(weights, n_views)
        self._build_top(features, weights)
        last = self.top.get_layer("probabilities")
        x = keras.ops.convert_to_numpy(keras.Model(self.top.input, last.input)(features))
        given = self.head.C if isinstance(self.head, Head) else None
        C = _C_TIMES_FEATURES / x.shape[1] if given is None else float(given)
        n_classes = len(self.classes)
        last.set_weights(solve_logistic(x, targets, weights, C=C, n_classes=n_classes))
        row: dict[str, Any] = {"stage": "head", "epoch": 1, "C": C}
        row |= _measure_head(self.top, features, targets, weights)
        if self.validation is not None and held_out is not None:
            found = _measure_head(self.top, held_out, self.validation.targets)
            row |= {f"val_{key}": value for key, value in found.items()}
        self.history.append(row | {"seconds": time.perf_counter() - start})
        note_training()

    def train(
        self, name: str, prepared: Prepared, *, callbacks: Sequence[keras.callbacks.Callback] = ()
    ) -> None:
        """Train what was prepared for a stage."""
        options: dict[str, Any] = {"callbacks": callbacks, "verbose": self.running.verbose}
        known = bool(self.history)
        try:
            run_stage(prepared, name=name, history=self.history, trained_before=known, **options)
        finally:
            note_training()
            freeze(self.network)
            prepared.release()

    def prepare(self, name: str) -> Prepared:
        """Store what a stage reads, and build what it trains."""
        cut, stage = self.cuts[name], resolve_stage(self.stages[name], len(self.training.targets))
        stored = None if self.on_images[name] else self.store(cut)
        if self.top is None:
            self._build_top(stored[0].outputs if stored and cut == self.features else None)
        unfreeze_above(self.network, cut, batch_norm=stage.batch_norm)
        model, inputs, is_table = self._build_trained(cut, stored)
        batch_size: int = stage.batch_size  # type: ignore[assignment]
        training = Examples(
            inputs[0],
            self.training.targets,
            n_classes=len(self.classes),
            batch_size=batch_size,
            sample_weight=self.training.weights,
            label_smoothing=stage.label_smoothing,
            mixing=None if stored else self.augmentation,
            seed=self.seed + list(self.stages).index(name),
        )
        validation = None
        if self.validation is not None:
            validation = Examples(
                inputs[1],
                self.validation.targets,
                n_classes=len(self.classes),
                batch_size=max(batch_size, self.running.batch_size),
            )
        variables = self.top.variables if is_table else model.variables
        factors = rate_factors(self.network, model.trainable_variables, stage.layer_decay)
        # The user's own callbacks are told of every batch.
        at_once = is_table and not self.callbacks
        n_steps = min(_STEPS_PER_EXECUTION, len(training)) if at_once else 1
        return Prepared(model, stage, training, validation, variables, factors, n_steps)

    def store(self, cut: str) -> list[StoredSource]:
        """Run what lies below a cut above the scaling, where that was not done yet."""
        if self.at_lowest is None:
            self.at_lowest = store_images(
                self.network,
                self.lowest,
                self.training.images,
                None if self.validation is None else self.validation.images,
                augmentation=self.augmentation,
                running=self.running,
            )
        if cut == self.lowest:
            return self.at_lowest
        return store_further(self.network, self.lowest, self.at_lowest, cut, running=self.running)

    def build_whole(self) -> keras.Model:
        """Return the way from raw images to probabilities."""
        return build_classifier(self.network, self.top, mirrored=self.blueprint.is_mirrored)

    def _build_top(
        self, features: NDArray[np.float32] | None, weights: NDArray[np.float32] | None = None
    ) -> None:
        statistics = None
        if features is not None and isinstance(self.head, Head):
            step = math.ceil(len(features) / _ROWS_MEASURED)
            used = None if weights is None else weights[::step]
            statistics = measure_features(features[::step], used)
        shape, n_classes = self.network.output.shape[1:], len(self.classes)
        with seeded(self.seed):
            self.top = build_head(self.head, n_classes, features_shape=shape, statistics=statistics)

    def _build_trained(
        self, cut: str, stored: list[StoredSource] | None
    ) -> tuple[keras.Model, Sequence[Inputs], bool]:
        """Return what a stage trains, what it reads, and whether that are rows of a table."""
        if stored is None:
            size = image_size(self.network)
            parts = [self.training, *([self.validation] if self.validation else [])]
            inputs = [ImageInputs(part.images, self.augmentation, size) for part in parts]
            return self._build_on_images(), inputs, False
        outputs = [part.outputs for part in stored]
        n_views = len(outputs) - (self.validation is not None)
        is_table = (
            cut == self.features
            and all(type(part) is np.ndarray and part.ndim == 2 for part in outputs)
            and sum(part.nbytes for part in outputs) <= _TABLE_LIMIT_BYTES
        )
        if is_table:
            model = add_table(self.top, outputs)
            ends = np.cumsum([len(part) for part in outputs])
            outputs = np.split(np.arange(ends[-1], dtype=np.int32), ends[:-1])
        else:
            model = keras.Model(output_at(self.network, cut), self.top(self.network.output))
        return model, [StoredInputs(outputs[:n_views]), StoredInputs(outputs[n_views:])], is_table

    def _build_on_images(self) -> keras.Model:
        probabilities = self.top(self.network.output)
        if self.augmentation is not None:
            return add_views(self.network, probabilities)
        (resized,) = inputs_of(self.network.get_layer(SCALING))
        x = resized
        # Copies, so that the user's own stay as they are and `random_state` decides their seeds.
        with seeded(self.seed):
            for layer in self.layers:
                x = type(layer).from_config(layer.get_config())(x)
        if x.shape != resized.shape:
            raise ValueError(
                f"augmentation must leave images of shape {resized.shape[1:]}; received layers "
                f"that make {x.shape[1:]} of them."
            )
        above = keras.Model(resized, probabilities, name=self.network.name)
        return keras.Model(self.network.input, above(x))


def _measure_head(
    top: keras.Model,
    features: NDArray[np.float32],
    targets: NDArray[np.intp],
    weights: NDArray[np.float32] | None = None,
) -> dict[str, float]:
    """Return loss and accuracy of a head, as Keras names them."""
    p = keras.ops.convert_to_numpy(top(features)).astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    loss = log_loss(targets, p, sample_weight=weights, labels=np.arange(p.shape[1]))
    accuracy = np.average(p.argmax(axis=1) == targets, weights=weights)
    return {"loss": float(loss), "accuracy": float(accuracy)}
