"""The Python blocks of README and documentation run, page by page and in order.

`make docs` runs this file. A block that cannot run here has a line `<!-- not run: reason -->` above
it.
"""

import re
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(
    r"^(?P<not_run><!-- not run: \S.*-->\n+)?"
    r"^(?P<indent> *)```python\b.*\n(?P<code>(?:.*\n)*?)(?P=indent)```$",
    re.MULTILINE,
)


def run_blocks(text, name):
    """Run the blocks of a page in one namespace, with the page's line numbers in tracebacks."""
    namespace = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        if not block["not_run"]:
            lines = [line.removeprefix(block["indent"]) for line in block["code"].split("\n")]
            above = "\n" * text.count("\n", 0, block.start("code"))
            exec(compile(above + "\n".join(lines), name, "exec"), namespace)
    return namespace


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_page_runs(page, tmp_path, monkeypatch):
    if page.match("guide/export.md") and keras.backend.backend() != "tensorflow":
        pytest.skip("what is exported are TensorFlow's graphs")
    if page.match("guide/export.md") and sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no Keras that writes LiteRT")
    monkeypatch.chdir(tmp_path)
    run_blocks((ROOT / page).read_text(encoding="utf-8"), str(ROOT / page))


def test_readme_is_among_the_pages():
    assert Path("README.md") in PAGES


def test_blocks_share_one_namespace():
    text = "```python\na = 1\n```\n\ntext\n\n  ```python title='b.py'\n  b = a + 1\n  ```\n"
    assert run_blocks(text, "page.md")["b"] == 2


def test_a_failing_block_fails_with_its_line():
    text = "# Title\n\n```python\na = 1\n\na / 0\n```\n"
    with pytest.raises(ZeroDivisionError, match="division") as error:
        run_blocks(text, "page.md")
    assert error.traceback[-1].lineno + 1 == 6


def test_only_python_blocks_with_no_marker_run():
    text = "```bash\nmake demo\n```\n<!-- not run: a long training -->\n\n```python\n1 / 0\n```\n"
    namespace = run_blocks(text + "```pycon\n>>> 1 / 0\n```\n", "page.md")
    assert set(namespace) == {"__name__"}


def test_a_marker_without_a_reason_is_none():
    with pytest.raises(ZeroDivisionError, match="division"):
        run_blocks("<!-- not run: -->\n```python\n1 / 0\n```\n", "page.md")
