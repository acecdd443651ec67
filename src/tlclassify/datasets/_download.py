"""Fetch a file whose SHA-256 is known; it appears under its name whole and verified, or not."""

import hashlib
import http.client
import os
import secrets
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

_BLOCK_BYTES = 1 << 18
_SECONDS_WITHOUT_AN_ANSWER = 30


@dataclass(frozen=True)
class RemoteFile:
    """A file on the internet: the name to keep it under, its address, its SHA-256 in hex."""

    file_name: str
    url: str
    sha256: str


def data_home_folder(data_home: str | os.PathLike[str] | None) -> Path:
    """Return the folder for data: the one given, $TLCLASSIFY_DATA, or ~/.cache/tlclassify."""
    chosen = data_home or os.environ.get("TLCLASSIFY_DATA") or "~/.cache/tlclassify"
    return Path(chosen).expanduser()


def fetch_file(remote: RemoteFile, folder: Path, *, verbose: int = 1) -> Path:
    """Download `remote` into `folder`, check its SHA-256, and return its path.

    The bytes go to a temporary file beside the target, which is renamed once it is verified and
    removed when anything goes wrong. Processes that download the same file do not meet.

    Parameters
    ----------
    remote : RemoteFile
        What to fetch.
    folder : Path
        Where to keep it; created if missing.
    verbose : int
        0 shows no progress bar.

    Returns
    -------
    Path
        `folder / remote.file_name`.

    Raises
    ------
    OSError
        If the file cannot be fetched, cannot be kept, or is not the one expected.
    """
    target = folder / remote.file_name
    temporary = folder / f".{remote.file_name}.{secrets.token_hex(8)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as kept:
            received = _copy(remote, kept, verbose=verbose)
        _check_sha256(remote, received)
        temporary.replace(target)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise OSError(_failure(remote, folder, error)) from error
    finally:
        if folder.is_dir():
            temporary.unlink(missing_ok=True)
    return target


def _copy(remote: RemoteFile, kept: BinaryIO, *, verbose: int) -> str:
    """Write the remote bytes to an open file and return their SHA-256."""
    digest = hashlib.sha256()
    opened: Any = urllib.request.urlopen(remote.url, timeout=_SECONDS_WITHOUT_AN_ANSWER)  # noqa: S310 - our own table's address
    with closing(opened) as answer:
        length = answer.headers.get("Content-Length")
        total = int(length) if length and length.isdigit() else None
        with _bar(remote.file_name, total, verbose) as bar:
            while block := answer.read(_BLOCK_BYTES):
                kept.write(block)
                digest.update(block)
                bar.update(len(block))
    if total is not None and kept.tell() != total:
        raise OSError(f"the connection ended after {kept.tell():,} of {total:,} bytes")
    # A rename may reach the disk before the bytes do; a power cut would leave half a file.
    kept.flush()
    os.fsync(kept.fileno())
    return digest.hexdigest()


def _bar(name: str, total: int | None, verbose: int) -> Any:
    return tqdm(total=total, unit="B", unit_scale=True, desc=name, disable=not verbose)


def _check_sha256(remote: RemoteFile, received: str) -> None:
    if received != remote.sha256:
        raise OSError(
            f"its SHA-256 must be {remote.sha256}; received {received}, so the bytes were removed"
        )


def _failure(remote: RemoteFile, folder: Path, error: Exception) -> str:
    return (
        f"{remote.file_name} could not be fetched from {remote.url} and kept in {folder}: "
        f"{error or type(error).__name__}. Check the connection and the folder and call again; "
        f"or put the file at {folder / remote.file_name} yourself; or pass path= with an archive, "
        "folder or .npz file that you have; or pass another data_home."
    )
