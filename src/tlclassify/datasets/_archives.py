"""Unpack a .tar.gz archive that nobody vouches for: all members are checked before one is written.

The standard library's own extraction filters are not in every Python that is supported here, and
they neither report all bad members at once nor bound what an archive may grow to.
"""

import gzip
import secrets
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

_LARGEST_UNPACKED_BYTES = 1 << 30
_MOST_MEMBERS = 10_000
_BLOCK_BYTES = 1 << 20
_NAMES_SHOWN = 10


@contextmanager
def unpacked(archive: Path, *, parent: Path) -> Iterator[Path]:
    """Unpack `archive` into a temporary folder under `parent` for the length of a `with` block.

    A caller who wants to keep the tree renames it before the block ends.

    Parameters
    ----------
    archive : Path
        A .tar.gz file.
    parent : Path
        Where the temporary folder is made; its file system needs twice the unpacked size.

    Yields
    ------
    Path
        The folder that holds the archive's members.

    Raises
    ------
    ValueError
        If the archive is cut short or damaged, would grow past 1 GiB, or has a member that is
        not a plain file or folder inside it. Nothing is left behind.
    OSError
        If the members cannot be written.
    """
    folder = parent / f".{archive.name}.{secrets.token_hex(8)}.part"
    try:
        yield _unpack(archive, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep_folder(folder: Path, target: Path) -> None:
    """Rename a whole folder to `target`, unless another process has put its own there first."""
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _unpack(archive: Path, folder: Path) -> Path:
    plain, tree = folder / "archive.tar", folder / "tree"
    try:
        tree.mkdir(parents=True)
        _decompress(archive, plain)
        with tarfile.open(plain, "r:") as tar:
            members = _checked_members(tar, archive)
            for member in members:
                _write(tar, member, tree)
        plain.unlink()
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise ValueError(
            f"{archive} must be a whole .tar.gz archive; received one that is cut short or "
            f"damaged ({error}). Delete it and fetch it again."
        ) from error
    except OSError as error:
        raise OSError(
            f"{archive} could not be unpacked under {folder.parent}: {error}. Free some space or "
            "make the folder writable; or unpack the archive yourself and pass the folder as path=."
        ) from error
    return tree


def _decompress(archive: Path, plain: Path) -> None:
    """Write the tar inside the gzip; reading to its end also checks its length and CRC."""
    with gzip.open(archive) as source, plain.open("xb") as target:
        while block := source.read(_BLOCK_BYTES):
            target.write(block)
            _check_bytes(target.tell(), archive)


def _checked_members(tar: tarfile.TarFile, archive: Path) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    n_bytes = 0
    # Each size is checked before tarfile moves on by it.
    for member in tar:
        members.append(member)
        n_bytes = n_bytes + member.size if member.size >= 0 else _LARGEST_UNPACKED_BYTES + 1
        _check_bytes(n_bytes, archive)
        if len(members) > _MOST_MEMBERS:
            raise ValueError(f"{archive} must hold at most {_MOST_MEMBERS} members; it has more.")
    refused = [f"{member.name!r} ({reason})" for member in members if (reason := _fault(member))]
    if refused:
        shown = ", ".join(refused[:_NAMES_SHOWN])
        raise ValueError(
            f"{archive} must hold only files and folders inside it; received {len(refused)} other "
            f"members: {shown}. Nothing was unpacked. Fetch the archive from its publisher."
        )
    return members


def _check_bytes(n_bytes: int, archive: Path) -> None:
    if n_bytes > _LARGEST_UNPACKED_BYTES:
        raise ValueError(
            f"{archive} must unpack to at most {_LARGEST_UNPACKED_BYTES:,} bytes; it holds more. "
            "Fetch the archive from its publisher."
        )


def _fault(member: tarfile.TarInfo) -> str:
    """Return why a member is refused, or an empty string."""
    if member.issym() or member.islnk():
        return "a link"
    if not (member.isreg() or member.isdir()):
        return "a device or other special file"
    windows = PureWindowsPath(member.name)
    if PurePosixPath(member.name).is_absolute() or windows.drive or windows.root:
        return "an absolute path"
    if ".." in windows.parts:
        return "a path that leaves the folder"
    return ""


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, tree: Path) -> None:
    target = tree / member.name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None
    with source, target.open("xb") as kept:
        shutil.copyfileobj(source, kept, _BLOCK_BYTES)
    if target.stat().st_size != member.size:
        raise tarfile.ReadError(f"{member.name} is cut short")
