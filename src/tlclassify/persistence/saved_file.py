"""The file of a saved classifier: safetensors, and a manifest of checked types in its metadata."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, cast

import keras
import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save as serialize

from tlclassify._checks.files import write_whole
from tlclassify.analysis.evaluate import list_versions
from tlclassify.engines.metadata import decode_labels_from_json, encode_labels_as_json
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.inputs.augmentation import Augmentation
from tlclassify.inputs.images import make_probe
from tlclassify.networks.backbones import get_backbone, list_backbones
from tlclassify.networks.heads import Head, get_head
from tlclassify.training.stages import Stage

FORMAT_VERSION = 4
NO_DIGEST = "0" * 64
"""What stands for the digest while it is computed."""
_KEY = "tlclassify"
# What a manifest takes over from the record of the same name.
IN_BLUEPRINT = ("weights", "head", "image_sizes", "dtype_policy", "class_counts", "is_mirrored")
_NOT_KEPT = ("callbacks", "cache_dir", "engine")
_MAX_BYTES = 32 * 2**20  # it takes some ten times as much memory
_MAX_PIXELS = 2**24
_PARTS: dict[str, Any] = {"Augmentation": Augmentation, "Head": Head, "Stage": Stage}

_Side = Annotated[int, Meta(ge=1, le=_MAX_PIXELS)]
_SeenSide = Annotated[int, Meta(ge=1, le=2048)]


class Part(Struct, tag=True, forbid_unknown_fields=True):
    """A head, a stage or an augmentation, by its parameters."""

    kind: Literal["Augmentation", "Head", "Stage"]
    params: dict[str, bool | int | float | str | list[Any] | None]


class Function(Struct, tag=True, forbid_unknown_fields=True):
    """Where there was code of the user's own, which no file holds."""

    name: str


class Pairs(Struct, tag=True, forbid_unknown_fields=True):
    """A dict, whose keys may be other than text."""

    pairs: list[tuple[bool | int | float | str, float]]


class _Version(Struct):
    """What every manifest has said and will say."""

    format_version: int


class Manifest(Struct, forbid_unknown_fields=True, kw_only=True):
    """All that a file holds of a classifier, but its arrays."""

    sha256: str = NO_DIGEST
    format_version: Literal[4] = 4
    versions: dict[str, str]
    backbone: str | list[str] | Function
    weights: str | None
    head: Part | Function
    image_sizes: Annotated[list[_SeenSide], Meta(min_length=1, max_length=16)]
    dtype_policy: Literal[
        "float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"
    ]
    parameters: dict[str, bool | int | float | str | list[str] | Part | Function | Pairs | None]
    classes: list[Any]
    classes_dtype: str
    class_counts: Annotated[list[list[int]], Meta(min_length=1, max_length=2)]
    is_mirrored: bool = False
    aspect: Literal["stretch", "pad", "crop", "soft"] = "stretch"  # as files without the word were
    image_shape: tuple[_Side, _Side, Literal[3]]
    pixel_range: Literal[1, 255]
    temperature: Annotated[float, Meta(ge=0.01, le=100)]
    history: list[dict[str, int | float | str | None]]  # None where a number is not finite
    probe: list[float]

    def __post_init__(self) -> None:
        """Check what types do not say, and what would take much memory."""
        if math.prod(self.image_shape[:2]) > _MAX_PIXELS:
            raise ValueError(f"its images have more than {_MAX_PIXELS:,} pixels")
        if not all(map(math.isfinite, self.probe)):
            raise ValueError("its probe image has probabilities that are not finite")
        decode_labels_from_json(self.classes, self.classes_dtype)
        TransferClassifier(**from_value(self.parameters))
        if isinstance(self.head, Part):
            get_head(from_value(self.head))


def write_file(path: str | Path, manifest: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays and a manifest, in which a digest of both takes the place of `NO_DIGEST`."""
    text = manifest.replace(NO_DIGEST, _digest(manifest, sorted(arrays.items())), 1)
    write_whole(path, serialize(arrays, metadata={_KEY: text}))


def read_file(path: Path) -> tuple[Manifest, dict[str, list[NDArray[Any]]]]:
    """Return the manifest and the arrays by part, in order, of a file as it was written."""
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            raise ValueError(
                "it is a zip archive, as files of format version 1 were, which this tlclassify "
                "does not read"
            )
    with cast("Any", safe_open(path, framework="numpy")) as file:
        text = (file.metadata() or {}).get(_KEY)
        if text is None:
            raise ValueError("it holds arrays, but says nothing of a classifier")
        manifest = decode_manifest(text)
        arrays = [(name, file.get_tensor(name)) for name in sorted(file.keys())]
    if manifest.sha256 != _digest(text.replace(manifest.sha256, NO_DIGEST, 1), arrays):
        raise ValueError("its content does not have the SHA-256 that it says, so it is damaged")
    parts: dict[str, list[NDArray[Any]]] = defaultdict(list)
    for name, array in arrays:
        parts[name.partition("/")[0]].append(array)
    return manifest, parts


def _digest(text: str, arrays: Iterable[tuple[str, NDArray[Any]]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, array in arrays:
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def encode_manifest(clf: TransferClassifier) -> str:
    """Return what a file says of a fitted classifier, and what `decode_manifest` takes."""
    blueprint, params = clf.blueprint_, clf.get_params(deep=False)
    backbone: Any = blueprint.backbone
    if not isinstance(backbone, str):
        row = get_backbone(backbone)
        names = [part.name for part in row.parts]
        # Names that the registry has for the same backbones will do for `load`.
        is_known = set(names) <= set(list_backbones()) and get_backbone(names) == row
        backbone = (names if len(names) > 1 else names[0]) if is_known else Function(row.name)
    if not isinstance(params["backbone"], str):
        params["backbone"] = backbone
    if isinstance(params["random_state"], np.random.RandomState):
        params["random_state"] = None
    if not isinstance(params["augmentation"], str | Augmentation):
        params["augmentation"] = None
    classes, classes_dtype = encode_labels_as_json(clf.classes_)
    manifest = Manifest(
        versions=list_versions(),
        backbone=backbone,
        **{name: _to_value(getattr(blueprint, name), name) for name in IN_BLUEPRINT},
        aspect=blueprint.framing.aspect,  # type: ignore[arg-type]
        parameters={k: _to_value(v, k) for k, v in params.items() if k not in _NOT_KEPT},
        classes=classes,
        classes_dtype=classes_dtype,
        image_shape=clf.image_shape_,  # type: ignore[arg-type]
        pixel_range=clf.pixel_range_,  # type: ignore[arg-type]
        temperature=float(clf.temperature_),
        history=clf.history_,
        probe=answer_probe(clf).tolist(),
    )
    text = msgspec.json.encode(manifest).decode()
    decode_manifest(text)
    return text


def answer_probe(clf: TransferClassifier) -> NDArray[np.float64]:
    """Return what is said of the probe image before any temperature, which scales differences."""
    # Called as they are: `predict` would compile a model first, which takes seconds.
    features = clf.backbone_(make_probe(clf.image_shape_), training=False)
    (answer,) = keras.ops.convert_to_numpy(clf.head_(features, training=False))
    return np.asarray(answer, dtype=np.float64)


def decode_manifest(text: str) -> Manifest:
    """Return the manifest in a text, once it has been held against its types."""
    if len(text) > _MAX_BYTES:
        raise ValueError(f"its manifest has {len(text):,} bytes, more than {_MAX_BYTES:,}")
    version = msgspec.json.decode(text, type=_Version).format_version
    if version != FORMAT_VERSION:
        raise ValueError(
            f"its format version is {version}, and this tlclassify reads {FORMAT_VERSION}. "
            f"{'A later' if version > FORMAT_VERSION else 'An earlier'} tlclassify may read it"
        )
    return msgspec.json.decode(text, type=Manifest)


def _to_value(value: Any, name: str) -> Any:
    """Return a value in types that a manifest has."""
    kind = type(value).__name__
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str | Function):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if type(value) is _PARTS.get(kind):
        params = value.get_params(deep=False)
        return Part(kind, {key: _to_value(x, f"{name}__{key}") for key, x in params.items()})  # type: ignore[arg-type]
    if isinstance(value, list | tuple):
        return [_to_value(item, name) for item in value]
    if isinstance(value, dict):
        return Pairs([(_to_value(key, name), _to_value(x, name)) for key, x in value.items()])
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
    return dict(value.pairs) if isinstance(value, Pairs) else value
