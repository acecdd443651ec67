"""A table of image files and their labels: CSV, Parquet, or a frame."""

import csv
import os
from collections.abc import Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks import files
from tlclassify._checks.parameters import (
    check_labels,
    close_match_hint,
    import_extra,
    is_empty,
    listed,
)
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
    path_column, label_column : str
        The columns of file paths and of labels.
    group_column : str, optional
        The column of groups, such as patients or cameras, for ``fit(X, y, groups=...)``.
    root : path-like, optional
        The folder from which relative paths lead; by default the table file's, or for a frame the
        working folder. Paths written by Windows may have backslashes.

    Raises
    ------
    FileNotFoundError
        If there is no such table.
    ValueError
        If a column is not there; or naming, by row, all files that are not there, all missing
        paths, labels and groups, and all files named twice. The rows of a frame count from 0; of
        CSV the line is given, as an editor shows it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from tlclassify.datasets import load_image_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("1.png", "2.png"):
    ...         Image.new("RGB", (8, 8)).save(f"{folder}/{name}")
    ...     table = Path(folder, "labels.csv")
    ...     _ = table.write_text("path,label\n1.png,cat\n2.png,dog\n")
    ...     images = load_image_table(table)
    >>> images, images.y.tolist()
    (ImageDataset(2 image files, 2 classes), ['cat', 'dog'])
    """
    is_file = isinstance(path_or_frame, str | PathLike)
    file = Path(path_or_frame if is_file else "").expanduser()
    table, lines = _read_table(file) if is_file else (path_or_frame, None)
    folder = Path(root).expanduser() if root is not None else file.parent
    wanted = {"path_column": path_column, "label_column": label_column}
    if group_column is not None:
        wanted["group_column"] = group_column
    paths, labels, *groups = (_take(table, name, role) for role, name in wanted.items())
    rows, word = lines or list(range(len(paths))), "line" if lines else "row"
    problems = []
    for name, values in zip(wanted.values(), (paths, labels, *groups), strict=True):
        empty = [row for row, value in zip(rows, values, strict=True) if is_empty(value)]
        if empty:
            problems.append(f"{len(empty)} without a {name}: {word}s {listed(empty)}")
    named = [pair for pair in zip(rows, paths, strict=True) if not is_empty(pair[1])]
    found, gone = files.read_files(partial(_find_file, folder=folder, word=word), named)
    if gone:
        problems.append(f"{len(gone)} whose file is not there: {listed(gone, write=str)}")
    first: dict[str, int] = {}
    again = [
        f"{row} like {first[path]}" for row, path in found if first.setdefault(path, row) != row
    ]
    if again:
        shown = listed(again, write=str)
        problems.append(f"{len(again)} that name a file once more: {word}s {shown}")
    if problems or not rows:
        shown = "".join(f"\n  - {problem}" for problem in problems or ["none at all"])
        raise ValueError(
            f"Each row of the table must name an image file of its own and a label; of {len(rows)} "
            f"rows there are{shown}\nRelative paths lead from {folder.resolve()}; root= names "
            "another folder. Repair those rows, or leave them out."
        )
    y, *checked = (check_labels(values, n_samples=len(rows)) for values in (labels, *groups))
    return ImageDataset(
        X=np.array([path for _, path in found], dtype=object),
        y=y,
        class_names=tuple(map(str, np.unique(y).tolist())),
        groups=checked[0] if checked else None,
    )


def _read_table(path: Path) -> tuple[Any, list[int] | None]:
    """Return a file's columns and, of CSV, the line of each row."""
    if not path.is_file():
        step = " Pass a folder to load_image_folder." if path.is_dir() else ""
        raise FileNotFoundError(f"path_or_frame: there is no file {str(path)!r}.{step}")
    if path.suffix.lower() == ".parquet":
        parquet = import_extra(
            "pyarrow.parquet", "table", user="load_image_table of a Parquet file"
        )
        return parquet.read_table(path), None
    if path.suffix.lower() not in {".csv", ".tsv", ".txt"}:
        raise ValueError(
            f"path_or_frame must be a .csv, .tsv or .parquet file, or a frame; received "
            f"{str(path)!r}. Read it with pandas and pass the frame."
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=header.count))
            lines = [(reader.line_num, cells) for cells in reader if any(cells)]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"path_or_frame must be in UTF-8; {str(path)!r} is not ({error}). Save it as "
            "'CSV UTF-8', or read it with pandas and pass the frame."
        ) from None
    (_, names), rows = lines[0] if lines else (0, []), lines[1:]
    wrong = [line for line, cells in rows if len(cells) != len(names)]
    if wrong:
        raise ValueError(
            f"{path} must have {len(names)} cells in each row, as in its first; received others "
            f"in lines {listed(wrong)}. Put quotes around cells that hold what parts columns."
        )
    columns = {name.strip(): [cells[i] for _, cells in rows] for i, name in enumerate(names)}
    return columns, [line for line, _ in rows]


def _take(table: Any, name: str, role: str) -> NDArray[Any]:
    """Return a column as an array of Python objects."""
    names = getattr(table, "column_names", getattr(table, "columns", table))
    if not isinstance(table, Mapping) and names is table:
        kind = type(table).__name__
        raise TypeError(f"path_or_frame must be a path, a frame or a dict; received a {kind}.")
    if name not in list(names):
        raise ValueError(
            f"{role} must be one of the columns {listed(names)}; received {name!r}."
            f"{close_match_hint(name, map(str, names))}"
        )
    values = table[name]
    if hasattr(values, "__array__"):
        return np.asarray(values).astype(object)
    return np.fromiter(values, dtype=object)


def _find_file(named: tuple[int, Any], *, folder: Path, word: str) -> tuple[int, str]:
    row, given = named
    path = os.path.normpath(folder / os.fsdecode(given))
    turned = os.path.normpath(folder / os.fsdecode(given).replace("\\", "/"))
    found = next((text for text in (path, turned) if Path(text).is_file()), None)
    if found is None:
        problem = files.find_problem(given) if "://" in str(given) else files.find_problem(path)
        raise FileNotFoundError(f"{word} {row} ({os.fsdecode(given)}: {problem})")
    return row, found
