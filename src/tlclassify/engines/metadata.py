"""What an exported file says of itself, as one JSON document inside it."""

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METADATA_KEY = "tlclassify"


METADATA_FILE = "tlclassify.json"


_FORMAT = 1


_MAX_CHARACTERS = 4 * 2**20


@dataclass(frozen=True)
class ExportMetadata:
    """What is known of an exported classifier beside its graph.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels, in the order of the graph's output.
    image_shape : (height, width, 3)
        Pixels of the graph's input.
    pixel_range : {255, 1}
        The value of white in floating-point pixels that the classifier was fitted on.
    backbone : str
        The name of the backbone's row.
    weights_licence : str
        What is known of the licence of the weights that the backbone began with.
    precision : {"float32", "float16", "int8"}
        In which the weights are kept.
    version : str
        Of the tlclassify that wrote the file.
    digest : str
        SHA-256 of a second file that belongs to this one; empty where there is none.
    """

    classes: NDArray[Any]
    image_shape: tuple[int, int, int]
    pixel_range: int
    backbone: str = ""
    weights_licence: str = ""
    precision: str = "float32"
    version: str = ""
    digest: str = ""

    def to_json(self) -> str:
        """Return the document, in ASCII, so that every container holds it unchanged."""
        labels, dtype_name = encode_labels_as_json(self.classes)
        classes = {"classes": labels, "classes_dtype": dtype_name}
        fields = {name: getattr(self, name) for name in _TYPES}
        return json.dumps({"format": _FORMAT, **classes, **fields})


_TYPES: dict[str, type] = {
    "image_shape": tuple,
    "pixel_range": int,
    "backbone": str,
    "weights_licence": str,
    "precision": str,
    "version": str,
    "digest": str,
}


def read_metadata(text: str | None, *, path: object) -> ExportMetadata:
    """Return what a file says of itself, every value checked.

    Parameters
    ----------
    text : str or None
        The document; None where the file holds none.
    path : object
        The file, for messages.

    Returns
    -------
    ExportMetadata

    Raises
    ------
    ValueError
        If there is no document, or it is not as `ExportMetadata.to_json` writes it.
    """
    if text is None:
        raise ValueError(
            f"path must name a file that tlclassify.export has written; {str(path)!r} holds no "
            "class names and image size. Run a graph from elsewhere with its own runtime."
        )
    try:
        return _parse(text)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"path: what {str(path)!r} says of itself is not valid ({error}). Export it again."
        ) from error


def _parse(text: str) -> ExportMetadata:
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"{len(text)} characters, more than {_MAX_CHARACTERS}")
    record = json.loads(text)
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"format must be {_FORMAT}; received {found!r}")
    values = {**record, "image_shape": _parse_shape(record.get("image_shape"))}
    for name, kind in _TYPES.items():
        if type(values.get(name)) is not kind:
            raise TypeError(
                f"{name} must be of type {kind.__name__}; received {values.get(name)!r}"
            )
    if values["pixel_range"] not in {1, 255}:
        raise ValueError(f"pixel_range must be 1 or 255; received {values['pixel_range']}")
    classes = decode_labels_from_json(record.get("classes"), record.get("classes_dtype"))
    return ExportMetadata(classes, **{name: values[name] for name in _TYPES})


def _parse_shape(shape: Any) -> tuple[int, int, int]:
    is_whole = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
    if not is_whole or len(shape) != 3 or shape[2] != 3:
        raise ValueError(f"image_shape must be [height, width, 3]; received {shape!r}")
    return tuple(shape)


_MAX_BYTES = 16 * 2**20


# What JSON makes of a label, by NumPy's kind.
_KINDS = {"U": str, "S": str, "i": int, "u": int, "b": bool, "f": float}


_DTYPE = re.compile(r"[<>|]([UiubfS])[1-9][0-9]{0,6}")


def encode_labels_as_json(classes: NDArray[Any]) -> tuple[list[Any], str]:
    """Return labels in types that JSON has, and the name of their dtype."""
    labels = classes.tolist()
    if classes.dtype.kind == "S":
        labels = [label.decode("latin-1") for label in labels]
    return labels, classes.dtype.str


def decode_labels_from_json(labels: Any, dtype_name: Any) -> NDArray[Any]:
    """Return labels as an array of the named dtype.

    Parameters
    ----------
    labels, dtype_name : anything
        As `encode_labels_as_json` returns them, from a file that anyone may have written.

    Returns
    -------
    ndarray of shape (n_classes,)

    Raises
    ------
    ValueError, TypeError, OverflowError
        If the dtype is none of labels, or the labels are none, too large, not all different, of
        another type, or do not fit.
    """
    known = _DTYPE.fullmatch(dtype_name) if isinstance(dtype_name, str) else None
    if known is None:
        raise ValueError(f"classes_dtype must be one of labels; received {dtype_name!r}")
    wanted = _KINDS[known[1]]
    if not isinstance(labels, list) or not labels or any(type(x) is not wanted for x in labels):
        raise TypeError(f"classes must be a list of {wanted.__name__} that is not empty")
    dtype = np.dtype(dtype_name)
    # A dtype of endless text would make a small file large in memory.
    if dtype.itemsize * len(labels) > _MAX_BYTES:
        raise ValueError(f"{len(labels)} classes of {dtype_name!r} are too large")
    found = [label.encode("latin-1") for label in labels] if known[1] == "S" else labels
    classes = np.array(found, dtype=dtype)
    if classes.tolist() != found or len(set(found)) != len(found):
        raise ValueError(f"classes must be all different, and fit into {dtype_name!r}")
    return classes
