"""One fit: stage by stage the network is cut, its lower part run once, its upper part trained."""

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from tlclassify.activations.run import Running, StoredSource, store_further, store_images
from tlclassify.engines.runners import count_devices, run_batches
from tlclassify.inputs.augmentation import Augmentation
from tlclassify.inputs.images import ImageSource
from tlclassify.inputs.splits import seeded, split_rows
from tlclassify.networks import cuts
from tlclassify.networks.blueprints import Blueprint
from tlclassify.networks.heads import Head, HeadBuilder, add_table, build_head, measure_features
from tlclassify.networks.sources import copy_layer
from tlclassify.networks.steps import add_views, build_classifier
from tlclassify.training.callbacks import WholeFit
from tlclassify.training.loop import (
    Examples,
    ImageInputs,
    Inputs,
    Prepared,
    StoredInputs,
    run_stage,
)
from tlclassify.training.solving import measure_head, solve_logistic
from tlclassify.training.stages import Stage, resolve_stage

_C_TIMES_FEATURES = 10.0
_ROWS_MEASURED = 10_000
_STEPS_PER_EXECUTION = 10
# While it is built, a table lies in memory up to three times.
_TABLE_LIMIT_BYTES = 256 * 2**20
# Of a trial of fine-tuning: the share held out, the rise of log loss that does not matter, the
# probability that no loss is above, and the logarithms of the temperatures to choose from.
_HELD_OUT, _SLIGHT, _SMALLEST, _TEMPERATURES = 0.2, 0.05, 1e-7, (-2.0, 2.0)


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
    """A network from raw images to the head's features, what it is trained on, and how."""

    network: keras.Model
    head: Head | HeadBuilder
    blueprint: Blueprint
    classes: NDArray[Any]
    training: Labelled
    validation: Labelled | None
    augmentation: Augmentation | None
    layers: Sequence[keras.layers.Layer]  # Keras's own augmentation
    stages: Mapping[str, Stage]
    is_solved: bool  # the head, before all stages
    seed: int  # of the head's weights, the order of images and the views drawn
    running: Running
    callbacks: Sequence[keras.callbacks.Callback]
    top: keras.Model = None  # the head's part with weights, once its features are known
    history: list[dict[str, Any]] = field(default_factory=list)  # a row an epoch
    # What is stored at the lowest cut: each view of the training images, then what is held out.
    at_lowest: list[StoredSource] | None = None

    def __post_init__(self) -> None:
        points, n_images = cuts.cut_points(self.network), len(self.training.targets)
        self.stages = {name: resolve_stage(x, n_images) for name, x in self.stages.items()}
        self.cuts = {
            name: cuts.find_cut(self.network, stage.unfreeze, name=f"{name}_stage__unfreeze")
            for name, stage in self.stages.items()
        }
        # Up to the scaling there is nothing worth storing.
        scaling = points.index(cuts.SCALING) if cuts.SCALING in points else 0
        self.features = points[-1]
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
                    n_epochs = sum(stage.epochs or 0 for stage in self.stages.values())
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
        row |= measure_head(self.top, features, targets, weights)
        if self.validation is not None and held_out is not None:
            found = measure_head(self.top, held_out, self.validation.targets)
            row |= {f"val_{key}": value for key, value in found.items()}
        self.history.append(row | {"seconds": time.perf_counter() - start})
        cuts.note_training()

    def train(
        self, name: str, prepared: Prepared, *, callbacks: Sequence[keras.callbacks.Callback] = ()
    ) -> None:
        """Train what was prepared for a stage."""
        options: dict[str, Any] = {"callbacks": callbacks, "verbose": self.running.verbose}
        known = bool(self.history)
        try:
            run_stage(prepared, name=name, history=self.history, trained_before=known, **options)
        finally:
            cuts.note_training()
            cuts.freeze(self.network)
            # TensorFlow keeps every data set that was ever iterated over.
            for examples in filter(None, (prepared.training, prepared.validation)):
                examples.inputs = StoredInputs([])

    def prepare(self, name: str) -> Prepared:
        """Store what a stage reads, and build what it trains."""
        cut, stage = self.cuts[name], self.stages[name]
        stored = None if self.on_images[name] else self.store(cut)
        if self.top is None:
            self._build_top(stored[0].outputs if stored and cut == self.features else None)
        cuts.unfreeze_above(self.network, cut, batch_norm=stage.batch_norm)
        model, inputs, is_table = self._build_trained(cut, stored)
        batch_size: int = stage.batch_size  # type: ignore[assignment]
        n_devices, weights = count_devices(model), self.training.weights
        training = Examples(
            inputs[0],
            self.training.targets,
            n_classes=len(self.classes),
            batch_size=batch_size,
            # So that early stopping and learning rates do not depend on their unit.
            sample_weight=None if weights is None else weights / weights[weights > 0].mean(),
            label_smoothing=stage.label_smoothing,
            mixing=None if stored else self.augmentation,
            seed=self.seed + list(self.stages).index(name),
            n_devices=n_devices,
        )
        validation = None
        if self.validation is not None:
            validation = Examples(
                inputs[1],
                self.validation.targets,
                n_classes=len(self.classes),
                batch_size=max(batch_size, self.running.batch_size) * n_devices,
                n_devices=n_devices,
            )
        variables = self.top.variables if is_table else model.variables
        factors = cuts.rate_factors(self.network, model.trainable_variables, stage.layer_decay)
        # The user's own callbacks are told of every batch; PyTorch and several devices take one.
        one_each = self.callbacks or n_devices > 1 or keras.backend.backend() == "torch"
        at_once = is_table and not one_each
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
        if features is not None:
            n, n_broken = len(features), 0
            for start in range(0, n, _ROWS_MEASURED):  # what lies on the disk is read in parts
                finite = np.isfinite(features[start : start + _ROWS_MEASURED])
                n_broken += np.count_nonzero(~finite.reshape(len(finite), -1).all(axis=1))
            if n_broken:
                raise ValueError(
                    f"backbone must give finite features; received NaN or infinity for {n_broken} "
                    f"of {n} images. Look for it in its weights, and in layers that divide."
                )
        if features is not None and isinstance(self.head, Head):
            rows = np.arange(len(features)) if weights is None else np.flatnonzero(weights)
            rows = rows[:: math.ceil(len(rows) / _ROWS_MEASURED)]
            weights = None if weights is None else weights[rows]
            statistics = measure_features(features[rows], weights)
        shape, n_classes = self.network.output.shape[1:], len(self.classes)
        with seeded(self.seed):
            self.top = build_head(self.head, n_classes, features_shape=shape, statistics=statistics)

    def _build_trained(
        self, cut: str, stored: list[StoredSource] | None
    ) -> tuple[keras.Model, Sequence[Inputs], bool]:
        """Return what a stage trains, what it reads, and whether that are rows of a table."""
        if stored is None:
            size = cuts.image_size(self.network)
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
            model = keras.Model(cuts.output_at(self.network, cut), self.top(self.network.output))
        return model, [StoredInputs(outputs[:n_views]), StoredInputs(outputs[n_views:])], is_table

    def _build_on_images(self) -> keras.Model:
        probabilities = self.top(self.network.output)
        if self.augmentation is not None:
            return add_views(self.network, probabilities)
        (resized,) = cuts.inputs_of(self.network.get_layer(cuts.SCALING))
        above = keras.Model(resized, probabilities, name=self.network.name)
        return keras.Model(self.network.input, above(self.augment()))

    def augment(self) -> keras.KerasTensor:
        """Return images, at the size that the backbone sees, as layers of Keras change them."""
        (resized,) = cuts.inputs_of(self.network.get_layer(cuts.SCALING))
        x = resized
        # Copies, so that the user's own stay as they are and `random_state` decides their seeds.
        with seeded(self.seed):
            for layer in self.layers:
                x = copy_layer(layer, name="augmentation")(x)
        if x.shape != resized.shape:
            raise ValueError(
                f"augmentation must leave images of shape {resized.shape[1:]}; received layers "
                f"that make {x.shape[1:]} of them."
            )
        return x


def drop_what_fails(fit: Fit) -> None:
    """Take a fit's fine-tuning out, with a warning, if it fails in a trial on some images."""
    begins_with_head = fit.is_solved or "head" in fit.stages
    if fit.validation or not begins_with_head:
        return
    targets, groups = fit.training.targets, fit.training.groups
    try:
        kept, held_out = split_rows(targets, fit.classes, _HELD_OUT, fit.seed, groups=groups)
    except ValueError:  # of a class there is one image, or too few groups
        return
    if fit.training.weights is not None and not fit.training.weights[kept].any():
        return
    judged = fit.training.take(held_out)
    trial = replace(fit, training=fit.training.take(kept), callbacks=(), history=[*fit.history])
    trial.at_lowest = [part.take(kept) for part in fit.store(fit.lowest)]
    models = [model for model in (fit.network, fit.top) if model is not None]
    weights = [model.get_weights() for model in models]
    try:
        with warnings.catch_warnings():
            # The fit itself will say so.
            warnings.filterwarnings("ignore", message="stage .* ended", category=UserWarning)
            trial.run(until="fine_tune")
            whole = trial.build_whole()
            before = _losses(whole, judged, fit.running.batch_size)
            trial.train("fine_tune", trial.prepare("fine_tune"))
            after = _losses(whole, judged, fit.running.batch_size)
    finally:
        for model, values in zip(models, weights, strict=True):
            model.set_weights(values)
    # It fails where it makes the log loss higher by more than chance does, and by what matters.
    change = after - before
    if change.mean() <= max(change.std(ddof=1) / math.sqrt(len(change)), _SLIGHT):
        return
    fit.stages = {name: stage for name, stage in fit.stages.items() if name != "fine_tune"}
    warnings.warn(
        f"fine_tune_stage is left out, because it makes worse: in a trial, {len(change)} images "
        f"that were held out had a log loss, at its best temperature, of {before.mean():.2f} "
        f"before it and {after.mean():.2f} after it. Lower its learning_rate or unfreeze less; or "
        "pass validation_data, and its best epoch is kept.",
        stacklevel=3,
    )


def _losses(network: keras.Model, part: Labelled, batch_size: int) -> NDArray[np.float64]:
    """Return the log loss of each image, at the temperature at which their mean is lowest."""
    # Label smoothing makes a stage less sure than the head: as it stands, its loss would be higher
    # although it is right more often.
    batches = run_batches(network, part.images, batch_size=batch_size)
    p = np.concatenate(list(batches)).astype(np.float64)
    logits, rows = np.log(np.maximum(p, _SMALLEST)), np.arange(len(p))

    def at(log_temperature: float) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = log_softmax(logits * math.exp(-log_temperature), axis=1)
        return -scaled[rows, part.targets]

    return at(minimize_scalar(lambda t: at(t).mean(), bounds=_TEMPERATURES, method="bounded").x)
