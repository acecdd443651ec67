"""What the networks of a fitted classifier were built from, and building them once more."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from tlclassify.backbones import Backbone, get_backbone
from tlclassify.cuts import freeze
from tlclassify.features import build_frozen
from tlclassify.heads import Head, HeadBuilder, Statistics, build_head
from tlclassify.seeding import seeded
from tlclassify.stored_views import image_size
from tlclassify.tensorflow_logs import without_retracing_notes

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")


@dataclass(frozen=True)
class Blueprint:
    """What a fit built its networks from, whatever its classifier's parameters say later.

    Parameters
    ----------
    backbone : str or Backbone
    head : Head or callable
    image_size : int
        Pixels a side at which the backbone sees the images.
    dtype_policy : str
        Keras's policy of precision.
    """

    backbone: str | Backbone
    head: Head | HeadBuilder
    image_size: int
    dtype_policy: str

    @property
    def backbone_name(self) -> str:
        """The backbone's name, registered or not."""
        return self.backbone.name if isinstance(self.backbone, Backbone) else self.backbone


def draw_blueprint(
    backbone: str | Backbone, head: Head | HeadBuilder, network: keras.Model
) -> Blueprint:
    """Return the blueprint of a network that has just been built from `backbone` and `head`."""
    if isinstance(head, Head):
        head = clone(head)
    policy = keras.config.dtype_policy().name
    return Blueprint(backbone, head, image_size(network)[0], policy)


def build_again(
    blueprint: Blueprint,
    *,
    image_shape: tuple[int, int, int],
    n_classes: int,
    statistics: Statistics | None,
) -> tuple[keras.Model, keras.Model]:
    """Build networks of the same layers, with random weights.

    Parameters
    ----------
    blueprint : Blueprint
    image_shape : (height, width, 3)
    n_classes : int
    statistics : (mean, variance) or None
        As in `build_head`.

    Returns
    -------
    network, top : keras.Model
        Raw images to features, and features to probabilities.
    """
    # Seeded, so that dropout is the same after every load.
    with _policy(blueprint.dtype_policy), seeded(0), warnings.catch_warnings():
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
        features_shape = network.output.shape[1:]
        top = build_head(
            blueprint.head, n_classes, features_shape=features_shape, statistics=statistics
        )
    return network, top


@contextmanager
def _policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
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


def answer_probe(model: keras.Model, image_shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return what a model says of the probe image.

    Returns
    -------
    ndarray of shape (n_classes,), float64
    """
    # Called as it is: `predict` would compile the model first, which takes seconds.
    with without_retracing_notes():
        (answer,) = keras.ops.convert_to_numpy(model(make_probe(image_shape), training=False))
    return np.asarray(answer, dtype=np.float64)
