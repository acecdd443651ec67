"""Tables: columns of those that users bring; and records, shown as text and, in notebooks, HTML."""

import csv
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.parameters import check_column, column_names, import_extra, listed

# A paragraph, or a table whose first row holds the titles.
Part: TypeAlias = str | Sequence[Sequence[str]]

_Class = TypeVar("_Class", bound=type)


def read_columns(
    table: Any, wanted: Mapping[str, Any], *, name: str
) -> tuple[dict[Any, NDArray[Any]], list[int] | None, Path]:
    """Return columns, wanted by parameters, as objects; lines of CSV; and the table's folder."""
    lines, chosen, folder = None, [*wanted.values()], Path()
    if isinstance(table, str | PathLike):
        path = Path(table).expanduser()
        folder = path.parent
        if not path.is_file():
            step = " Pass a folder to load_image_folder." if path.is_dir() else ""
            raise FileNotFoundError(f"{name}: there is no file {str(path)!r}.{step}")
        if path.suffix.lower() == ".parquet":
            file = import_extra("pyarrow.parquet", "table", user="a Parquet file").ParquetFile(path)
            schema = file.schema_arrow
            table = file.read(chosen) if {*chosen} <= {*schema.names} else schema.empty_table()
        else:
            table, lines = _read_csv(path, chosen, name)
    names = table if isinstance(table, Mapping) else column_names(table)
    if names is None:
        kind = type(table).__name__
        raise TypeError(f"{name} must be a path, a frame or a dict; received a {kind}.")
    columns = {}
    for parameter, column in wanted.items():
        check_column(parameter, column, names)
        cells = table[column]
        is_array = hasattr(cells, "__array__")
        cells = np.asarray(cells).astype(object) if is_array else np.fromiter(cells, dtype=object)
        columns[column] = cells
    lengths = {str(column): len(cells) for column, cells in columns.items()}
    if len({*lengths.values()}) > 1:
        raise ValueError(f"{name} must have columns of one length; received {lengths}.")
    return columns, lines, folder


def _read_csv(
    path: Path, wanted: Sequence[Any], name: str
) -> tuple[dict[str, list[str]], list[int]]:
    """Return all columns by name, filled where they are wanted, and the line of each row."""
    lines, wrong = list[int](), list[int]()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=header.count)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            names = [cell.strip() for cell in next(filter(any, reader), ())]
            columns = {column: list[str]() for column in names}
            filled = [(i, columns[column]) for i, column in enumerate(names) if column in wanted]
            for cells in filter(any, reader):
                lines.append(reader.line_num)
                if len(cells) != len(names):
                    wrong.append(reader.line_num)
                    continue
                for i, column in filled:
                    column.append(cells[i].strip())
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} must be in UTF-8; {str(path)!r} is not ({error}). Save it as 'CSV UTF-8', or "
            "read it with pandas and pass the frame."
        ) from None
    named = [*filter(None, names)]
    if not names or len({*named}) < len(named):
        raise ValueError(
            f"{name} must begin with a line that names each column once; received "
            f"{listed(names) or 'an empty file'}. Give {str(path)!r} such a line."
        )
    if wrong:
        raise ValueError(
            f"{path} must have {len(names)} cells in each row, as in its first; received others "
            f"in lines {listed(wrong)}. Put quotes around cells that hold what parts columns."
        )
    return columns, lines


def shown_by(
    describe: Callable[[Any], Sequence[Part]], *, draw: Callable[[Any], str] | None = None
) -> Callable[[_Class], _Class]:
    """Return what gives a class `__str__` and the methods that notebooks look for.

    `describe` says what is shown; `draw` returns a picture to stand below it, as HTML.
    """

    def text(self: Any) -> str:
        return "\n".join(p if isinstance(p, str) else align(p) for p in describe(self))

    def html(self: Any) -> str:
        parts = [_as_html(part) for part in describe(self) if part]
        if draw is not None:
            with suppress(ImportError):  # there are no pictures without matplotlib
                parts.append(draw(self))
        return "\n".join(parts)

    def pretty(self: Any, printer: Any, cycle: bool) -> None:  # noqa: ARG001, FBT001 - IPython's
        printer.text(text(self))

    def decorate(cls: _Class) -> _Class:
        for name, method in (("__str__", text), ("_repr_html_", html), ("_repr_pretty_", pretty)):
            setattr(cls, name, method)
        return cls

    return decorate


def align(table: Sequence[Sequence[str]]) -> str:
    """Return a table as lines, with the first column set left and the others right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        cells = (cell.rjust(n) for cell, n in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def _as_html(part: Part) -> str:
    # Without any colour or font, it follows the notebook's own, light or dark.
    if isinstance(part, str):
        return f'<p style="white-space: pre-line">{escape(part)}</p>'
    rows = list[str]()
    for row in part:
        first, *others = map(escape, row)
        tag = "td" if rows else "th"
        cells = "".join(f"<{tag}>{cell}</{tag}>" for cell in others)
        rows.append(f'<tr><th style="text-align: left">{first}</th>{cells}</tr>')
    inside = f"<thead>{rows[0]}</thead><tbody>{''.join(rows[1:])}</tbody>"
    return f'<table style="text-align: right">{inside}</table>'
