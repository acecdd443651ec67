"""One fit in progress: cut, store, train what is above, stage by stage."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify.activations.run import Running, Stored, store_further, store_images
from tlclassify.inputs.augmentation import Augmentation
from tlclassify.inputs.images import ImageSource
from tlclassify.inputs.splits import seeded
from tlclassify.networks.cuts import (
    cut_points,
    find_cut,
    freeze,
    image_size,
    largest_output,
    rate_factors,
    trains_on_images,
    unfreeze_above,
)
from tlclassify.networks.graphs import output_at
from tlclassify.networks.heads import Head, HeadBuilder, build_head, measure_features
from tlclassify.networks.views import add_table, add_views
from tlclassify.training.batches import Examples, ImageInputs, Inputs, StoredInputs, StoredRows
from tlclassify.training.loop import run_stage
from tlclassify.training.stages import Stage, resolve_stage

_ROWS_MEASURED = 10_000
_MAX_VALIDATION_BATCH = 1024
_VALIDATION_BATCH_BYTES = 64 * 2**20
_STEPS_PER_EXECUTION = 10
# While it is built, a table lies in memory up to three times.
_TABLE_LIMIT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Labelled:
    """Images with the numbers of their classes.

    Parameters
    ----------
    images : ImageSource
    targets : ndarray of shape (n,), int
    weights : ndarray of shape (n,), float32, optional
    """

    images: ImageSource
    targets: NDArray[np.intp]
    weights: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Prepared:
    """What `run_stage` takes, for one stage."""

    model: keras.Model
    variables: list[keras.Variable]
    training: Examples
    validation: Examples | None
    rate_factors: list[float] | None
    steps_per_execution: int


@dataclass
class Fit:
    """A network, what it is trained on, and what is stored of it.

    Parameters
    ----------
    network : keras.Model
        From raw images to the features that the head reads.
    head : Head or callable
    n_classes : int
    training : Labelled
    validation : Labelled or None
    augmentation : Augmentation or None
    stages : mapping of str to Stage
        By name, in their order.
    seed : int
        Of the head's weights, the order of images and the views drawn.
    running : Running
        How the frozen part is run over images.
    callbacks : sequence of keras.callbacks.Callback
    top : keras.Model, optional
        The head's layers, where they are there already.
    history : list of dict
        Grows by a row an epoch.
    """

    network: keras.Model
    head: Head | HeadBuilder
    n_classes: int
    training: Labelled
    validation: Labelled | None
    augmentation: Augmentation | None
    stages: Mapping[str, Stage]
    seed: int
    running: Running
    callbacks: Sequence[keras.callbacks.Callback]
    top: keras.Model | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cuts = {
            name: find_cut(self.network, stage.unfreeze, name=f"{name}_stage__unfreeze")
            for name, stage in self.stages.items()
        }
        points = cut_points(self.network)
        self._features = points[-1]
        stored = [cut for cut in self.cuts.values() if not trains_on_images(self.network, cut)]
        self._lowest = min(stored, key=points.index, default=self._features)
        self._at_lowest: Stored | None = None

    def run(self) -> None:
        """Run all stages; an interrupted one leaves its best epoch."""
        for name in self.stages:
            self.run_stage(name)

    def run_stage(self, name: str) -> None:
        """Run one stage."""
        prepared = self.prepare(name)
        try:
            run_stage(
                prepared.model,
                self.stages[name],
                name=name,
                variables=prepared.variables,
                training=prepared.training,
                validation=prepared.validation,
                history=self.history,
                trained_before=len(self.history) > 0,
                rate_factors=prepared.rate_factors,
                steps_per_execution=prepared.steps_per_execution,
                callbacks=self.callbacks,
                verbose=self.running.verbose,
            )
        finally:
            freeze(self.network)

    def prepare(self, name: str) -> Prepared:
        """Store what a stage reads, and build what it trains."""
        cut, stage = self.cuts[name], resolve_stage(self.stages[name])
        stored = self.store(name)
        if self.top is None:
            self.top = self._build_top(stored.views[0] if cut == self._features else None)  # type: ignore[union-attr]
        unfreeze_above(self.network, cut, batch_norm=stage.batch_norm)
        model, inputs, held_out = self._trained_part(cut, stored)
        training = Examples(
            inputs,
            self.training.targets,
            n_classes=self.n_classes,
            batch_size=stage.batch_size,  # type: ignore[arg-type]
            sample_weight=self.training.weights,
            mixing=self.augmentation if stored is None else None,
            seed=self.seed + list(self.stages).index(name),
        )
        validation = None
        if self.validation is not None:
            validation = Examples(
                held_out,
                self.validation.targets,
                n_classes=self.n_classes,
                batch_size=self._validation_batch(cut),
            )
        factors = None
        if stage.layer_decay < 1:
            factors = rate_factors(self.network, model.trainable_variables, stage.layer_decay)
        is_table = isinstance(inputs, StoredRows)
        return Prepared(
            model,
            self.top.variables if is_table else model.variables,
            training,
            validation,
            factors,
            # The user's own callbacks are told of every batch.
            min(_STEPS_PER_EXECUTION, len(training)) if is_table and not self.callbacks else 1,
        )

    def store(self, name: str) -> Stored | None:
        """Run what lies below a stage's cut, where that was not done yet; None: nothing does."""
        cut = self.cuts[name]
        if trains_on_images(self.network, cut):
            return None
        if self._at_lowest is None:
            self._at_lowest = store_images(
                self.network,
                self._lowest,
                self.training.images,
                None if self.validation is None else self.validation.images,
                augmentation=self.augmentation,
                running=self.running,
            )
        if cut == self._lowest:
            return self._at_lowest
        return store_further(self.network, self._lowest, self._at_lowest, cut, running=self.running)

    def _build_top(self, features: NDArray[np.float32] | None) -> keras.Model:
        statistics = None
        if features is not None and isinstance(self.head, Head):
            step = math.ceil(len(features) / _ROWS_MEASURED)
            statistics = measure_features(features[::step])
        shape = self.network.output.shape[1:]
        with seeded(self.seed):
            return build_head(
                self.head, self.n_classes, features_shape=shape, statistics=statistics
            )

    def _trained_part(self, cut: str, stored: Stored | None) -> tuple[keras.Model, Inputs, Inputs]:
        """Return what a stage trains, and what it reads in training and validation."""
        if stored is None:
            return self._on_images()
        held_out = stored.validation
        if cut == self._features and _fits_a_table([*stored.views, *held_out]):
            n, n_views = len(stored.views[0]), len(stored.views)
            model = add_table(self.top, [*stored.views, *held_out])
            return model, StoredRows(n, n_views), StoredRows(0, first=n * n_views)
        return self.part_above(cut), StoredInputs(stored.views), StoredInputs(held_out)

    def part_above(self, cut: str) -> keras.Model:
        """Return what lies above a cut: from its output to class probabilities."""
        return keras.Model(output_at(self.network, cut), self.top(self.network.output))  # type: ignore[misc]

    def _on_images(self) -> tuple[keras.Model, Inputs, Inputs]:
        probabilities = self.top(self.network.output)  # type: ignore[misc]
        if self.augmentation is None:
            model = keras.Model(self.network.input, probabilities)
        else:
            model = add_views(self.network, probabilities)
        size = image_size(self.network)
        held_out = self.training if self.validation is None else self.validation
        return (
            model,
            ImageInputs(self.training.images, self.augmentation, size),
            ImageInputs(held_out.images, self.augmentation, size),
        )

    def _validation_batch(self, cut: str) -> int:
        n_bytes = 4 * largest_output(self.network, cut)
        return max(1, min(_MAX_VALIDATION_BATCH, _VALIDATION_BATCH_BYTES // n_bytes))


def _fits_a_table(outputs: Sequence[NDArray[Any]]) -> bool:
    """Return whether features are vectors, in memory and not too many of them."""
    if any(part.ndim != 2 or type(part) is not np.ndarray for part in outputs):
        return False
    return sum(part.nbytes for part in outputs) <= _TABLE_LIMIT_BYTES
