"""Exports that get their names when they are whole, and replace nothing but older ones."""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tlclassify._checks.files import digest_file
from tlclassify.engines.metadata import METADATA_FILE
from tlclassify.persistence.exported import list_files


@contextmanager
def put_in_place(path: Path, *, is_folder: bool) -> Iterator[Path]:
    """Yield where to write an export; it gets its own name when all went well.

    One file replaces another in a single step. A folder or a pair of files takes several: the old
    parts move aside, the new ones in, and the old ones back if that fails. Of a pair the weights
    are the first to go and the last to come, so that no two files are ever there under their names
    that do not belong together. A process that is killed in between leaves nothing under the
    names, or an ``.xml`` file alone, which no runtime opens; what it had moved aside is in a folder
    ``.{name}.{digits}.before`` beside them.

    Parameters
    ----------
    path : Path
    is_folder : bool
        Whether the export is a folder; else a file, if an ``.xml`` then with a ``.bin`` beside it.

    Yields
    ------
    Path
        The same name in a temporary folder.

    Raises
    ------
    OSError
        If it cannot be written, or something else is there that it would replace.
    """
    _check_place(path, is_folder=is_folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = f".{path.name}.{uuid.uuid4().hex}"
    drafts = path.with_name(f"{unique}.tmp")
    drafts.mkdir()
    try:
        yield drafts / path.name
        parts = _parts(path, is_folder=is_folder)
        if is_folder or len(parts) > 1:
            _exchange(parts, drafts, path.parent, path.with_name(f"{unique}.before"))
        else:
            (drafts / path.name).replace(path)
    finally:
        shutil.rmtree(drafts, ignore_errors=True)


def _check_place(path: Path, *, is_folder: bool) -> None:
    """Check that nothing would be replaced but a file of this name, or an older export."""
    if path.is_dir() and not (is_folder and (path / "assets.extra" / METADATA_FILE).is_file()):
        raise IsADirectoryError(
            f"path must name what is not there yet, or was exported before; received the folder "
            f"{str(path)!r}, which holds something else. Choose another name."
        )
    if is_folder and path.is_file():
        raise FileExistsError(
            "path must name what is not there yet, or a folder that was exported before; received "
            f"the file {str(path)!r}. Choose another name."
        )
    for beside in map(path.with_name, _parts(path, is_folder=is_folder)[1:]):
        if beside.exists() and not _belong_together(path, beside):
            raise FileExistsError(
                f"path must not take a name from a file of something else; received "
                f"{str(path)!r}, whose weights would replace {str(beside)!r}, which does not "
                "belong to it. Choose another name, or move that file away."
            )


def _parts(path: Path, *, is_folder: bool) -> list[str]:
    return [path.name] if is_folder else [file.name for file in list_files(path)]


def _belong_together(path: Path, weights: Path) -> bool:
    if not path.is_file() or not weights.is_file():
        return False
    return digest_file(weights).encode() in path.read_bytes()


def _exchange(parts: Sequence[str], drafts: Path, folder: Path, aside: Path) -> None:
    """Move old parts from `folder` to `aside` and new ones from `drafts` to `folder`, or none."""
    aside.mkdir()
    try:
        for name in reversed(parts):
            _move(name, folder, aside)
        for name in parts:
            (drafts / name).rename(folder / name)
    except BaseException:
        for name in reversed(parts):
            if not (drafts / name).exists():
                _move(name, folder, drafts)
        for name in parts:
            _move(name, aside, folder)
        # Never with something in it.
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _move(name: str, source: Path, target: Path) -> None:
    """Move what may be there."""
    if (source / name).exists():
        (source / name).rename(target / name)
