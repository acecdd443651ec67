"""What all benchmarks share: rows, seconds, data, and the record of where they were measured."""

import json
import os
import platform
import re
import resource
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
ROWS: list[dict[str, object]] = []
TABLE: list[Any] = []  # what a benchmark has to say beyond single figures, a line each
LIBRARIES = (
    *("tlclassify", "keras", "tensorflow", "jax", "torch", "numpy", "scikit-learn"),
    *("openvino", "onnxruntime", "keras-hub", "scikeras"),
)
NOTEWORTHY = 0.2  # cores that other programs took
IDLE_SECONDS = 1.0  # ONNX Runtime's threads wait for more work at full speed for a while


def row(name: str, value: float, unit: str, target: str, reached: bool | None) -> None:  # noqa: FBT001
    """Print and keep one measurement."""
    verdict = {True: "reached", False: "NOT reached", None: ""}[reached]
    print(f"{name:<62} {value:>10.3f} {unit:<9} {target:<16} {verdict}", flush=True)
    reached = None if reached is None else bool(reached)  # NumPy's own is not for JSON
    ROWS.append({"name": name, "value": value, "unit": unit, "target": target, "reached": reached})


def busy_seconds() -> float:
    """Return the seconds that all programs together have kept the cores busy, nan if unknown."""
    if not Path("/proc/stat").exists():
        return np.nan
    user, nice, kernel, _, _, *rest = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, kernel, *rest))) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Return the seconds that this process and those it waited for have kept the cores busy."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


START = (time.perf_counter(), busy_seconds() - own_seconds())


def keep(name: str) -> None:
    """Write what was measured, on which machine, with which versions, and beside what."""
    import keras

    versions = {"python": platform.python_version(), "backend": keras.config.backend()}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    passed, others = np.subtract((time.perf_counter(), busy_seconds() - own_seconds()), START)
    record = {"machine": machine(), "cores": os.cpu_count(), "versions": versions}
    record["weights"] = os.environ.get("WEIGHTS", "as Keras gives them")
    record["date"] = time.strftime("%Y-%m-%d %H:%M")
    is_beside = others > NOTEWORTHY * passed
    record["beside"] = f"beside other work ({others / passed:.1f} cores)" if is_beside else ""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(record | {"rows": ROWS, "table": TABLE}, indent=1)
    (RESULTS / f"{name}.json").write_text(text)


def machine() -> str:
    """Return the name of the processor in words."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(works: dict[str, Callable[[], object]], n_turns: int = 9) -> dict[str, np.ndarray]:
    """Return the seconds of each, run one after the other so that all see the same load."""
    for work in works.values():
        work()
    turns = [[alone(work) for work in works.values()] for _ in range(n_turns)]
    return dict(zip(works, np.array(turns).T, strict=True))


def alone(work: Callable[[], object]) -> float:
    """Return the seconds of work that begins when the threads of what ran before have gone idle."""
    time.sleep(IDLE_SECONDS)
    return seconds(work)


def ratio_of(found: dict[str, np.ndarray], name: str, other: str) -> float:
    """Return how many times as long one work took as another in the same turn, by the median."""
    return float(np.median(found[name] / found[other]))


def run_bare(run: Callable[[np.ndarray], object], images: np.ndarray, batch_size: int) -> None:
    """Run a compiled network on batches of images, with nothing around it."""
    for first in range(0, len(images), batch_size):
        run(images[first : first + batch_size])


def load_cifar10() -> tuple[np.ndarray, ...]:
    """Return training and test images and labels."""
    from tlclassify.datasets import fetch_cifar10

    train, test = fetch_cifar10(os.environ.get("CIFAR10"))
    return train.X, train.y, test.X, test.y
