"""The parts of a report, and how they are measured; methods of `EvaluationReport` give them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

N_BINS = 15


class ClassAverage(NamedTuple):
    """Precision, recall and F1, each in [0, 1], averaged over classes."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Origin:
    """What a report's page says beside the numbers; thumbnails stand by the row of their image."""

    settings: Mapping[str, str]
    versions: Mapping[str, str]
    created: str
    history: tuple[Mapping[str, Any], ...]
    thumbnails: Mapping[int, NDArray[np.uint8]]


class ConfusedPair(NamedTuple):
    """Images of one class that were taken for another; `fraction` is of the true class."""

    true: Any
    predicted: Any
    n_images: int
    fraction: float


class LabelError(NamedTuple):
    """An image whose label is likely wrong, a likelier one, and the probabilities of both."""

    row: int
    label: Any
    suggested: Any
    label_probability: float
    suggested_probability: float


@dataclass(frozen=True, eq=False)
class Reliability:
    """Accuracy by confidence, in bins of equal width; see `EvaluationReport.reliability`."""

    edges: NDArray[np.float64]
    n_images: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    accuracy_intervals: NDArray[np.float64]
    error: float


class ClassCurve(NamedTuple):
    """A curve of one class against all others, and the area under it."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    area: float


class CoverageCurve(NamedTuple):
    """Accuracy on the surest images: of those whose probability is at least the threshold."""

    coverage: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    thresholds: NDArray[np.float64]


@lru_cache(maxsize=10_000)
def wilson_interval(n_correct: int, n_samples: int, level: float) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion; NaN where there are no samples."""
    if n_samples == 0:
        return math.nan, math.nan
    interval = stats.binomtest(n_correct, n_samples).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def wilson_intervals(
    n_correct: NDArray[np.int64], n_samples: NDArray[np.int64], level: float
) -> NDArray[np.float64]:
    """Return one such interval a row, shape (n, 2)."""
    pairs = zip(n_correct.tolist(), n_samples.tolist(), strict=True)
    return np.array([wilson_interval(k, n, level) for k, n in pairs])


def measure_reliability(
    correct: NDArray[np.bool_], confidence: NDArray[Any], level: float, n_bins: int = N_BINS
) -> Reliability:
    """Return accuracy by confidence; an image on an edge belongs to the bin below."""
    edges = np.linspace(0, 1, n_bins + 1)
    order = np.argsort(confidence, kind="stable")  # so that the order of images changes no sum
    correct, confidence = correct[order], confidence[order].astype(np.float64)
    bins = np.searchsorted(edges[1:-1], confidence)
    n_images = np.bincount(bins, minlength=n_bins)
    n_correct = np.bincount(bins[correct], minlength=n_bins)
    sums = np.bincount(bins, weights=confidence, minlength=n_bins)
    occupied = np.where(n_images, n_images, np.nan)
    return Reliability(
        edges=edges,
        n_images=n_images,
        confidence=sums / occupied,
        accuracy=n_correct / occupied,
        accuracy_intervals=wilson_intervals(n_correct, n_images, level),
        error=float(np.abs(n_correct - sums).sum() / len(confidence)),
    )
