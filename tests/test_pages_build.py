"""The documentation build: results stand below their blocks, and what fails, fails the build."""

import json
import traceback

import pytest

pytest.importorskip("matplotlib")
from build_pages import render
from gallery import cells_of, gallery_pages, write_downloads
from run_pages import run_blocks, store_results


def build(text, tmp_path):
    return render("guide/page.md", text, list(run_blocks("page.md", text, tmp_path)))


def test_values_and_printed_lines_stand_below_their_block(tmp_path):
    page = build("```python\na = 1\nprint(1)\na + 1  # b\n```\n\nText.\n", tmp_path)
    assert page == (
        "```python\na = 1\nprint(1)\na + 1  # b\n```\n\n"
        '<div class="output" markdown="1">\n\n```pycon\n1\n\n>>> a + 1\n2\n```\n\n</div>\n\nText.\n'
    )


def test_blocks_share_their_names_and_indented_ones_keep_their_place(tmp_path):
    page = build("```python\na = 1\n```\n\n  ```python title='b'\n  a + 1\n  ```\n", tmp_path)
    assert page.startswith("```python\na = 1\n```\n\n  ```python title='b'")
    assert "\n  ```text\n  2\n  ```\n" in page


def test_a_picture_is_drawn_for_light_and_dark_with_words_for_it(tmp_path):
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nax = plt.gca()\n"
    page = build(f"```python\n{code}ax.set_title('Rise [a]')\n```\n", tmp_path)
    picture = next(tmp_path.glob("*-0.svg")).name
    assert f"![Rise a](../results/{picture}#only-light)" in page
    assert f"({'../results/' + picture.replace('.svg', '.dark.svg')}#only-dark)" in page
    assert 'fill="#dfe3e8"' in (tmp_path / picture.replace(".svg", ".dark.svg")).read_text()


def test_a_picture_without_words_is_refused(tmp_path):
    with pytest.raises(ValueError, match="A picture needs a title"):
        build("```python\nimport matplotlib.pyplot as plt\nplt.plot([1])\n```\n", tmp_path)


def test_a_block_that_is_not_run_gives_its_reason(tmp_path):
    page = build("<!-- not run: takes long -->\n\n```python\n1 / 0\n```\n", tmp_path)
    assert page == "```python\n1 / 0\n```\n\n*Not run here: takes long.*{ .not-run }\n"
    build("```bash\nmake demo\n```\n\n```pycon\n>>> 1 / 0\n```\n", tmp_path)


def test_a_marker_needs_a_reason_and_may_name_an_old_python(tmp_path):
    for marker in ("not run: ", "not run before Python 3.1: too old"):
        with pytest.raises(ZeroDivisionError, match="division"):
            build(f"<!-- {marker}-->\n```python\n1 / 0\n```\n", tmp_path)
    marker = "<!-- not run before Python 3.99: too old -->"
    assert "*Not run here: too old.*" in build(f"{marker}\n```python\n1 / 0\n```\n", tmp_path)


def test_a_failing_block_fails_with_its_line(tmp_path):
    with pytest.raises(ZeroDivisionError, match="division") as error:
        build("# Title\n\n```python\na = 1\n\na / 0\n```\n", tmp_path)
    assert traceback.extract_tb(error.value.__traceback__)[-1].lineno == 6


@pytest.mark.parametrize("code", ["1 / 0", "import warnings\nwarnings.warn('old')"])
def test_nothing_is_kept_of_a_page_that_fails_or_warns(tmp_path, code):
    said, failure = store_results("page.md", f"```python\n{code}\n```\n", tmp_path / "key-page")
    assert said == "page.md: failed"
    assert 'File "page.md", line ' in failure
    assert not (tmp_path / "key-page").exists()


def test_every_script_is_a_page_and_a_notebook(tmp_path):
    write_downloads(tmp_path)
    pages = gallery_pages()
    assert len(pages) >= 12
    for name, page in pages.items():
        stem = name.removeprefix("gallery/").removesuffix(".md")
        _, cells = cells_of((tmp_path / f"{stem}.py").read_text("utf-8"))
        notebook = json.loads((tmp_path / f"{stem}.ipynb").read_text("utf-8"))
        code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
        assert code == [code for _, code in cells]
        assert all(part in page for part in code)
