"""From a classifier's parameters, images and labels to a fit that is ready to run."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlclassify._checks.labels import check_labels
from tlclassify._checks.parameters import number_problem, raise_problems, run_problems
from tlclassify.activations.run import Running
from tlclassify.engines.runners import check_engine
from tlclassify.inputs.augmentation import get_augmentation
from tlclassify.inputs.images import ImageSource, reopen_images
from tlclassify.inputs.splits import check_targets, check_weights, draw_seeds, split_rows
from tlclassify.networks.backbones import get_backbone
from tlclassify.networks.blueprints import build_frozen, open_for_backbone
from tlclassify.networks.heads import get_head
from tlclassify.training.fit import Fit, Labelled
from tlclassify.training.stages import Stage, check_stage, get_stage


@dataclass(frozen=True)
class LastFit:
    """What a warm start goes on from."""

    network: keras.Model
    top: keras.Model
    history: list[dict[str, Any]]
    classes: NDArray[Any]
    image_shape: tuple[int, int, int]
    pixel_range: int


def prepare_fit(
    clf: Any,
    X: Any,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    validation_data: tuple[Any, ArrayLike] | None = None,
    *,
    last: LastFit | None = None,
) -> tuple[Fit, NDArray[Any]]:
    """Check everything, split the images, and build the network or take the last fit's.

    Parameters
    ----------
    clf : TransferClassifier
        For its parameters.
    X, y, sample_weight, validation_data
        As in `TransferClassifier.fit`.
    last : LastFit, optional
        What is gone on from.

    Returns
    -------
    fit : Fit
    classes : ndarray of shape (n_classes,)
    """
    stages = _check_stages(clf)
    fraction = number_problem(
        "validation_fraction", clf.validation_fraction, low=0, high=1, high_included=False
    )
    raise_problems([*run_problems(clf.image_size, clf.batch_size), fraction])
    check_engine(clf.engine)
    augmentation = None if clf.augmentation is None else get_augmentation(clf.augmentation)
    head, row = get_head(clf.head), get_backbone(clf.backbone)
    if last is None:
        source = open_for_backbone(X, row, clf.image_size)
    else:
        source = reopen_images(X, last.image_shape, last.pixel_range)
    split_seed, weights_seed, seed = draw_seeds(clf.random_state, 3)
    classes, training, validation = _split(
        clf, source, y, sample_weight, validation_data, last=last, seed=split_seed
    )
    if last is None:
        network = build_frozen(
            row,
            head,
            image_shape=source.shape,
            image_size=clf.image_size,
            weights=clf.weights,
            random_state=weights_seed,
        )
    fit = Fit(
        network=network if last is None else last.network,
        head=head,
        n_classes=len(classes),
        training=training,
        validation=validation,
        augmentation=augmentation,
        stages=stages,
        seed=seed,
        running=Running(clf.batch_size, clf.cache_dir, clf.verbose, clf.engine),
        callbacks=clf.callbacks or (),
        top=None if last is None else last.top,
        history=[] if last is None else list(last.history),
    )
    return fit, classes


def _check_stages(clf: Any) -> dict[str, Stage]:
    stages = {}
    if clf.head_stage is not None:
        stages["head"] = check_stage(clf.head_stage, name="head_stage")
        if stages["head"].unfreeze != 0:
            raise ValueError(
                "head_stage__unfreeze must be 0, because the head comes first and alone; "
                f"received {stages['head'].unfreeze!r}. Pass this stage as fine_tune_stage."
            )
    if clf.fine_tune_stage is not None:
        stages["fine_tune"] = get_stage(clf.fine_tune_stage, name="fine_tune_stage")
    if not stages:
        raise ValueError(
            "head_stage and fine_tune_stage must not both be None; received None twice. Pass a "
            "Stage as one of them."
        )
    return stages


def _split(
    clf: Any,
    source: ImageSource,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    validation_data: tuple[Any, ArrayLike] | None,
    *,
    last: LastFit | None,
    seed: int,
) -> tuple[NDArray[Any], Labelled, Labelled | None]:
    labels = check_labels(y, n_samples=len(source))
    seen = None if last is None else last.classes
    classes, targets = check_targets(labels, classes=seen, source="seen in the last fit")
    weights = check_weights(sample_weight, clf.class_weight, labels, classes)
    share = 0.0 if validation_data is not None else clf.validation_fraction
    rows, held_out = split_rows(targets, classes, share, seed)
    validation = None
    if len(held_out):
        validation = Labelled(source.take(held_out), targets[held_out])
    if validation_data is not None:
        validation = _open_validation(validation_data, source, classes)
    weights = None if weights is None else weights[rows]
    return classes, Labelled(source.take(rows), targets[rows], weights), validation


def _open_validation(
    validation_data: tuple[Any, ArrayLike], source: ImageSource, classes: NDArray[np.generic]
) -> Labelled:
    X, y = validation_data
    name = "validation_data[0]"
    images = reopen_images(X, (*source.shape, 3), source.pixel_range, name=name)
    labels = check_labels(y, n_samples=len(images), name="validation_data[1]")
    _, targets = check_targets(labels, classes=classes, name="validation_data[1]")
    return Labelled(images, targets)
