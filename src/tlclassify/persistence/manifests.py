"""The manifest of a saved classifier: what it says, and whether it may be believed."""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.parameters import check_choice, number_problem, raise_problems
from tlclassify.engines.metadata import decode_labels_from_json, encode_labels_as_json
from tlclassify.networks.blueprints import POLICIES, expected_shapes
from tlclassify.networks.heads import Head, get_head
from tlclassify.persistence.saved_files import DTYPES, Member
from tlclassify.persistence.saved_parameters import (
    SavedFunction,
    decode_parameters,
    decode_value,
    encode_value,
)

FORMAT, FORMAT_VERSION = "tlclassify", 1
MAX_IMAGE_SIZE = 2048
MAX_IMAGE_PIXELS = 2**24
MAX_HIDDEN_LAYERS = 64
_MAX_DIMENSIONS = 16
_MAX_MESSAGE = 800
_PARTS = ("backbone", "standardization", "head")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class Manifest:
    """What a file says of the classifier in it.

    Parameters
    ----------
    versions : dict of str to str
        Of the libraries that wrote it.
    backbone : str
    weights : {"pretrained"}, path or None
        Those that the backbone began with.
    head : Head or SavedFunction
        What the head was built from.
    image_size : int
    dtype_policy : str
        These five are the blueprint of the networks.
    parameters : dict of str to value
    classes : ndarray of shape (n_classes,)
    class_counts : list of list of int
        Training images of each class, then validation images where there were some.
    image_shape : (height, width, 3)
    pixel_range : {255, 1}
    n_features : int
    temperature : float
    history : list of dict
    probe : ndarray of shape (n_classes,), float64
        What the model said of the probe image.
    arrays : dict of str to Member
        By the member's name.
    """

    versions: dict[str, str]
    backbone: str
    weights: str | Path | None
    head: Head | SavedFunction
    image_size: int
    dtype_policy: str
    parameters: dict[str, Any]
    classes: NDArray[Any]
    class_counts: list[list[int]]
    image_shape: tuple[int, int, int]
    pixel_range: int
    n_features: int
    temperature: float
    history: list[dict[str, Any]]
    probe: NDArray[np.float64]
    arrays: dict[str, Member]

    def part(self, name: str) -> list[str]:
        """Return the names of the members that belong to a part of the classifier, in order."""
        return [member for member in self.arrays if member.startswith(f"{name}/")]


def member_name(part: str, number: int) -> str:
    """Return the name of an array's member: no file decides where anything lies."""
    return f"{part}/{number:04d}.npy"


def encode_classes(classes: NDArray[Any]) -> dict[str, Any]:
    """Return labels and their dtype in types that JSON has."""
    labels, dtype_name = encode_labels_as_json(classes)
    return {"dtype": dtype_name, "labels": labels}


def encode_history(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a history in types that JSON has."""
    return [
        {key: encode_value(value, name="history_") for key, value in row.items()} for row in history
    ]


def encode_members(members: dict[str, Member]) -> dict[str, Any]:
    """Return what a manifest says of its arrays, part by part."""
    return {
        part: [
            {"dtype": member.dtype, "shape": list(member.shape), "sha256": member.sha256}
            for name, member in members.items()
            if name.startswith(f"{part}/")
        ]
        for part in _PARTS
    }


def parse_manifest(data: Any) -> Manifest:
    """Return a manifest whose every entry is of the right type and within its limits.

    Parameters
    ----------
    data : anything
        As `json.loads` returns it.

    Raises
    ------
    ValueError
        With all that is wrong.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError("its manifest is not that of a classifier")
    version = data.get("format_version")
    if type(version) is not int or version not in _ENTRIES:
        raise ValueError(
            f"its format version is {_short(repr(version))}, and this tlclassify reads "
            f"{', '.join(map(str, _ENTRIES))}. A later tlclassify may read it"
        )
    checks = _ENTRIES[version]
    odd = sorted(data.keys() ^ {"format", "format_version", *checks})
    if odd:
        raise ValueError(_short(f"its manifest has entries too many or too few: {odd[:5]}"))
    values, problems = {}, []
    for name, check in checks.items():
        try:
            values[name] = check(data[name])
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            problems.append(f"{name}: {str(error).rstrip('.')}")
    if problems:
        raise ValueError(_short(f"its manifest is not valid: {'; '.join(problems)}"))
    manifest = Manifest(**values)
    _check_together(manifest)
    return manifest


def _short(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]} [...]"


def _check_together(manifest: Manifest) -> None:
    """Check what one entry says of another."""
    n_classes = len(manifest.classes)
    lengths = {len(manifest.probe), *map(len, manifest.class_counts)}
    if lengths != {n_classes}:
        raise ValueError(f"its manifest has {n_classes} classes, but numbers for {lengths}")
    found = [manifest.arrays[name].shape for name in manifest.part("standardization")]
    if found not in ([], [(manifest.n_features,)] * 2):
        raise ValueError("its manifest has a standardization of another width than its features")
    if isinstance(manifest.head, SavedFunction):
        if found:
            raise ValueError("its manifest has a standardization, which no function's head has")
        return
    shapes = [manifest.arrays[name].shape for name in manifest.part("head")]
    if shapes != expected_shapes(manifest.head, manifest.n_features, n_classes):
        raise ValueError("its manifest has arrays for the head that do not fit the head's layers")


def _whole(value: Any, *, low: int, high: int) -> int:
    raise_problems([number_problem("value", value, integer=True, low=low, high=high)])
    return int(value)


def _number(value: Any, *, low: float = -np.inf, high: float = np.inf) -> float:
    raise_problems([number_problem("value", value, low=low, high=high)])
    return float(value)


def _typed(value: Any, *, type_: type) -> Any:
    if not isinstance(value, type_):
        raise TypeError(f"value must be {type_.__name__}; received {type(value).__name__}")
    return value


_text = partial(_typed, type_=str)
_list = partial(_typed, type_=list)
_dict = partial(_typed, type_=dict)


def _weights(value: Any) -> str | Path | None:
    weights = decode_value(value)
    if weights is not None and not isinstance(weights, str | Path):
        raise TypeError(f"value must be text, a path or None; received {type(weights).__name__}")
    return weights


def _head(value: Any) -> Head | SavedFunction:
    head = decode_value(value)
    if isinstance(head, SavedFunction):
        return head
    checked: Head = get_head(_typed(head, type_=Head))  # type: ignore[assignment]
    n_layers = len(checked.hidden_units)
    if n_layers > MAX_HIDDEN_LAYERS:
        raise ValueError(
            f"hidden_units must name {MAX_HIDDEN_LAYERS} layers or fewer; received {n_layers:,}"
        )
    return checked


def _versions(value: Any) -> dict[str, str]:
    return {name: _text(version) for name, version in _dict(value).items()}


def _policy(value: Any) -> str:
    return check_choice("value", value, POLICIES)


def _image_shape(value: Any) -> tuple[int, int, int]:
    if len(_list(value)) != 3 or value[2] != 3:
        raise ValueError(f"value must be [height, width, 3]; received {value[:5]!r}")
    height, width = (_whole(side, low=1, high=MAX_IMAGE_PIXELS) for side in value[:2])
    _whole(height * width, low=1, high=MAX_IMAGE_PIXELS)
    return height, width, 3


def _pixel_range(value: Any) -> int:
    if type(value) is not int or value not in {1, 255}:
        raise ValueError(f"value must be 1 or 255; received {value!r}")
    return value


def _classes(value: Any) -> NDArray[Any]:
    if _dict(value).keys() != {"dtype", "labels"}:
        raise ValueError("value must have dtype and labels")
    classes = decode_labels_from_json(value["labels"], value["dtype"])
    if len(classes) < 2:
        raise ValueError("labels must be two or more")
    return classes


def _class_counts(value: Any) -> list[list[int]]:
    if len(_list(value)) not in {1, 2}:
        raise ValueError(f"value must have one or two rows; received {len(value)}")
    return [[_whole(count, low=0, high=2**53) for count in _list(row)] for row in value]


def _history(value: Any) -> list[dict[str, Any]]:
    rows = [{key: decode_value(item) for key, item in _dict(row).items()} for row in _list(value)]
    if any(type(item) not in {str, int, float} for row in rows for item in row.values()):
        raise TypeError("rows must hold text and numbers only")
    if any(not isinstance(row.get("stage"), str) for row in rows):
        raise ValueError("rows must name their stage")
    return rows


def _probe(value: Any) -> NDArray[np.float64]:
    return np.array([_number(chance) for chance in _list(value)], dtype=np.float64)


def _arrays(value: Any) -> dict[str, Member]:
    if _dict(value).keys() != set(_PARTS):
        raise ValueError(f"value must have {', '.join(_PARTS)}; received {[*islice(value, 5)]}")
    return {
        member_name(part, number): _member(item)
        for part in _PARTS
        for number, item in enumerate(_list(value[part]))
    }


def _member(value: Any) -> Member:
    if _dict(value).keys() != {field.name for field in fields(Member)}:
        raise ValueError("an array must have dtype, shape and sha256")
    if not _SHA256.fullmatch(_text(value["sha256"])):
        raise ValueError("sha256 must be 64 hexadecimal digits")
    if len(_list(value["shape"])) > _MAX_DIMENSIONS:
        raise ValueError(f"shape must have {_MAX_DIMENSIONS} numbers or fewer")
    shape = tuple(_whole(length, low=0, high=2**31) for length in value["shape"])
    return Member(check_choice("dtype", value["dtype"], DTYPES), shape, value["sha256"])


_ENTRIES: dict[int, dict[str, Callable[[Any], Any]]] = {
    1: {
        "versions": _versions,
        "backbone": _text,
        "weights": _weights,
        "head": _head,
        "image_size": partial(_whole, low=1, high=MAX_IMAGE_SIZE),
        "dtype_policy": _policy,
        "parameters": decode_parameters,
        "classes": _classes,
        "class_counts": _class_counts,
        "image_shape": _image_shape,
        "pixel_range": _pixel_range,
        "n_features": partial(_whole, low=1, high=2**31),
        "temperature": partial(_number, low=0.01, high=100),
        "history": _history,
        "probe": _probe,
        "arrays": _arrays,
    }
}
"""By format version, what is expected under each name."""
