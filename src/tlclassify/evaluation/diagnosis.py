"""The parts of a report, and how they are measured; methods of `EvaluationReport` give them."""

from collections.abc import Mapping
from dataclasses import dataclass
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


def wilson_intervals(n_correct: Any, n_samples: Any, level: float) -> NDArray[np.float64]:
    """Return Wilson's score intervals of proportions, shape (..., 2); NaN without samples."""
    n, z2 = np.where(n_samples, n_samples, np.nan), stats.norm.ppf((1 + level) / 2) ** 2
    middle = n_correct + z2 / 2
    spread = np.sqrt(z2 * (n_correct * (n - n_correct) / n + z2 / 4))
    ends = np.stack([middle - spread, middle + spread], axis=-1) / (n + z2)[..., None]
    return np.asarray(ends.clip(0, 1))


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
