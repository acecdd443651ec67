"""Outputs kept on the disk: a SQLite file for each network, and for each machine and user."""

import errno
import os
import platform
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

_PATIENCE_SECONDS = 60.0
# A row is an image's SHA-256, a checksum and its output. Rows are looked up one by one, so a folder
# of a million outputs opens like one of a hundred. They are written in short transactions, so a
# kill or a full disk takes nothing that was there. What is damaged counts as absent.
_TABLE = "outputs (digest BLOB PRIMARY KEY, checksum INTEGER, output BLOB)"


@dataclass(frozen=True)
class Store:
    """The stored outputs of one network, all of one shape and dtype."""

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def own(self) -> Path:
        """The one file that is written: no other machine writes it, and no other user."""
        writer = f"{platform.node()}-{getattr(os, 'getuid', int)()}"
        return self.folder / f"{quote(writer, safe='')}.sqlite"

    def missing(self, digests: NDArray[np.uint8]) -> set[bytes]:
        """Return the digests of which there is no row; rows are not checked yet."""
        left = {digest.tobytes() for digest in digests}
        look_up = "SELECT 1 FROM outputs WHERE digest = ?"
        for path in self.folder.glob("*.sqlite"):
            with suppress(sqlite3.Error), self._open(path) as database:
                left -= {key for key in left if database.execute(look_up, (key,)).fetchone()}
        return left

    def read(self, digests: NDArray[np.uint8], into: NDArray[Any]) -> NDArray[np.intp]:
        """Fill in the outputs that are stored and whole; return the rows of all others."""
        left = dict(enumerate(digest.tobytes() for digest in digests))
        look_up = "SELECT checksum, output FROM outputs WHERE digest = ?"
        for path in self.folder.glob("*.sqlite"):
            with suppress(sqlite3.Error), self._open(path) as database:
                for row, key in list(left.items()):
                    checksum, output = database.execute(look_up, (key,)).fetchone() or (0, None)
                    if not isinstance(output, bytes) or len(output) != into[row].nbytes:
                        continue
                    if zlib.crc32(output, zlib.crc32(key)) == checksum:
                        into[row] = np.frombuffer(output, self.dtype).reshape(self.shape)
                        del left[row]
        return np.array(list(left), dtype=np.intp)

    def write(self, digests: NDArray[np.uint8], outputs: NDArray[Any]) -> None:
        """Store outputs: all of them or, where that fails, none."""
        pairs = zip(map(bytes, digests), outputs, strict=True)
        rows = ((key, zlib.crc32(row, zlib.crc32(key)), row.data) for key, row in pairs)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Not made by SQLite, which lets no group write and whose errors say less.
            self.own.touch()
            with self._open(self.own, "BEGIN IMMEDIATE") as database:
                database.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE}")
                database.executemany("INSERT OR REPLACE INTO outputs VALUES (?, ?, ?)", rows)
        except (OSError, sqlite3.OperationalError) as error:
            number = errno.ENOSPC if "disk is full" in str(error) else errno.EIO
            # OSError picks the subclass by the number, so PermissionError stays one.
            raise OSError(
                getattr(error, "errno", number),
                f"{getattr(error, 'strerror', error)}. {outputs.nbytes / 2**20:,.1f} MiB of stored "
                f"activations could not be written to {self.folder}; what was there is whole. Free "
                "some room, or choose another cache_dir (None keeps them in memory)",
            ) from error
        except sqlite3.DatabaseError:
            # Damaged, and so absent; its journal must not be taken for the next one's.
            self.own.unlink(missing_ok=True)
            Path(f"{self.own}-journal").unlink(missing_ok=True)
            self.write(digests, outputs)

    @contextmanager
    def _open(self, path: Path, begin: str = "BEGIN") -> Iterator[sqlite3.Connection]:
        """Open a file for one transaction."""
        # What another machine has under way must not be undone from here.
        mode = "rw" if path == self.own else "ro"
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        database = sqlite3.connect(uri, uri=True, timeout=_PATIENCE_SECONDS)
        with closing(database), database:
            database.execute(begin)
            yield database


class StoredOutputs:
    """Outputs that stay in the store: like an array whose rows are read when they are asked for."""

    def __init__(self, store: Store, digests: NDArray[np.uint8]) -> None:
        self.store, self.digests = store, digests
        self.shape, self.dtype = (len(digests), *store.shape), store.dtype

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, rows: NDArray[np.intp] | slice) -> NDArray[Any]:
        digests = self.digests[rows]
        outputs = np.empty((len(digests), *self.store.shape), self.dtype)
        if len(self.store.read(digests, outputs)):
            raise OSError(
                errno.EIO,
                f"stored activations in {self.store.folder} were deleted or damaged while they "
                "were in use. Fit again: what is missing is run again",
            )
        return outputs
