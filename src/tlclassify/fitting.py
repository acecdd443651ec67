"""One fit in progress: cut, store, train what is above, stage by stage."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify.augmentation import Augmentation
from tlclassify.cuts import (
    cut_points,
    find_cut,
    freeze,
    largest_output,
    rate_factors,
    trains_on_images,
    unfreeze_above,
)
from tlclassify.examples import Examples
from tlclassify.graphs import output_at
from tlclassify.heads import Head, HeadBuilder, build_head
from tlclassify.images import ImageSource
from tlclassify.seeding import seeded
from tlclassify.stages import Stage, resolve_stage
from tlclassify.stored_views import Running, Stored, image_size, store_further, store_images
from tlclassify.training import run_stage
from tlclassify.views import ImageInputs, StoredInputs, add_views

_ROWS_MEASURED = 10_000
_MAX_VALIDATION_BATCH = 1024
_VALIDATION_BATCH_BYTES = 64 * 2**20


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
    training: Examples
    validation: Examples | None
    rate_factors: list[float] | None


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
        self._cuts = {
            name: find_cut(self.network, stage.unfreeze, name=f"{name}_stage__unfreeze")
            for name, stage in self.stages.items()
        }
        points = cut_points(self.network)
        self._features = points[-1]
        stored = [cut for cut in self._cuts.values() if not trains_on_images(self.network, cut)]
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
                training=prepared.training,
                validation=prepared.validation,
                history=self.history,
                trained_before=len(self.history) > 0,
                rate_factors=prepared.rate_factors,
                callbacks=self.callbacks,
                verbose=self.running.verbose,
            )
        finally:
            freeze(self.network)

    def prepare(self, name: str) -> Prepared:
        """Store what a stage reads, and build what it trains."""
        cut, stage = self._cuts[name], resolve_stage(self.stages[name])
        on_images = trains_on_images(self.network, cut)
        stored = None if on_images else self._stored_at(cut)
        if self.top is None:
            self.top = self._build_top(stored.views[0] if cut == self._features else None)  # type: ignore[union-attr]
        unfreeze_above(self.network, cut, batch_norm=stage.batch_norm)
        model = self._trained_part(cut)
        training = Examples(
            StoredInputs(stored.views) if stored else self._image_inputs(self.training),
            self.training.targets,
            n_classes=self.n_classes,
            batch_size=stage.batch_size,  # type: ignore[arg-type]
            sample_weight=self.training.weights,
            mixing=self.augmentation if on_images else None,
            seed=self.seed + list(self.stages).index(name),
        )
        validation = None
        if self.validation is not None:
            held_out = None if stored is None else stored.validation
            validation = Examples(
                self._image_inputs(self.validation)
                if held_out is None
                else StoredInputs([held_out]),
                self.validation.targets,
                n_classes=self.n_classes,
                batch_size=self._validation_batch(cut),
            )
        factors = None
        if stage.layer_decay < 1:
            factors = rate_factors(self.network, model.trainable_variables, stage.layer_decay)
        return Prepared(model, training, validation, factors)

    def _stored_at(self, cut: str) -> Stored:
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
        if features is not None:
            features = features[:: math.ceil(len(features) / _ROWS_MEASURED)]
        shape = self.network.output.shape[1:]
        with seeded(self.seed):
            return build_head(self.head, self.n_classes, features_shape=shape, training=features)

    def _trained_part(self, cut: str) -> keras.Model:
        probabilities = self.top(self.network.output)  # type: ignore[misc]
        if not trains_on_images(self.network, cut):
            return keras.Model(output_at(self.network, cut), probabilities)
        if self.augmentation is None:
            return keras.Model(self.network.input, probabilities)
        return add_views(self.network, probabilities)

    def _image_inputs(self, labelled: Labelled) -> ImageInputs:
        return ImageInputs(labelled.images, self.augmentation, image_size(self.network))

    def _validation_batch(self, cut: str) -> int:
        n_bytes = 4 * largest_output(self.network, cut)
        return max(1, min(_MAX_VALIDATION_BATCH, _VALIDATION_BATCH_BYTES // n_bytes))
