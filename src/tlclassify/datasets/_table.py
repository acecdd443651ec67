"""A table of image files and their labels: CSV, Parquet, or a frame."""

import os
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from tlclassify._checks import files
from tlclassify._checks.parameters import check_labels, is_empty, listed
from tlclassify._checks.tables import read_columns
from tlclassify.datasets._folder import ImageDataset


def load_image_table(
    path_or_frame: Any,
    *,
    path_column: str = "path",
    label_column: str = "label",
    group_column: str | None = None,
    root: str | PathLike[str] | None = None,
) -> ImageDataset:
    r"""Return the image files that a table names and their labels; the pixels are not kept.

    Parameters
    ----------
    path_or_frame : path-like or frame
        A ``.csv`` or ``.tsv`` file in UTF-8, its columns parted by comma, semicolon or tab; a
        ``.parquet`` file; a frame of pandas or polars, an Arrow table, or a dict of columns.
    path_column, label_column : str, the columns of file paths and of labels
    group_column : str, optional
        The column of groups, such as patients or cameras, for ``fit(X, y, groups=...)``.
    root : path-like, optional
        The folder from which relative paths lead; by default the table file's, or for a frame the
        working folder. Paths may have the backslashes of Windows and the umlauts of a Mac.

    Raises
    ------
    FileNotFoundError
        If there is no such table.
    ValueError
        If a column is not there; or naming, by row from 0 or by line of CSV, all files that are
        not there, all missing paths, labels and groups, and all files named twice.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from tlclassify.datasets import load_image_table
    >>> table = {"path": ["1.png", "2.png"], "label": ["cat", "dog"]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in table["path"]:
    ...         Image.new("RGB", (8, 8)).save(f"{folder}/{name}")
    ...     images = load_image_table(table, root=folder)
    >>> images, images.y.tolist()
    (ImageDataset(2 image files, 2 classes), ['cat', 'dog'])
    """
    wanted = {"path_column": path_column, "label_column": label_column}
    if group_column is not None:
        wanted["group_column"] = group_column
    columns, lines, folder = read_columns(path_or_frame, wanted, name="path_or_frame")
    folder = folder if root is None else Path(root).expanduser()
    paths, labels = columns[path_column], columns[label_column]
    rows, word = lines or list(range(len(paths))), "line" if lines else "row"
    if not rows:
        raise ValueError("path_or_frame must hold at least one row; received none.")
    problems: dict[str, list[Any]] = {
        f"without a {name}": [row for row, cell in zip(rows, cells, strict=True) if is_empty(cell)]
        for name, cells in columns.items()
    }
    named = [pair for pair in zip(rows, paths, strict=True) if not is_empty(pair[1])]
    found, gone = files.read_files(partial(_find_file, folder=folder), named)
    problems["whose file is not there"] = gone
    first: dict[str, int] = {}
    origins = [(row, first.setdefault(os.path.realpath(path), row)) for row, path in found]
    again = [f"{row} (as in {origin})" for row, origin in origins if origin != row]
    problems["that name a file once more"] = again
    shown = "".join(
        f"\n  - {len(at)} {text}: {word} {listed(at, write=str)}"
        for text, at in problems.items()
        if at
    )
    if shown:
        raise ValueError(
            "Each row of the table must name an image file of its own and a label; of "
            f"{len(rows)} rows there are{shown}\nRepair those rows, or leave them out. Where "
            "relative paths lead from another folder, name it as root."
        )
    y = check_labels(labels, n_samples=len(rows), name=label_column)
    return ImageDataset(
        X=np.array([path for _, path in found], dtype=object),
        y=y,
        class_names=tuple(map(str, np.unique(y).tolist())),
        groups=None if group_column is None else np.array(columns[group_column].tolist()),
    )


def _find_file(named: tuple[int, Any], *, folder: Path) -> tuple[int, str]:
    row, given = named
    if not isinstance(given, str | bytes | PathLike):
        raise FileNotFoundError(f"{row} ({given!r}: no path, but a {type(given).__name__})")
    given = os.fsdecode(given)
    slashed = given.replace("\\", "/")
    # A Mac writes the dots of an umlaut apart.
    spellings = (given, slashed, *(normalize(form, slashed) for form in ("NFC", "NFD")))
    path = next((path for path in spellings if (folder / path).is_file()), slashed)
    if problem := files.find_problem(path, folder):
        raise FileNotFoundError(f"{row} ({given}: {problem})")
    return row, str(folder / path)
