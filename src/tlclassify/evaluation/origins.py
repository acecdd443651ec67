"""Where a report comes from: the classifier's settings, its training, versions, a few images."""

import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlclassify._checks.images import check_images, pixel_limits

N_THUMBNAILS = 24  # of each kind
_THUMBNAIL_PIXELS = 128
_SETTING_WIDTH = 300
_INSTALLED = ("tlclassify", "numpy", "scikit-learn")
_LOADED = ("keras", "tensorflow", "jax", "torch")


@dataclass(frozen=True)
class Origin:
    """What a report's page says beside the numbers.

    Attributes
    ----------
    settings : mapping of str to str
        The classifier's type and parameters.
    versions : mapping of str to str
        Of Python and the libraries at work.
    created : str
        Date and time of the evaluation, UTC, ISO 8601.
    history : tuple of dict
        The classifier's `history_`; empty if it has none.
    thumbnails : mapping of int to ndarray of shape (height, width, 3), uint8
        By row, at most 128 pixels a side: the images most worth looking at; empty where the
        classifier was not given images.
    """

    settings: Mapping[str, str]
    versions: Mapping[str, str]
    created: str
    history: tuple[Mapping[str, Any], ...]
    thumbnails: Mapping[int, NDArray[np.uint8]]


def trace_origin(clf: Any, X: Any, rows: Iterable[int]) -> Origin:
    """Return the origin of a report on `X`, with pictures of the given rows."""
    return Origin(
        settings=_describe_settings(clf),
        versions=list_versions(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        history=tuple(dict(row) for row in getattr(clf, "history_", ())),
        thumbnails=_take_thumbnails(X, list(rows)),
    )


def _describe_settings(clf: Any) -> dict[str, str]:
    """Return a classifier's type and parameters as text."""
    params = clf.get_params(deep=False) if hasattr(clf, "get_params") else {}
    texts = {name: " ".join(repr(value).split()) for name, value in params.items()}
    short = {
        name: text if len(text) <= _SETTING_WIDTH else f"{text[: _SETTING_WIDTH - 3]}..."
        for name, text in texts.items()
    }
    return {"classifier": type(clf).__name__, **short}


def list_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries at work."""
    loaded = {name: sys.modules[name] for name in _LOADED if name in sys.modules}
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _INSTALLED},
        **{name: str(getattr(module, "__version__", "?")) for name, module in loaded.items()},
    }


def _take_thumbnails(X: Any, rows: list[int]) -> dict[int, NDArray[np.uint8]]:
    """Return small uint8 RGB pictures of some rows; of what is no image, none."""
    try:
        images = check_images(_pick(X, rows))
    except (TypeError, ValueError):
        return {}
    scale = 1.0
    if images.dtype.kind == "f" and pixel_limits(images)[1] <= 1:
        scale = 255.0
    return {row: _shrink(image, scale) for row, image in zip(rows, images, strict=True)}


def _pick(X: Any, rows: list[int]) -> Any:
    return [X[row] for row in rows] if isinstance(X, list | tuple) else np.asarray(X)[rows]


def _shrink(image: Any, scale: float) -> NDArray[np.uint8]:
    if isinstance(image, np.ndarray):
        picture = Image.fromarray(np.rint(image * scale).astype(np.uint8).squeeze())
    else:
        with Image.open(image) as file:
            picture = file.copy()
    picture = picture.convert("RGB")
    picture.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    return np.asarray(picture)
