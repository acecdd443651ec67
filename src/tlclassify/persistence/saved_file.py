"""The container of a saved classifier: safetensors, whose metadata is one manifest."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from tlclassify._checks.files import open_whole
from tlclassify.persistence.manifest import NO_DIGEST, decode_manifest

_KEY = "tlclassify"


def write_file(path: str | Path, manifest: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays and a manifest, in which a digest of both takes the place of `NO_DIGEST`."""
    text = manifest.replace(
        NO_DIGEST, _digest(manifest, ((name, arrays[name]) for name in sorted(arrays))), 1
    )
    with open_whole(path) as file:
        file.close()
        draft = Path(file.name)
        mode = draft.stat().st_mode
        save_file(arrays, draft, metadata={_KEY: text})
        # It has put another file in its place, which nobody else may read.
        draft.chmod(mode)


class SavedFile:
    """An open file, which is as it was written: its manifest, its arrays, their shapes."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                raise ValueError(
                    "it is a zip archive, as files of format version 1 were, which this "
                    "tlclassify does not read"
                )
        self._file = cast("Any", safe_open(path, framework="numpy"))
        text = (self._file.metadata() or {}).get(_KEY)
        if text is None:
            raise ValueError("it holds arrays, but says nothing of a classifier")
        self.manifest = decode_manifest(text)
        digest = self.manifest.sha256
        # An array at a time, so that the file is never in memory as a whole.
        arrays = ((name, self._file.get_tensor(name)) for name in self._names(""))
        if digest != _digest(text.replace(digest, NO_DIGEST, 1), arrays):
            raise ValueError("its content does not have the SHA-256 that it says, so it is damaged")

    def shapes(self, part: str) -> list[tuple[int, ...]]:
        """Return the shapes of the arrays of a part, in order."""
        return [tuple(self._file.get_slice(name).get_shape()) for name in self._names(f"{part}/")]

    def read(self, part: str) -> Iterator[NDArray[Any]]:
        """Yield the arrays of a part, in order."""
        return map(self._file.get_tensor, self._names(f"{part}/"))

    def _names(self, beginning: str) -> list[str]:
        return sorted(filter(lambda name: name.startswith(beginning), self._file.keys()))


def _digest(text: str, arrays: Iterable[tuple[str, NDArray[Any]]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, array in arrays:
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
