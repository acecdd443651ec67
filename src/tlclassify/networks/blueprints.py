"""What the networks of a fitted classifier were built from, and building them once more."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from tlclassify.inputs.images import ImageSource, longer_side, open_images
from tlclassify.inputs.splits import seeded
from tlclassify.networks.backbones import Backbone, build_backbone, choose_image_size, get_backbone
from tlclassify.networks.cuts import freeze, image_size
from tlclassify.networks.graphs import without_retracing_notes
from tlclassify.networks.heads import Head, HeadBuilder, Statistics, build_head, build_pooling

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")


@dataclass(frozen=True)
class Blueprint:
    """What a fit built its networks from, whatever its classifier's parameters say later.

    Parameters
    ----------
    backbone : str or Backbone
    weights : {"pretrained"}, path or None
        Those that the backbone began with.
    head : Head or callable
    image_size : int
        Pixels a side at which the backbone sees the images.
    dtype_policy : str
        Keras's policy of precision.
    class_counts : list of list of int
        Images of each class, of training and, where there is any, of validation.
    """

    backbone: str | Backbone
    weights: str | Path | None
    head: Head | HeadBuilder
    image_size: int
    dtype_policy: str
    class_counts: list[list[int]] = field(default_factory=list)

    @property
    def backbone_name(self) -> str:
        """The backbone's name, registered or not."""
        return self.backbone.name if isinstance(self.backbone, Backbone) else self.backbone

    @property
    def weights_licence(self) -> str:
        """What is known of the licence of the weights that the backbone began with."""
        if self.weights is None:
            return "none (it began with random weights)"
        if self.weights != "pretrained":
            return "unknown (that of the file passed as weights)"
        return get_backbone(self.backbone).licence or "unknown"


def draw_blueprint(
    backbone: str | Backbone,
    weights: str | Path | None,
    head: Head | HeadBuilder,
    network: keras.Model,
) -> Blueprint:
    """Return the blueprint of a network that has just been built from the others."""
    if isinstance(head, Head):
        head = clone(head)
    policy = keras.config.dtype_policy().name
    return Blueprint(backbone, weights, head, image_size(network)[0], policy)


def build_network_again(blueprint: Blueprint, *, image_shape: tuple[int, int, int]) -> keras.Model:
    """Build the network from raw images to features once more, with random weights.

    Parameters
    ----------
    blueprint : Blueprint
    image_shape : (height, width, 3)

    Returns
    -------
    keras.Model
        Frozen.
    """
    with _as_in_the_fit(blueprint), warnings.catch_warnings():
        # Of a small feature map the fit has warned.
        warnings.filterwarnings("ignore", message="image_size=")
        network = build_frozen(
            get_backbone(blueprint.backbone),
            blueprint.head,
            image_shape=image_shape[:2],
            image_size=blueprint.image_size,
            weights=None,
            random_state=None,
        )
        freeze(network)
    return network


def build_head_again(
    blueprint: Blueprint,
    *,
    features_shape: Sequence[int],
    n_classes: int,
    statistics: Statistics | None,
) -> keras.Model:
    """Build the head once more, with random weights.

    Parameters
    ----------
    blueprint : Blueprint
    features_shape, n_classes, statistics
        As in `build_head`.

    Returns
    -------
    keras.Model
        Features to probabilities.
    """
    with _as_in_the_fit(blueprint):
        return build_head(
            blueprint.head, n_classes, features_shape=features_shape, statistics=statistics
        )


@contextmanager
def _as_in_the_fit(blueprint: Blueprint) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(blueprint.dtype_policy)
    try:
        # Where dropout stood is not kept; seeded, it begins at the same place after every load.
        with seeded(0):
            yield
    finally:
        keras.config.set_dtype_policy(before)


def expected_shapes(head: Head, n_features: int, n_classes: int) -> list[tuple[int, ...]]:
    """Return the shapes of the weights that `build_head` gives a head, in their order."""
    shapes: list[tuple[int, ...]] = []
    n_inputs = n_features
    for units in head.hidden_units:
        shapes += [(n_inputs, units), (units,)]
        shapes += [(units,)] * 4 if head.batch_norm else []
        n_inputs = units
    return [*shapes, (n_inputs, n_classes), (n_classes,)]


def make_probe(image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return one image, always the same for a shape: slanted stripes, another in each channel.

    Mirrored, turned, with other channels first or differently scaled, it is another image.

    Returns
    -------
    ndarray of shape (1, height, width, 3), uint8
    """
    # In uint8 throughout, where sums are modulo 256: integers of 64 bits would take eight images.
    rows, columns, channels = (
        (step * np.arange(length)).astype(np.uint8)
        for step, length in zip((29, 13, 85), image_shape, strict=True)
    )
    return (rows[:, None, None] + columns[:, None] + channels)[None]


def answer_probe(
    network: keras.Model, top: keras.Model, *, image_shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Return what is said of the probe image before any temperature.

    A temperature would make differences smaller or larger, and one bound on them too loose or too
    tight.

    Parameters
    ----------
    network, top : keras.Model
        Raw images to features, and features to probabilities.
    image_shape : (height, width, 3)

    Returns
    -------
    ndarray of shape (n_classes,), float64
    """
    # Called as they are: `predict` would compile a model first, which takes seconds.
    with without_retracing_notes():
        features = network(make_probe(image_shape), training=False)
        (answer,) = keras.ops.convert_to_numpy(top(features, training=False))
    return np.asarray(answer, dtype=np.float64)


def open_for_backbone(X: Any, row: Backbone, image_size: int | None) -> ImageSource:
    """Check images; files get the size at which the backbone will see them."""
    source = open_images(X)
    if not source.is_files:
        return source
    size = image_size or choose_image_size(row, longer_side(source))
    return replace(source, file_shape=(size, size))


def build_frozen(
    row: Backbone,
    head: Head | HeadBuilder,
    *,
    image_shape: tuple[int, int],
    image_size: int | None,
    weights: str | Path | None,
    random_state: int | None,
) -> keras.Model:
    """Build the network from raw images to the output at the head's cut."""
    backbone = build_backbone(
        row,
        image_shape=image_shape,
        image_size=image_size,
        weights=weights,
        random_state=random_state,
    )
    backbone.trainable = False
    return keras.Model(backbone.input, build_pooling(head, backbone.output), name=row.name)
