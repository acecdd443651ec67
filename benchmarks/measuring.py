"""What all benchmarks share: rows, seconds and data."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
ROWS: list[dict[str, object]] = []
IDLE_SECONDS = 1.0  # ONNX Runtime's threads wait for more work at full speed for a while


def row(name: str, value: float, unit: str, target: str, reached: bool | None) -> None:  # noqa: FBT001
    """Print and keep one measurement."""
    verdict = {True: "reached", False: "NOT reached", None: ""}[reached]
    print(f"{name:<62} {value:>10.3f} {unit:<9} {target:<16} {verdict}", flush=True)
    ROWS.append({"name": name, "value": value, "unit": unit, "target": target, "reached": reached})


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
