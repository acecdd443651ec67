"""List every message that the library raises or warns with, as its source has it.

``python tools/messages.py`` prints them, with an ellipsis for what a call fills in, and after them
those that `docs/errors.md` does not have. The page's tables begin with words of messages; a message
is on the page if some of those words are its own.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "errors.md"
RAISED = re.compile(r"(Error|Exception|\bwarn|_wrong)$")
# Parts of messages that are put together elsewhere.
PART = re.compile(r" must (be|have|hold|not) |; received |has no effect")


def template(node: ast.expr) -> str:
    """Return a string expression as text, with an ellipsis for each value in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return "…"


def texts(node: ast.AST) -> Iterator[str]:
    """Yield the outermost strings below a node, with one space for any white space."""
    if isinstance(node, ast.expr) and (text := template(node)) != "…":
        yield " ".join(text.split())
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def collect(code: str) -> list[tuple[int, str]]:
    """Return line and text of the messages in a module's code."""
    tree = ast.parse(code)
    found: dict[str, int] = {}
    docstrings = {
        node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and node.value
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and RAISED.search(ast.unparse(node.func)):
            strings = [text for argument in node.args for text in texts(argument)]
            joined = " ".join(text for text in strings if len(text.split()) > 2)
        elif isinstance(node, ast.Constant | ast.JoinedStr) and node not in docstrings:
            joined = " ".join(template(node).split())
            joined = joined if PART.search(joined) else ""
        else:
            continue
        if re.search(r"\w", joined) and not any(joined in text for text in found):
            found[joined] = node.lineno
    return sorted((line, text) for text, line in found.items())


def messages() -> dict[str, str]:
    """Return text: place of every message in the library's source."""
    return {
        text: f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for line, text in collect(path.read_text(encoding="utf-8"))
    }


def documented(page: str) -> list[str]:
    """Return the words that the rows of the page's tables begin with."""
    cells = re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE)
    return [words for cell in cells for words in re.findall(r"`([^`]+)`", cell)]


def missing(page: str, raised: dict[str, str]) -> list[str]:
    """Return the messages that no row of the page has words of."""
    known = documented(page)
    return [text for text in raised if not any(words in text for words in known)]


if __name__ == "__main__":
    raised = messages()
    for text, place in raised.items():
        print(f"{place}: {text}")
    if absent := missing(PAGE.read_text(encoding="utf-8"), raised):
        raise SystemExit("\n".join([f"\nNot in {PAGE.name}:", *absent]))
