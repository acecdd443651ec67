"""Write the tables and the picture of docs/figures.md from what benchmarks found.

    make bench BENCH="import memory"  # any benchmarks, on any machine
    make bench BENCH=figures  # seconds

Results in ``benchmarks/results/`` take the place of what ``docs/figures.json`` holds of the same
benchmark, unless they are older. All tables are written from that file alone, each between the
comments that name its benchmarks, so that the page forgets nothing that is not at hand.
"""

import json
import math
import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from few_images import Row, draw_picture, write_table
from measuring import RESULTS

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"(<!-- bench: ([^\n]+) -->\n).*?(<!-- end -->)", re.DOTALL)
LIBRARIES = {
    "tensorflow": "TensorFlow",
    "jax": "JAX",
    "torch": "PyTorch",
    "numpy": "NumPy",
    "scikit-learn": "scikit-learn",
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
}
UNITS = {"x": "times", "seconds": "s", "milliseconds": "ms", "mebibytes": "MiB"}
Record = dict[str, Any]


def bench_figures() -> None:
    """Take in new results, and write the tables and the picture of the page."""
    path, page = DOCS / "figures.json", DOCS / "figures.md"
    known: dict[str, Record] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for found in sorted(RESULTS.glob("*.json")):
        record = json.loads(found.read_text())
        if "date" in record and record["date"] >= known.get(found.stem, record)["date"]:
            known[found.stem] = tidy(record)
    text = json.dumps(dict(sorted(known.items())), ensure_ascii=False, indent=1)
    text = re.sub(r"\[\n([^\[\]]+)\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    path.write_text(text + "\n", encoding="utf-8")
    page.write_text(fill_page(page.read_text("utf-8"), known), encoding="utf-8")
    if "few_images" in known:
        draw_picture([Row(*line) for line in known["few_images"]["table"]], DOCS / "few_images.svg")


def fill_page(page: str, known: dict[str, Record]) -> str:
    """Return the page with tables of what is known between its comments."""
    setups = dict.fromkeys(describe(record) for record in known.values())
    letters = dict(zip(setups, string.ascii_uppercase, strict=False))

    def fill(block: re.Match[str]) -> str:
        names = [name for name in block[2].split() if name in known]
        if block[2] == "machines":
            lines = [f"- **{letter}**: {setup}." for setup, letter in letters.items()]
        elif not names:
            lines = [f'*Not measured yet: `make bench BENCH="{block[2]}"`.*']
        elif names[0] in TABLES:
            record = known[names[0]]
            lines = [*TABLES[names[0]](record), "", f"*{origin(names[0], record, letters)}*"]
        else:
            lines = write_rows({name: known[name] for name in names}, letters)
        wrapped = ['<div class="wide" markdown="1">', "", *lines, "", "</div>"]
        return "\n".join([block[1], *wrapped, "", block[3]])

    return BLOCK.sub(fill, page)


def tidy(record: Record) -> Record:
    """Return a record without aims, its numbers no longer than they are true."""
    rows = [
        [row["name"], round_off(row["value"]), row["unit"]]
        for row in record["rows"]
        if row["name"] != "... over the version before"  # which no reader knows
    ]
    return record | {"rows": rows, "table": [[*map(round_off, line)] for line in record["table"]]}


def round_off(value: Any) -> Any:
    """Return a number with four significant digits, anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def describe(record: Record) -> str:
    """Return a machine, its versions and its weights in words."""
    versions = record["versions"]
    backend = versions["backend"]
    words = [f"Python {versions['python']}, Keras {versions['keras']} on {LIBRARIES[backend]}"]
    words[0] += f" {versions[backend]}" if backend in versions else ""
    others = [key for key in LIBRARIES if key in versions and key not in {"tensorflow", "jax"}]
    words += [f"{LIBRARIES[key]} {versions[key]}" for key in others if key != backend]
    machine = f"{record['machine']}, {record['cores']} cores"
    return f"{machine}; {', '.join(words)}; weights of MobileNet: {record['weights']}"


def origin(name: str, record: Record, letters: dict[str, str]) -> str:
    """Return by which benchmark, on which machine, when and beside what a result was found."""
    words = [f"`{name}`", letters[describe(record)], record["date"][:10], record["beside"]]
    return ", ".join(filter(None, words))


def write_rows(records: dict[str, Record], letters: dict[str, str]) -> list[str]:
    """Return single figures as one table, with the origin of each benchmark's first."""
    lines = ["| what | measured | by, on, when |", "| --- | --- | --- |"]
    for name, record in records.items():
        where = origin(name, record, letters)
        for label, value, unit in record["rows"]:
            digits = ",.0f" if abs(value) >= 100 else ".3f" if 0.01 <= abs(value) < 1 else ".3g"
            cells = f"{label.replace('... ', '… ')} | {value:{digits}} {UNITS.get(unit, unit)}"
            lines.append(f"| {cells} | {where} |")
            where = ""
    return lines


def write_few(record: Record) -> list[str]:
    """Return what few images give as tables, the small backbone's folded."""
    rows = [Row(*line) for line in record["table"]]
    micro = write_table(rows, "mobilenet_micro")
    folded = ["", '<details markdown="1"><summary>mobilenet_micro</summary>', "", *micro]
    return [*write_table(rows, "mobilenet"), *folded, "", "</details>"]


def write_gains(record: Record) -> list[str]:
    """Return what fine-tuning adds as a table."""
    lines = ["| data | a class | head alone | fine-tuned | points | kept in |", "| --- " * 6 + "|"]
    for task, n, head, after, gain, width, kept in record["table"]:
        half = f"± {100 * width:.1f}" if math.isfinite(width) else "(one draw)"
        cells = f"{head:.3f} | {after:.3f} | {100 * gain:+.1f} {half} | {kept:.0%}"
        lines.append(f"| {task} | {n:,} | {cells} |")
    return lines


def write_side_by_side(record: Record) -> list[str]:
    """Return this library and others as a table; what did not run says why."""
    lines = ["| data | a class | way | test accuracy | seconds | lines |", "| --- " * 6 + "|"]
    for task, n, way, first, *others in record["table"]:
        cells = f"{first} | | |"
        if others:
            width, taken, count = others
            cells = f"{first:.3f} ± {width:.3f} | {taken:.1f} | {count} |"
        name = f"{way} {record['versions'].get(way.lower(), '')}".strip()
        lines.append(f"| {task} | {n:,} | {name} | {cells}")
    return lines


TABLES: dict[str, Callable[[Record], list[str]]] = {
    "few_images": write_few,
    "fine_tune_few": write_gains,
    "side_by_side": write_side_by_side,
}
