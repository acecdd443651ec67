"""What an exported file says of itself, as one JSON document inside it."""

import json
import re
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

METADATA_KEY = "tlclassify"
METADATA_FILE = "tlclassify.json"
_MAX_CHARACTERS = 4 * 2**20
_MAX_BYTES = 16 * 2**20
_DTYPE = re.compile(r"[<>|]([UiubfS])[1-9][0-9]{0,6}")
_Pixels = Annotated[int, msgspec.Meta(gt=0)]


class ExportMetadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of an exported classifier or extractor beside its graph."""

    # As `encode_labels_as_json` returns them, in the order of the graph's output.
    classes: list[str | int | bool | float] = []
    classes_dtype: str = ""
    # Of an extractor, which has no classes.
    n_features: int = 0
    image_shape: tuple[_Pixels, _Pixels, Literal[3]]
    pixel_range: Literal[1, 255]
    aspect: Literal["stretch", "pad", "crop", "soft"] = "stretch"
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)
    backbone: str = ""
    weights_licence: str = ""
    precision: str = "float32"
    version: str = ""
    # The SHA-256 of a second file that belongs to this one, if there is one.
    digest: str = ""
    format: Literal[1] = 1

    def __post_init__(self) -> None:
        if not self.n_features:
            _ = self.labels

    @property
    def labels(self) -> NDArray[Any]:
        """The class names as an array, of shape (n_classes,)."""
        return decode_labels_from_json(self.classes, self.classes_dtype)

    def to_json(self) -> str:
        """Return the document, in ASCII, so that every container holds it unchanged."""
        return json.dumps(msgspec.to_builtins(self))


def read_metadata(text: str | None, *, path: object) -> ExportMetadata:
    """Return what a file says of itself, every value checked; None: it says nothing."""
    if text is None or len(text) > _MAX_CHARACTERS:
        raise ValueError(
            f"path must name a file that tlclassify.export has written; {str(path)!r} holds no "
            "class names and image size. Run a graph from elsewhere with its own runtime."
        )
    try:
        # Not by msgspec, whose JSON has no half of a surrogate pair, which a file's name may have.
        return msgspec.convert(json.loads(text), type=ExportMetadata)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"path: what {str(path)!r} says of itself is not valid ({error}). Export it again."
        ) from error


def encode_labels_as_json(classes: NDArray[Any]) -> tuple[list[Any], str]:
    """Return labels in types that JSON has, and the name of their dtype."""
    labels = classes.tolist()
    if classes.dtype.kind == "S":
        labels = [label.decode("latin-1") for label in labels]
    return labels, classes.dtype.str


def decode_labels_from_json(labels: list[Any], dtype_name: str) -> NDArray[Any]:
    """Return labels, from a file that anyone may have written, as an array of the named dtype."""
    if not _DTYPE.fullmatch(dtype_name):
        raise ValueError(f"classes_dtype must be one of labels; received {dtype_name!r}")
    dtype = np.dtype(dtype_name)
    # A dtype of endless text would make a small file large in memory.
    if dtype.itemsize * len(labels) > _MAX_BYTES:
        raise ValueError(f"{len(labels)} classes of {dtype_name!r} are too large")
    found = [str(x).encode("latin-1") for x in labels] if dtype.kind == "S" else labels
    classes = np.array(found, dtype=dtype)
    if not labels or classes.tolist() != found or len(set(found)) != len(found):
        raise ValueError(f"classes must be one or more, all different, and of {dtype_name!r}")
    return classes
