"""What the networks of a fitted classifier were built from, and building them once more."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from tlclassify._checks.images import STRETCHED, Framing
from tlclassify.inputs.splits import seeded
from tlclassify.networks.backbones import AnyBackbone, build_backbone, get_backbone
from tlclassify.networks.cuts import BESIDE, freeze
from tlclassify.networks.heads import Head, HeadBuilder, build_pooling
from tlclassify.networks.sources import own_objects


@dataclass(frozen=True)
class Blueprint:
    """What a fit built its networks from, whatever its classifier's parameters say later."""

    backbone: AnyBackbone
    # Those that the backbone began with.
    weights: str | Path | None
    head: Head | HeadBuilder
    # Pixels a side at which the backbone, or each of several, sees the images.
    image_sizes: Sequence[int]
    dtype_policy: str = field(default_factory=lambda: str(keras.config.dtype_policy().name))
    # Images of each class, of training and, where there is any, of validation.
    class_counts: list[list[int]] = field(default_factory=list)
    # Whether the probabilities are the mean of those for an image and for its mirror image.
    is_mirrored: bool = False
    # How images are brought before the backbone.
    framing: Framing = STRETCHED

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


def build_frozen(
    blueprint: Blueprint, *, image_shape: tuple[int, int], random_state: int | None = None
) -> keras.Model:
    """Build the network up to the head's cut, frozen; each part of the backbone has a size."""
    row, head, weights = get_backbone(blueprint.backbone), blueprint.head, blueprint.weights
    if len(row.parts) > 1 and not (isinstance(head, Head) and weights in {"pretrained", None}):
        raise ValueError(
            "backbone must be a single one with a head or weights of your own; received "
            f"{row.name!r}. Pass a Head, and weights='pretrained' or None."
        )
    parts = []
    for part, size in zip(row.parts, blueprint.image_sizes, strict=True):
        backbone = build_backbone(
            part,
            image_shape=image_shape,
            image_size=size,
            weights=weights,
            framing=blueprint.framing,
            random_state=random_state,
        )
        pooled = build_pooling(head, backbone.output)
        parts.append(keras.Model(backbone.input, pooled, name=part.name))
    network = parts[0]
    if len(parts) > 1:
        images = keras.Input(network.input.shape[1:], dtype="uint8", name="images")
        beside = keras.layers.Concatenate(name=BESIDE)([part(images) for part in parts])
        network = keras.Model(images, beside, name=row.name)
    freeze(network)
    return network


@contextmanager
def as_in_the_fit(blueprint: Blueprint) -> Iterator[None]:
    """Build the networks once more as the fit did, but for their random weights."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(blueprint.dtype_policy)
    try:
        # Where dropout stood is not kept; seeded, it begins at the same place after every load.
        with seeded(0), warnings.catch_warnings():
            # Of a small feature map the fit has warned.
            warnings.filterwarnings("ignore", message="image_size=")
            yield
    finally:
        keras.config.set_dtype_policy(before)


def reduce_network(network: keras.Model) -> dict[str, Any]:
    """Return what pickle keeps of a network: Keras's own reduction, and the user's own layers."""
    # Keras finds what is not registered only where it is told of it.
    return {"reduced": network.__reduce__(), "own": own_objects(network)}


def rebuild_network(state: dict[str, Any]) -> keras.Model:
    """Return a network of its own from what `reduce_network` has kept."""
    build, arguments = state["reduced"]
    # Keras draws seeds for layers that have none from Python's own generator.
    with seeded(0), keras.saving.custom_object_scope(state["own"]):
        return build(*arguments)
