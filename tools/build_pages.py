"""Write all pages with, below each Python block, what it printed and drew.

    python tools/build_pages.py  # reads docs/ and examples/gallery/, writes build/docs/

What comes out is Markdown, SVG and HTML, for whichever site generator, and for none. A block with a
line `<!-- not run: reason -->` above it is not run, and the page gives the reason; `not run before
Python 3.11:` is for older ones alone. The README runs too.
"""

import json
import re
import shutil

from gallery import add_examples, gallery_index, gallery_pages, write_downloads
from run_pages import BLOCK, ROOT, Result, run_pages, why_not

OUT = ROOT / "build" / "docs"


def main() -> None:
    """Run what has changed, and write all pages."""
    paths = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    pages = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in paths}
    pages |= {f"docs/{name}": text for name, text in gallery_pages().items()}
    homes = run_pages(pages, ROOT / "build" / "results")
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.copytree(ROOT / "docs", OUT)
    for folder in ("results", "gallery"):
        (OUT / folder).mkdir()
    thumbnails = {}
    for path in [path for home in homes.values() for path in home.glob("*-*")]:
        shutil.copy(path, OUT / "results")
    for name in [name for name in pages if name.startswith("docs/")]:
        results = json.loads((homes[name] / "results.json").read_text("utf-8"))
        page = name.removeprefix("docs/")
        text = render(page, pages[name], results)
        if page.startswith("api/"):
            text = add_examples(text)
        if page.startswith("gallery/"):
            drawn = [found for below in results for found in below if found["kind"] == "picture"]
            thumbnails[page] = show(drawn[:1], "../")
        (OUT / page).write_text(text, encoding="utf-8")
    write_downloads(OUT / "gallery")
    (OUT / "gallery" / "index.md").write_text(gallery_index(thumbnails), encoding="utf-8")


def render(page: str, text: str, results: list[list[Result]]) -> str:
    """Return a page with the results below its blocks."""
    answers = iter(results)
    up = "../" * page.count("/")

    def answer(block: re.Match[str]) -> str:
        code = block[0][block[0].index(f"{block['indent']}```python") :]
        reason, below = why_not(block), next(answers)
        if reason:
            added = f"*Not run here: {reason}.*{{ .not-run }}"
        elif below:
            added = f'<div class="output" markdown="1">\n\n{show(below, up)}\n\n</div>'
        else:
            return code
        lines = (f"{block['indent']}{line}".rstrip() for line in added.split("\n"))
        return "\n".join([code, "", *lines])

    return BLOCK.sub(answer, text)


def show(results: list[Result], up: str) -> str:
    """Return results as Markdown; of several values, each says whose it is."""
    texts = [result for result in results if result["kind"] in {"text", "value"}]
    is_session = len(texts) > 1 and any(result["kind"] == "value" for result in texts)
    lines, parts = [], []
    for result in texts:
        if lines and (is_session or "\n" in result["text"]):
            lines.append("")
        if result["kind"] == "value" and is_session:
            lines.append(">>> " + result["source"].replace("\n", "\n... "))
        lines.append(result["text"])
    if lines:
        parts.append("\n".join(["```pycon" if is_session else "```text", *lines, "```"]))
    for result in results:
        link, words = f"{up}results/{result.get('file')}", result["text"]
        if result["kind"] == "picture":
            dark = link.replace(".svg", ".dark.svg")
            parts.append(f"![{words}]({link}#only-light)![{words}]({dark}#only-dark)")
        elif result["kind"] == "page":
            parts.append(f"The page that this wrote: [{words}]({link})")
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
