"""Where a report comes from: the classifier's settings, its training, versions, a few images."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify.evaluation.text import short_name

N_THUMBNAILS = 24  # of each kind
_SETTING_WIDTH = 300
_LIBRARIES = {
    name: name for name in ("tlclassify", "numpy", "keras", "tensorflow", "jax", "torch")
} | {"scikit-learn": "sklearn"}


@dataclass(frozen=True)
class Origin:
    """What a report's page says beside the numbers.

    Settings and versions are texts by name, `created` is a time in UTC (ISO 8601), the history has
    a row an epoch, and thumbnails are uint8 RGB pictures by the row of their image.
    """

    settings: Mapping[str, str]
    versions: Mapping[str, str]
    created: str
    history: tuple[Mapping[str, Any], ...]
    thumbnails: Mapping[int, NDArray[np.uint8]]


def trace_origin(clf: Any, thumbnails: Mapping[int, NDArray[np.uint8]]) -> Origin:
    """Return the origin of a report on a classifier as it is now."""
    params = clf.get_params(deep=False) if hasattr(clf, "get_params") else {}
    texts = {name: short_name(repr(value), width=_SETTING_WIDTH) for name, value in params.items()}
    # Other libraries keep what they like under this name.
    history = getattr(clf, "history_", None)
    rows = history if isinstance(history, list | tuple) else ()
    return Origin(
        settings={"classifier": type(clf).__name__, **texts},
        versions=list_versions(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        history=tuple(dict(row) for row in rows if {"loss", "accuracy"} <= set(row)),
        thumbnails=thumbnails,
    )


def list_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries at work."""
    loaded = {name: sys.modules.get(module) for name, module in _LIBRARIES.items()}
    found = {name: getattr(module, "__version__", None) for name, module in loaded.items()}
    return {"python": platform.python_version()} | {k: str(v) for k, v in found.items() if v}
