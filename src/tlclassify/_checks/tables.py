"""What people see of a record: described once, shown as text and, in notebooks, as HTML."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from html import escape
from typing import Any, TypeAlias, TypeVar

# A paragraph, or a table whose first row holds the titles.
Part: TypeAlias = str | Sequence[Sequence[str]]

_Class = TypeVar("_Class", bound=type)


def shown_by(
    describe: Callable[[Any], Sequence[Part]], *, draw: Callable[[Any], str] | None = None
) -> Callable[[_Class], _Class]:
    """Return what gives a class `__str__` and the methods that notebooks look for.

    `describe` says what is shown; `draw` returns a picture to stand below it, as HTML.
    """

    def text(self: Any) -> str:
        lines = ([part] if isinstance(part, str) else align(part) for part in describe(self))
        return "\n".join(line for part in lines for line in part)

    def html(self: Any) -> str:
        # Without any colour or font, it follows the notebook's own, light or dark.
        parts = [
            _paragraph(part) if isinstance(part, str) else _table(part) for part in describe(self)
        ]
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


def align(table: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with the first column set left and the others right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        cells = (cell.rjust(n) for cell, n in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return lines


def _paragraph(text: str) -> str:
    return f'<p style="white-space: pre-line">{escape(text)}</p>' if text else ""


def _table(table: Sequence[Sequence[str]]) -> str:
    rows = [
        "".join(
            f'<th style="text-align: left">{escape(cell)}</th>'
            if i == 0
            else f"<{tag}>{escape(cell)}</{tag}>"
            for i, cell in enumerate(row)
        )
        for tag, row in zip(["th", *["td"] * len(table)], table, strict=False)
    ]
    head, *body = (f"<tr>{row}</tr>" for row in rows)
    inside = f"<thead>{head}</thead><tbody>{''.join(body)}</tbody>"
    return f'<table style="text-align: right">{inside}</table>'
