"""What an exported file says of itself, as one JSON document inside it."""

import json
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tlclassify.saved_labels import decode_labels_from_json, encode_labels_as_json

__all__ = ["METADATA_FILE", "METADATA_KEY", "ExportMetadata", "read_metadata"]

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
