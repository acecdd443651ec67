"""From a classifier's parameters, images and labels to a fit that is ready to run."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from tlclassify._checks.images import ASPECTS
from tlclassify._checks.parameters import (
    COUNT,
    COUNT_OR_NONE,
    Interval,
    check_choice,
    check_labels,
    check_parameters,
    check_type,
    encode_labels,
    listed,
)
from tlclassify.activations.run import Running
from tlclassify.engines.runners import check_engine
from tlclassify.inputs.augmentation import Augmentation, get_augmentation
from tlclassify.inputs.images import reopen_images, warn_of_known
from tlclassify.inputs.splits import (
    check_groups,
    check_targets,
    check_weights,
    draw_seeds,
    seeded,
    split_rows,
)
from tlclassify.networks.backbones import get_backbone, open_for_backbone
from tlclassify.networks.blueprints import Blueprint, build_frozen
from tlclassify.networks.cuts import layers_above, parts_of
from tlclassify.networks.heads import AUTO, Head, HeadBuilder, build_head, get_head
from tlclassify.training.fit import Fit, Labelled
from tlclassify.training.stages import EXACT, Stage, get_stage

# With fewer, a tenth of them is too few to choose by, and is missed in training.
_FEWEST_IMAGES_SPLIT = 2_000


def prepare_fit(
    clf: Any,
    X: Any,
    y: ArrayLike | None,
    weights: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    validation: tuple[Any, ArrayLike] | None = None,
) -> Fit:
    """Check everything, split the images, and build the network or take the last fit's."""
    stages, augmentation, layers = _check_settings(clf)
    if goes_on := clf.warm_start and hasattr(clf, "model_"):
        source = reopen_images(X, clf.image_shape_, clf.pixel_range_, clf.blueprint_.framing)
    else:
        source, sizes = open_for_backbone(X, get_backbone(clf.backbone), clf.image_size, clf.aspect)
    split_seed, weights_seed, seed = draw_seeds(clf.random_state, 3)
    labels = check_labels(y, n_samples=len(source))
    classes, targets = check_targets(labels, classes=clf.classes_ if goes_on else None)
    weights = check_weights(weights, clf.class_weight, labels, classes)
    head, is_solved = choose_head(clf, len(source), goes_on=goes_on)
    if isinstance(clf.head_stage, str) and not is_solved:
        stages = {"head": Stage(), **stages}
    everything = Labelled(source, targets, weights, check_groups(groups, n_samples=len(source)))
    fraction = clf.validation_fraction if stages or clf.validation_fraction else 0
    parts = _split(everything, classes, validation, fraction, split_seed)
    counts = [np.bincount(x.targets, minlength=len(classes)).tolist() for x in parts if x]
    if goes_on:
        network, blueprint = clf.backbone_, clf.blueprint_
    else:
        blueprint = Blueprint(clf.backbone, clf.weights, head, sizes, framing=source.framing)
        network = build_frozen(blueprint, image_shape=source.shape, random_state=weights_seed)
    fit = Fit(
        network,
        head,
        replace(blueprint, class_counts=counts, head=head, is_mirrored=clf.predict_mirrored),
        classes,
        *parts,
        augmentation=augmentation,
        layers=layers,
        stages=stages,
        is_solved=is_solved,
        seed=seed,
        running=Running(clf.batch_size, clf.cache_dir, clf.verbose, clf.engine),
        callbacks=clf.callbacks or (),
    )
    if goes_on:
        fit.top, fit.history = clf.head_, list(clf.history_)
    _check_training(fit)
    _check_effects(fit, get_head(clf.head))
    return fit


def choose_head(
    clf: Any, n_images: int, *, goes_on: bool = False
) -> tuple[Head | HeadBuilder, bool]:
    """Return the head for so many images, and whether it is solved: by default, if it is linear."""
    # Of what is to be solved, however many there are, the head is linear unless it says otherwise.
    n_decisive = 0 if clf.head_stage == EXACT else n_images
    head = clf.blueprint_.head if goes_on else get_head(clf.head, n_images=n_decisive)
    is_linear = isinstance(head, Head) and not head.hidden_units
    if clf.head_stage == EXACT and not is_linear:
        raise ValueError(
            f"head_stage={EXACT!r} needs a linear head; received head={head!r}. Pass "
            f"{'warm_start=False and ' if goes_on else ''}head='linear', or head_stage=Stage(), "
            "which trains any head."
        )
    is_solved = is_linear and clf.head_stage in (AUTO, EXACT)
    # A stage after it would else begin with half the features dropped.
    return clone(head).set_params(dropout=0.0) if is_solved else head, is_solved


def _split(
    everything: Labelled,
    classes: NDArray[Any],
    validation_data: Any,
    fraction: float | None,
    seed: int,
) -> tuple[Labelled, Labelled | None]:
    """Return what is trained on and, where there is any, what measures each epoch."""
    if validation_data is None:
        if fraction is None:
            fraction = 0.1 if len(everything.targets) >= _FEWEST_IMAGES_SPLIT else 0
        targets, groups = everything.targets, everything.groups
        kept, held_out = split_rows(targets, classes, fraction, seed, groups=groups)
        return everything.take(kept), everything.take(held_out) if len(held_out) else None
    if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
        n_parts = f" of {len(validation_data)}" if hasattr(validation_data, "__len__") else ""
        raise ValueError(
            "validation_data must be a pair, images and labels; received a "
            f"{type(validation_data).__name__}{n_parts}. Weights of these images are not taken."
        )
    X, y = validation_data
    name = "validation_data[0]"
    source = everything.images
    images = reopen_images(X, (*source.shape, 3), source.pixel_range, source.framing, name=name)
    warn_of_known(images, source.marks(), stacklevel=5)
    labels = check_labels(y, n_samples=len(images), name="validation_data[1]")
    targets = encode_labels(labels, classes, name="validation_data[1]")
    return everything, Labelled(images, targets)


def check_shared(estimator: Any, *others: tuple[str, object, Any]) -> None:
    """Check the parameters that classifiers and extractors share, and others of theirs."""
    check_parameters(
        ("batch_size", estimator.batch_size, COUNT),
        ("image_size", estimator.image_size, COUNT_OR_NONE),
        ("aspect", estimator.aspect, ASPECTS),
        *others,
    )
    check_type("verbose", estimator.verbose, int, "0 or 1")
    check_engine(estimator.engine)


def _check_settings(
    clf: Any,
) -> tuple[Mapping[str, Stage], Augmentation | None, list[keras.layers.Layer]]:
    """Check all parameters that can be checked before an image is read."""
    get_head(clf.head)
    for name in ("warm_start", "predict_mirrored"):
        check_type(name, getattr(clf, name), bool, "True or False")
    _check_callbacks(clf.callbacks)
    stages = {}
    if isinstance(clf.head_stage, str):
        check_choice("head_stage", clf.head_stage, (AUTO, EXACT))
    elif clf.head_stage is not None:
        stages["head"] = get_stage(clf.head_stage, name="head_stage")
        if stages["head"].unfreeze != 0:
            raise ValueError(
                "head_stage__unfreeze must be 0, because the head comes first and alone; "
                f"received {stages['head'].unfreeze!r}. Pass this stage as fine_tune_stage."
            )
    if clf.fine_tune_stage is not None:
        stages["fine_tune"] = get_stage(clf.fine_tune_stage, name="fine_tune_stage")
    name, first = next(iter(stages.items()), ("", Stage()))
    begins = not clf.warm_start and not isinstance(clf.head_stage, str)
    if begins and first.start_share:
        raise ValueError(
            f"{name}_stage__start_share must be 0 or None where nothing is trained before; "
            f"received {first.start_share!r}. Leave it out."
        )
    if clf.head_stage is None and not stages:
        raise ValueError("head_stage or fine_tune_stage must be given; received None twice.")
    share = Interval(0, 1, closed="left", optional=True)
    check_shared(clf, ("validation_fraction", clf.validation_fraction, share))
    given = clf.augmentation
    layers = list(given) if isinstance(given, tuple | list) else [given]
    if layers and all(isinstance(layer, keras.layers.Layer) for layer in layers):
        return stages, None, layers
    return stages, None if given is None else get_augmentation(given), []


def _check_callbacks(callbacks: Any) -> None:
    if callbacks is not None:
        check_type("callbacks", callbacks, Sequence, "a list of keras.callbacks.Callback, or None")
    for number, callback in enumerate(callbacks or ()):
        wanted = "a keras.callbacks.Callback"
        check_type(f"callbacks[{number}]", callback, keras.callbacks.Callback, wanted)
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(  # noqa: TRY004 - it is a callback, of the wrong kind
                "callbacks must not hold BackupAndRestore, which puts back one run of Keras's fit, "
                "and this one has several stages. With cache_dir a fit that was killed reads what "
                "it has stored, and with warm_start=True one that was interrupted goes on."
            )


def _warn_of_idle_settings(fit: Fit, asked: Head | HeadBuilder) -> None:
    """Warn of settings without effect that a grid may bring together."""
    if isinstance(fit.head, Head) and isinstance(asked, Head):
        linear, solved, usual = not fit.head.hidden_units, fit.is_solved, Head()
        for name, is_idle, where, remedy in (
            ("activation", linear, "without hidden layers", "Set head__hidden_units"),
            ("batch_norm", linear, "without hidden layers", "Set head__hidden_units"),
            ("dropout", solved, "that is solved exactly", "Set head_stage=Stage()"),
            ("C", not solved, "that is trained by epochs", "Set head='linear'"),
        ):
            value = getattr(asked, name)
            if is_idle and value != getattr(usual, name):
                warnings.warn(
                    f"head__{name}={value!r} has no effect on a head {where}. {remedy}.",
                    stacklevel=5,
                )
    if fit.callbacks and not fit.stages:
        warnings.warn(
            "callbacks are told nothing of a head that is solved exactly, which has no epochs. Set "
            "head_stage=Stage().",
            stacklevel=5,
        )


def _check_training(fit: Fit) -> None:
    """Refuse what cannot be trained or solved, before images are run."""
    if not isinstance(fit.head, Head) and fit.top is None:
        with seeded(0):
            build_head(fit.head, len(fit.classes), features_shape=fit.network.output.shape[1:])
    if fit.training.weights is not None and not fit.training.weights.any():
        raise ValueError(
            "sample_weight and class_weight must leave images to train on; received a product of 0 "
            f"for all {len(fit.training.weights)}. Raise some of them."
        )
    absent = np.setdiff1d(np.arange(len(fit.classes)), fit.training.targets)
    if fit.is_solved and len(absent):
        raise ValueError(
            "y must hold images of every class where the head is solved; received none of "
            f"{listed(fit.classes[absent].tolist())}, which the head knows from the last fit. Add "
            "some, or pass head_stage=Stage(), which trains on from there."
        )
    if len(parts_of(fit.network)) > 1 and any(stage.unfreeze for stage in fit.stages.values()):
        raise ValueError(
            "fine_tune_stage must unfreeze nothing of several backbones; received the backbone "
            f"{fit.network.name!r}. Pass fine_tune_stage=None, or one of them."
        )


def _check_effects(fit: Fit, asked: Head | HeadBuilder) -> None:
    """Refuse settings that would change nothing, or warn of them."""
    _warn_of_idle_settings(fit, asked)
    for name, cut in fit.cuts.items():
        unfrozen = any(layer.weights for layer in layers_above(fit.network, cut))
        for setting, none in (("layer_decay", 1), ("batch_norm", "frozen")):
            if not unfrozen and (value := getattr(fit.stages[name], setting)) != none:
                raise ValueError(
                    f"{name}_stage__{setting} must be {none!r} where a stage unfreezes nothing "
                    f"under the head; received {value!r}, which would have no effect. Set "
                    f"{name}_stage__unfreeze."
                )
    if any(fit.on_images.values()):
        fit.augment()  # what is wrong with layers is seen before the work
        return
    settings = fit.augmentation
    for name, value in (
        ("augmentation of Keras layers", fit.layers),
        ("augmentation__mixup_alpha", getattr(settings, "mixup_alpha", 0)),
        ("augmentation__cutmix_factor", getattr(settings, "cutmix_factor", 0)),
    ):
        if value:
            raise ValueError(
                f"{name} needs a stage that trains the whole network; received {value!r} without "
                "one, which would have no effect. Pass fine_tune_stage='all', or leave it out."
            )
    if settings is not None and settings.n_views == 1:
        raise ValueError(
            "augmentation__n_views must be at least 2 where no stage trains the whole network; "
            "received 1, the image itself, so that no change would have an effect."
        )
