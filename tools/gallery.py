"""The scripts of examples/gallery/ as pages, notebooks and links.

A script begins with a docstring: a title, an empty line, two sentences. Lines of `# %%` and the
comment after them part it into cells, as editors and jupytext read them.
"""

import ast
import json
import re
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "examples" / "gallery"
CELL = re.compile(r"^# %%\n((?:# .*\n)*)", re.MULTILINE)
PUBLIC_NAME = re.compile(r"^::: tlclassify\.[\w.]*?(\w+)$", re.MULTILINE)

INDEX = """# Gallery

Whole programs of one idea each, with what they draw. Each can be downloaded as a script and as a
notebook, and needs nothing but the package: `pip install ".[plot]"` in a checkout.

<div class="gallery" markdown="1">

{cards}

</div>
"""


def cells_of(source: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the title, and what each cell says and does."""
    tree = ast.parse(source)
    first = tree.body[0]
    assert isinstance(first, ast.Expr), "a script begins with a docstring"
    title, _, said = (ast.get_docstring(tree) or "").partition("\n\n")
    parts = CELL.split("\n".join(source.split("\n")[first.end_lineno :]))
    texts = [said, *(re.sub(r"^# ", "", text, flags=re.MULTILINE) for text in parts[1::2])]
    return title, [
        (text.strip(), code.strip()) for text, code in zip(texts, parts[::2], strict=True)
    ]


def gallery_pages() -> dict[str, str]:
    """Return the pages of all scripts, by name, without results."""
    pages = {}
    for path in sorted(SCRIPTS.glob("*.py")):
        title, cells = cells_of(path.read_text("utf-8"))
        files = [
            f'[Download the {kind}]({path.stem}.{end}){{ download="{path.stem}.{end}" }}'
            for kind, end in (("script", "py"), ("notebook", "ipynb"))
        ]
        body = [f"{text}\n\n```python\n{code}\n```" for text, code in cells]
        parts = [f"# {title}", *body, " · ".join(files)]
        pages[f"gallery/{path.stem}.md"] = "\n\n".join(parts) + "\n"
    return pages


def write_downloads(folder: Path) -> None:
    """Write each script and its notebook."""
    for path in SCRIPTS.glob("*.py"):
        source = path.read_text("utf-8")
        (folder / path.name).write_text(source, encoding="utf-8")
        title, cells = cells_of(source)
        cells[0] = (f"# {title}\n\n{cells[0][0]}", cells[0][1])
        notebook = {
            "cells": [cell for number, pair in enumerate(cells) for cell in both(number, *pair)],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        text = json.dumps(notebook, indent=1)
        (folder / f"{path.stem}.ipynb").write_text(text, encoding="utf-8")


def both(number: int, text: str, code: str) -> list[dict[str, object]]:
    """Return the two cells of a notebook that a cell of a script becomes."""
    words: dict[str, object] = {"cell_type": "markdown", "id": f"text-{number}", "metadata": {}}
    runs: dict[str, object] = {"cell_type": "code", "id": f"code-{number}", "metadata": {}}
    runs |= {"execution_count": None, "outputs": [], "source": code.splitlines(keepends=True)}
    return [words | {"source": text.splitlines(keepends=True)}, runs]


def gallery_index(thumbnails: dict[str, str]) -> str:
    """Return the page of all scripts, each with the first picture that it draws."""
    cards = []
    for name, picture in thumbnails.items():
        title, link = (
            cells_of((SCRIPTS / f"{Path(name).stem}.py").read_text("utf-8"))[0],
            Path(name).name,
        )
        cards.append(f"-   [{picture}]({link})\n\n    [{title}]({link})")
    return INDEX.format(cards="\n\n".join(cards))


@cache
def users_of_names() -> dict[str, list[str]]:
    """Return links to the scripts that use each public name."""
    users: dict[str, list[str]] = {}
    for path in sorted(SCRIPTS.glob("*.py")):
        source = path.read_text("utf-8")
        link = f"[{cells_of(source)[0]}](../gallery/{path.stem}.md)"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tlclassify"):
                for alias in node.names:
                    users.setdefault(alias.name, []).append(link)
    return users


def add_examples(text: str) -> str:
    """Return an API page that names, after each public name, the scripts that use it."""

    def add(directive: re.Match[str]) -> str:
        links = users_of_names().get(directive[1])
        return directive[0] + (f"\n\n**In the gallery:** {', '.join(links)}" if links else "")

    return PUBLIC_NAME.sub(add, text)
