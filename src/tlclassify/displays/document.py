"""The parts of a page: elements, whose text the serialiser escapes, tables and the document."""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from xml.etree.ElementTree import Element, tostring

from tlclassify._checks.files import write_whole


def element(tag: str, *content: str | Element, **attributes: str) -> Element:
    """Return an element with text and elements inside; `class_` stands for class."""
    node = Element(tag, {name.rstrip("_"): value for name, value in attributes.items()})
    last = None
    for part in content:
        if isinstance(part, Element):
            node.append(part)
            last = part
        elif last is None:
            node.text = (node.text or "") + part
        else:
            last.tail = (last.tail or "") + part
    return node


def section(title: str, *content: Element) -> Element:
    """Return a section under a heading, which links can reach by the title in lower case."""
    anchor = title.lower().replace(" ", "-")
    return element("section", element("h2", title), *content, id=anchor)


def table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "numbers"
) -> Element:
    """Return a table whose first column names the rows; it scrolls where it is too wide."""
    head = element("tr", *(element("th", title, scope="col") for title in titles))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", c) for c in row[1:]))
        for row in rows
    ]
    parts = [element("thead", head)] if any(titles) else []
    whole = element("table", *parts, element("tbody", *body), class_=kind)
    return element("div", whole, class_="scroll")


def tiles(values: Iterable[tuple[str, str, str]]) -> Element:
    """Return numbers in large type, each with its name and a line below."""
    cards = [
        element(
            "div",
            element("span", name),
            element("strong", value),
            element("span", note),
            class_="tile",
        )
        for name, value, note in values
    ]
    return element("div", *cards, class_="tiles")


def pair(*content: Element) -> Element:
    """Return elements side by side, or one below the other where there is no room."""
    return element("div", *content, class_="pair")


def build_page(title: str, subtitle: str, sections: Sequence[Element]) -> str:
    """Return the whole document; it loads nothing from elsewhere."""
    style = (files("tlclassify.displays") / "style.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{title}: {subtitle}"),
        element("style", style),
    )
    links = [element("a", part[0].text or "", href=f"#{part.get('id')}") for part in sections]
    body = element(
        "body",
        element("header", element("h1", title), element("p", subtitle, class_="soft")),
        element("nav", *links),
        element("main", *sections),
    )
    page = tostring(element("html", head, body, lang="en"), encoding="unicode", method="html")
    return f"<!DOCTYPE html>\n{page}\n"


def deliver(page: str, path: str | Path | None) -> str:
    """Write a page where a path is given, and return it.

    Raises
    ------
    OSError
        If it cannot be written; no half page is left.
    """
    if path is not None:
        try:
            write_whole(path, page.encode())
        except OSError as error:
            raise OSError(
                error.errno,
                f"path: the page could not be written ({error.strerror or error}). Choose another "
                "path, or call to_html() for the text alone",
                str(path),
            ) from error
    return page
