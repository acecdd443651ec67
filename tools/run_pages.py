"""Run the Python blocks of pages and store what they print, draw and write.

Blocks of a page share their names; pages share nothing but a process. Results are kept under a hash
of the page's code, the package and the libraries, so a second build runs what has changed. A block
that fails, or warns, fails the build.
"""

import ast
import contextlib
import hashlib
import io
import json
import os
import pprint
import re
import shutil
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("keras", "matplotlib", "numpy", "scikit-learn", "tensorflow")
BLOCK = re.compile(
    r"^(?:<!-- not run(?: before Python 3\.(?P<minor>\d+))?: (?P<reason>\S.*?) *-->\n+)?"
    r"^(?P<indent> *)```python\b.*\n(?P<code>(?:.*\n)*?)(?P=indent)```$",
    re.MULTILINE,
)
STYLE = {"svg.hashsalt": "tlclassify", "legend.facecolor": "none", "figure.max_open_warning": 0}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
DARK = {"#000000": "#dfe3e8", "#0072b2": "#56b4e9", "<svg ": '<svg fill="#dfe3e8" '}
# As in pyproject.toml: what libraries warn of on the way, and readers cannot help.
TOLERATED = ("__array__ implementation", r"os\.fork\(\) was called", "Glyph ")
WRITES = re.compile(r"\.(write_\w+|to_html)\(")  # the file counts, not the value
MOST_LINES = 16

Result = dict[str, str]


def why_not(block: re.Match[str]) -> str | None:
    """Return the reason why a block is not run here."""
    is_new_enough = block["minor"] and sys.version_info >= (3, int(block["minor"]))
    return None if is_new_enough else block["reason"]


def run_pages(pages: dict[str, str], cache: Path) -> dict[str, Path]:
    """Run the pages that have changed, in two processes; return where the results of each lie."""
    cache.mkdir(parents=True, exist_ok=True)
    everything = hashlib.sha256(f"{sys.version} {[version(name) for name in LIBRARIES]}".encode())
    for path in [Path(__file__), *sorted((ROOT / "src" / "tlclassify").rglob("*"))]:
        if path.is_file() and path.suffix != ".pyc":
            everything.update(path.read_bytes())
    homes = {}
    for name, text in pages.items():
        digest = everything.copy()
        digest.update(f"{[(why_not(b), b['code']) for b in BLOCK.finditer(text)]}".encode())
        stem = "-".join(Path(name).with_suffix("").parts)
        homes[name] = cache / f"{stem}-{digest.hexdigest()[:16]}"
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "Agg"}
    failures = []
    with ProcessPoolExecutor(2, get_context("spawn"), stay_here) as pool:
        todo = [name for name in pages if not homes[name].exists()]
        for job in [pool.submit(store_results, name, pages[name], homes[name]) for name in todo]:
            said, failure = job.result()
            print(said, flush=True)
            failures += [failure] * bool(failure)
    if failures:
        sys.exit("\n".join(failures))
    for folder in set(cache.iterdir()) - set(homes.values()):
        shutil.rmtree(folder)
    return homes


def stay_here() -> None:
    """Cut the network off: what a page shows comes from the package and its libraries."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in {"localhost", "127.0.0.1", "::1"}:
            raise OSError(f"Pages reach no network; {address[0]!r} was asked for.")
        connect(self, address)

    socket.socket.connect = connect_here  # type: ignore[method-assign]


def store_results(name: str, text: str, home: Path) -> tuple[str, str]:
    """Run a page in a worker and store its results; return the seconds, and what failed."""
    start, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(dir=home.parent) as work:
        folder = Path(work) / home.name
        folder.mkdir()
        try:
            results = list(run_blocks(name, text, folder))
        except BaseException:  # noqa: BLE001 - shown, with the page's line, and fails the build
            return f"{name}: failed", traceback.format_exc()
        (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
        folder.replace(home)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return f"{name}: {seconds:.1f} s, {cpu:.1f} s of processors", ""


def run_blocks(name: str, text: str, folder: Path) -> Iterator[list[Result]]:
    """Yield the results of each block of a page; files among them go to `folder`."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    blocks = list(BLOCK.finditer(text))
    if all(map(why_not, blocks)):  # and so without the seconds that libraries take to be imported
        yield from ([] for _ in blocks)
        return
    with own_settings():
        for block in blocks:
            indent = len(block["indent"])
            code = "\n".join(line[indent:] for line in block["code"].split("\n"))
            above = "\n" * text.count("\n", 0, block.start("code"))
            results = run_block(above + code, name, namespace) if why_not(block) is None else ()
            yield [keep(result, folder) for result in results]


@contextlib.contextmanager
def own_settings() -> Iterator[None]:
    """Start a page as a program of its own would, in an empty folder; a warning is an error."""
    import keras
    import matplotlib.pyplot as plt
    import numpy as np

    plt.close("all")
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    arrays = {"threshold": 30, "edgeitems": 3, "precision": 3, "suppress": True, "linewidth": 90}
    work = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with (
        work as folder,
        plt.rc_context(STYLE),
        np.printoptions(**arrays, legacy="1.25"),
        warnings.catch_warnings(),
    ):
        os.chdir(folder)
        warnings.simplefilter("error")
        for message in TOLERATED:
            warnings.filterwarnings("ignore", message)
        try:
            yield
        finally:
            os.chdir(ROOT)


def run_block(code: str, name: str, namespace: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Run one block, statement by statement as a notebook would, and yield what came of it."""
    import matplotlib.pyplot as plt

    written, values = set(Path().glob("*.html")), []
    for node in ast.parse(code).body:
        printed, value = io.StringIO(), None
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            if isinstance(node, ast.Expr):
                value = eval(compile(ast.Expression(node.value), name, "eval"), namespace)
            else:
                exec(compile(ast.Module([node], []), name, "exec"), namespace)
        if printed.getvalue().strip():
            yield {"kind": "text", "text": printed.getvalue().rstrip()}
        source = ast.get_source_segment(code, node) or ""
        if is_told(value) and not WRITES.search(source):
            told = str(value) if hasattr(value, "_repr_html_") else pprint.pformat(value, width=90)
            lines = told.split("\n")
            shorter = lines[:MOST_LINES] + ["..."] * (len(lines) > MOST_LINES)
            yield {"kind": "value", "text": "\n".join(shorter), "source": source}
        values.append(value)
    for number in plt.get_fignums():
        figure = plt.figure(number)
        drawn = [a for a in (*values, *namespace.values()) if getattr(a, "figure_", 0) is figure]
        yield {"kind": "picture", "text": describe(figure, *drawn[:1]), "content": figure}
        plt.close(number)
    for page in sorted(set(Path().glob("*.html")) - written):
        yield {"kind": "page", "text": page.name, "content": page}


def is_told(value: object) -> bool:
    """Say whether a reader wants to see an expression's value: pictures are shown themselves."""
    if isinstance(value, list) and value:
        return is_told(value[0])
    kinds = {kind.__module__.split(".")[0] for kind in type(value).__mro__}
    is_display = type(value).__module__.startswith("tlclassify.displays")
    return value is not None and not is_display and not kinds & {"matplotlib", "sklearn", "pathlib"}


def describe(figure: Any, display: object = None) -> str:
    """Return the alternative text of a picture: what kind it is, and the words above it."""
    axes = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    titles = [figure.get_suptitle(), *(ax.get_title() for ax in axes)]
    labels = [f"{ax.get_ylabel()} against {ax.get_xlabel()}" for ax in axes if ax.get_xlabel()]
    words = [" ".join(title.split()) for title in titles if title.strip()]
    kind = (type(display).__doc__ or "").strip().split("\n")[0] if display else "; ".join(labels)
    if not kind and not words:
        raise ValueError("A picture needs a title or labelled axes, for those who cannot see it.")
    return re.sub(r'[\[\]\\$`*<>"]| \(n_[^)]*\)', "", f"{kind} {'; '.join(words[:8])}".strip())


def keep(result: dict[str, Any], folder: Path) -> Result:
    """Write the files of a result, pictures for light and for dark pages, and return the rest."""
    content = result.pop("content", None)
    stem = f"{folder.name}-{len(list(folder.iterdir()))}"
    if result["kind"] == "page":
        result["file"] = f"{stem}-{content.name}"
        shutil.copy(content, folder / result["file"])
    elif result["kind"] == "picture":
        result["file"] = f"{stem}.svg"
        picture = io.StringIO()
        content.savefig(picture, format="svg", transparent=True, metadata=NO_METADATA)
        svg = "<svg" + picture.getvalue().partition("<svg")[2]
        (folder / result["file"]).write_text(svg, encoding="utf-8")
        for light, dark in DARK.items():
            svg = svg.replace(light, dark)
        (folder / f"{stem}.dark.svg").write_text(svg, encoding="utf-8")
    return result
