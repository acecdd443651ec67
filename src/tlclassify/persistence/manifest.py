"""What a saved file says of the classifier in it: one JSON text, held against these types."""

import math
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from tlclassify.analysis.evaluate import list_versions
from tlclassify.engines.metadata import decode_labels_from_json, encode_labels_as_json
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.inputs.augmentation import Augmentation
from tlclassify.networks.backbones import get_backbone, list_backbones
from tlclassify.networks.blueprints import POLICIES, Blueprint, answer_probe
from tlclassify.networks.heads import Head, get_head
from tlclassify.training.stages import Stage

FORMAT_VERSION = 2
NOT_KEPT = ("callbacks", "cache_dir", "engine")
_MAX_BYTES = 32 * 2**20  # it takes some ten times as much memory
_MAX_PIXELS = 2**24
_MAX_HIDDEN_LAYERS = 64
_PARTS: dict[str, Any] = {"Augmentation": Augmentation, "Head": Head, "Stage": Stage}
_NOT_FINITE = ("nan", "inf", "-inf")
NO_DIGEST = "0" * 64
"""What stands for the digest while it is computed."""

Side = Annotated[int, Meta(ge=1, le=_MAX_PIXELS)]


class Part(Struct, tag=True, forbid_unknown_fields=True):
    """A head, a stage or an augmentation, by its parameters."""

    kind: Literal["Augmentation", "Head", "Stage"]
    params: dict[str, bool | int | float | str | list[Any] | None]


class Function(Struct, tag=True, forbid_unknown_fields=True):
    """Where there was code of the user's own, which no file holds."""

    name: str


class File(Struct, tag=True, forbid_unknown_fields=True):
    """A path."""

    path: str


class Pairs(Struct, tag=True, forbid_unknown_fields=True):
    """A dict, whose keys may be other than text."""

    pairs: list[tuple[bool | int | float | str, float]]


Value = bool | int | float | str | Part | Function | File | Pairs | None


class _Version(Struct):
    """What every manifest has said and will say."""

    format_version: int


class Labels(Struct, forbid_unknown_fields=True):
    """Class labels and their dtype."""

    dtype: str
    labels: list[Any]


class Manifest(Struct, forbid_unknown_fields=True, kw_only=True):
    """All that a file holds of a classifier, but its arrays.

    The first five after the versions are the blueprint of the networks; `parameters` are what the
    classifier's own were when it was saved.
    """

    sha256: str = NO_DIGEST
    format_version: Literal[2] = 2
    versions: dict[str, str]
    backbone: str | Function
    weights: str | File | None
    head: Part | Function
    image_size: Annotated[int, Meta(ge=1, le=2048)]
    dtype_policy: str
    parameters: dict[str, Value]
    classes: Labels
    class_counts: Annotated[list[list[int]], Meta(min_length=1, max_length=2)]
    image_shape: tuple[Side, Side, Literal[3]]
    pixel_range: Literal[1, 255]
    n_features: Annotated[int, Meta(ge=1)]
    temperature: Annotated[float, Meta(ge=0.01, le=100)]
    history: list[dict[str, int | float | str]]
    probe: list[float]

    def __post_init__(self) -> None:
        """Check what types do not say."""
        n_classes = len(self.classes.labels)
        if {len(self.probe), *map(len, self.class_counts)} != {n_classes}:
            raise ValueError(f"it has numbers for others than its {n_classes} classes")
        if not all(map(math.isfinite, self.probe)):
            raise ValueError("its probe image has probabilities that are not finite")
        if math.prod(self.image_shape[:2]) > _MAX_PIXELS:
            raise ValueError(f"its images have more than {_MAX_PIXELS:,} pixels")
        if self.dtype_policy not in POLICIES:
            raise ValueError(f"its dtype_policy is {self.dtype_policy[:50]!r}")
        if not all(isinstance(row.get("stage"), str) for row in self.history):
            raise ValueError("its history has rows of no stage")
        head = from_value(self.head)
        if isinstance(self.head, Part) and get_head(head):
            n_layers = len(head.hidden_units)
            if n_layers > _MAX_HIDDEN_LAYERS:
                raise ValueError(
                    f"its head has {n_layers} hidden layers, more than {_MAX_HIDDEN_LAYERS}"
                )
        TransferClassifier(**from_value(self.parameters))
        decode_labels_from_json(self.classes.labels, self.classes.dtype)


def describe(clf: TransferClassifier) -> Manifest:
    """Return what a file says of a fitted classifier."""
    blueprint: Blueprint = clf.blueprint_
    backbone = _to_name(blueprint.backbone, blueprint.backbone_name)
    params = clf.get_params(deep=False)
    for name in NOT_KEPT:
        del params[name]
    if not isinstance(params["backbone"], str):
        params["backbone"] = backbone
    if isinstance(params["random_state"], np.random.RandomState):
        params["random_state"] = None
    if not isinstance(params["augmentation"], str | Augmentation):
        params["augmentation"] = None
    labels, dtype = encode_labels_as_json(clf.classes_)
    return Manifest(
        versions=list_versions(),
        backbone=backbone,
        weights=_to_value(blueprint.weights, "weights"),
        head=_to_value(blueprint.head, "head"),
        image_size=blueprint.image_size,
        dtype_policy=blueprint.dtype_policy,
        parameters={name: _to_value(value, name) for name, value in params.items()},
        classes=Labels(dtype, labels),
        class_counts=blueprint.class_counts,
        image_shape=clf.image_shape_,  # type: ignore[arg-type]
        pixel_range=clf.pixel_range_,  # type: ignore[arg-type]
        n_features=clf.n_features_,
        temperature=float(clf.temperature_),
        history=[
            {key: x if isinstance(x, str) or math.isfinite(x) else str(x) for key, x in row.items()}
            for row in clf.history_
        ],
        probe=answer_probe(clf.backbone_, clf.head_, image_shape=clf.image_shape_).tolist(),
    )


def _to_name(backbone: Any, name: str) -> str | Function:
    """Return a name that is in the registry of `load` too, or say that there is none."""
    if isinstance(backbone, str) or (name in list_backbones() and get_backbone(name) == backbone):
        return name
    return Function(name)


def _to_value(value: Any, name: str) -> Any:
    """Return a value in types that a manifest has."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str | Function):
        return value
    kind = type(value).__name__
    if type(value) is _PARTS.get(kind):
        params = value.get_params(deep=False)
        return Part(kind, {key: _to_value(x, f"{name}__{key}") for key, x in params.items()})  # type: ignore[arg-type]
    if isinstance(value, list | tuple):
        return [_to_value(item, name) for item in value]
    if isinstance(value, Mapping):
        return Pairs([(_to_value(key, name), _to_value(x, name)) for key, x in value.items()])
    if isinstance(value, PurePath):
        return File(str(value))
    if callable(value):
        return Function(f"{value.__module__}.{getattr(value, '__qualname__', kind)}")
    raise TypeError(
        f"{name} must be of a type that a file holds: None, a number, text, a path, a Head, Stage "
        f"or Augmentation, a dict or a function; received {kind}. Set it to None, save, and set it "
        "again after loading."
    )


def from_value(value: Any) -> Any:
    """Return what `_to_value` was given; lists become tuples, and functions stay descriptions."""
    if isinstance(value, list):
        return tuple(map(from_value, value))
    if isinstance(value, dict):
        return {key: from_value(item) for key, item in value.items()}
    if isinstance(value, Part):
        return _PARTS[value.kind](**from_value(value.params))
    if isinstance(value, File):
        return Path(value.path)
    return dict(value.pairs) if isinstance(value, Pairs) else value


def from_history(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a history as they were."""
    return [
        {key: float(item) if item in _NOT_FINITE else item for key, item in row.items()}
        for row in rows
    ]


def encode_manifest(manifest: Manifest) -> str:
    """Return a manifest as text, once it is known that `decode_manifest` takes it."""
    text = msgspec.json.encode(manifest).decode()
    decode_manifest(text)
    return text


def decode_manifest(text: str) -> Manifest:
    """Return the manifest in a text, once it has been held against its types.

    Raises
    ------
    msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError
    """
    if len(text) > _MAX_BYTES:
        raise ValueError(f"its manifest has {len(text):,} bytes, more than {_MAX_BYTES:,}")
    version = msgspec.json.decode(text, type=_Version).format_version
    if version != FORMAT_VERSION:
        raise ValueError(
            f"its format version is {version}, and this tlclassify reads {FORMAT_VERSION}. A later "
            "tlclassify may read it"
        )
    return msgspec.json.decode(text, type=Manifest)
