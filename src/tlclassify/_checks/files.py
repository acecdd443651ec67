"""The one atomic writer, and the one progress bar."""

import hashlib
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_READ_BYTES = 2**20
_PROGRESS_DELAY_SECONDS = 1.0


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def open_whole(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file, also to be read, that takes the name `path` when all is written, or never.

    Its folder is made if need be. Where writing fails, what was under the name stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"path must name a file; received the folder {str(path)!r}.")
    # Not by tempfile, whose files nobody else may read.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x+b") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file as `open_whole` does."""
    with open_whole(path) as file:
        file.write(content)


def show_progress(total: int, label: str, *, unit: str, verbose: int) -> Any:
    """Return a bar for work of more than a second, with `update` and `close`; it may be silent."""
    from tqdm.auto import tqdm

    # Programs without a console have no stream to draw on.
    silent = not verbose or sys.stderr is None
    return tqdm(total=total, desc=label, unit=unit, disable=silent, delay=_PROGRESS_DELAY_SECONDS)
