"""What the networks of a fitted classifier were built from, and building them once more."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify.inputs.splits import seeded
from tlclassify.networks.backbones import build_frozen, get_backbone
from tlclassify.networks.cuts import flat_layers, freeze
from tlclassify.networks.heads import Head, HeadBuilder, Statistics, build_head
from tlclassify.networks.rows import Backbone

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")


@dataclass(frozen=True)
class Blueprint:
    """What a fit built its networks from, whatever its classifier's parameters say later.

    `weights` are those that the backbone began with, `image_size` the pixels a side at which it
    sees the images, `dtype_policy` Keras's policy of precision, by default that of now;
    `class_counts` the images of each class, of training and, where there is any, of validation.
    """

    backbone: str | Backbone | Callable[[Any], Any]
    weights: str | Path | None
    head: Head | HeadBuilder
    image_size: int
    dtype_policy: str = field(default_factory=lambda: str(keras.config.dtype_policy().name))
    class_counts: list[list[int]] = field(default_factory=list)

    @property
    def backbone_name(self) -> str:
        """The backbone's name, registered or not."""
        return self.backbone if isinstance(self.backbone, str) else get_backbone(self.backbone).name

    @property
    def weights_licence(self) -> str:
        """What is known of the licence of the weights that the backbone began with."""
        if self.weights is None:
            return "none (it began with random weights)"
        if self.weights != "pretrained":
            return "unknown (that of the file passed as weights)"
        return get_backbone(self.backbone).licence or "unknown"


def build_network_again(blueprint: Blueprint, *, image_shape: tuple[int, int, int]) -> keras.Model:
    """Build the network from raw images to features once more, frozen, with random weights."""
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
    """Build the head once more, with random weights."""
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


def make_probe(image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return one image, always the same for a shape: slanted stripes, another in each channel.

    Mirrored, turned, with other channels first or differently scaled, it is another image.
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
    """
    # Called as they are: `predict` would compile a model first, which takes seconds.
    features = network(make_probe(image_shape), training=False)
    (answer,) = keras.ops.convert_to_numpy(top(features, training=False))
    return np.asarray(answer, dtype=np.float64)


def reduce_network(network: keras.Model) -> dict[str, Any]:
    """Return what pickle keeps of a network: Keras's own reduction, and the user's own layers."""
    classes = {keras.saving.get_registered_name(c): c for c in map(type, flat_layers(network))}
    # Keras finds classes that are not registered only where it is told of them.
    own = {name: c for name, c in classes.items() if not c.__module__.startswith("keras.")}
    return {"reduced": network.__reduce__(), "classes": own}


def rebuild_network(state: dict[str, Any]) -> keras.Model:
    """Return a network of its own from what `reduce_network` has kept."""
    build, arguments = state["reduced"]
    # Keras draws seeds for layers that have none from Python's own generator.
    with seeded(0), keras.saving.custom_object_scope(state["classes"]):
        return build(*arguments)
