"""What all benchmarks share: rows, seconds and data."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
ROWS: list[dict[str, object]] = []


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


def load_cifar10() -> tuple[np.ndarray, ...]:
    """Return training and test images and labels."""
    from tlclassify.datasets import fetch_cifar10

    data = fetch_cifar10(path=os.environ.get("CIFAR10"))
    return data.X_train, data.y_train, data.X_test, data.y_test
