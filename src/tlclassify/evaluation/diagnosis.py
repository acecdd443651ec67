"""The parts of a report, and how they are measured; methods of `EvaluationReport` give them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    names: Mapping[int, str] = field(default_factory=dict)  # of the files of thumbnails


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


@dataclass(frozen=True)
class ThresholdChoice:
    """Above which probability to answer; see `EvaluationReport.choose_threshold`.

    `n_needed` images, all of them right, are the fewest that could show so much.
    """

    accuracy: float
    confidence: float
    threshold: float | None
    n_answered: int
    n_correct: int
    n_samples: int
    n_needed: int
    share_interval: tuple[float, float]

    @property
    def share(self) -> float:
        """The fraction of images answered."""
        return self.n_answered / self.n_samples

    def __str__(self) -> str:
        level, confidence = f"{self.accuracy:.4g}", f"{self.confidence:.4g}"
        wanted = f"right at least {level} of the time, with confidence {confidence}"
        if self.threshold is not None:
            which = f"answers with a probability of at least {self.threshold:.9g}"
            low, high = self.share_interval
            share = f"{self.share:.3f} of the images ({low:.3f} to {high:.3f})"
            right = f"{self.n_correct:,} of {self.n_answered:,} right here"
            return f"{which if self.threshold else 'all answers'} are {wanted}: {share}, {right}"
        why = "the surest of them are not right often enough"
        if self.n_samples < self.n_needed:
            why = f"that takes {self.n_needed:,} at least, all of them right"
        shown = f"{self.n_samples:,} images show none whose answers are {wanted}"
        return f"no threshold: {shown}; {why}"


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


def choose_threshold(
    correct: NDArray[np.bool_], surest: NDArray[Any], accuracy: float, confidence: float
) -> ThresholdChoice:
    """Return the lowest threshold above which accuracy is shown, by tests in a fixed sequence."""
    order = np.argsort(-surest, kind="stable")
    falling, n = surest[order], len(surest)
    # Given the probability next below them, the k surest images are a fair sample of all above it.
    # So each k is a test; equal probabilities are answered together, and the last k answers all.
    n_above = np.append(np.searchsorted(-falling, -falling[1:]), n)
    n_wrong = np.append(0, np.cumsum(~correct[order]))[n_above]
    p_values = stats.binom.cdf(n_wrong, n_above, 1 - accuracy)
    needed = [math.ceil(math.log((1 - confidence) / m) / math.log(accuracy)) for m in range(1, 60)]
    n_starts = max([m for m in range(1, 60) if needed[m - 1] << (m - 1) <= n], default=1)
    starts = {needed[n_starts - 1] << i for i in range(n_starts)}
    level, chosen = 0.0, 0
    for k, p_value in enumerate(p_values.tolist(), start=1):
        level += (1 - confidence) / n_starts * (k in starts)
        chosen, level = (k, level) if p_value <= level else (chosen, 0.0)
    answered, right = 0, 0
    threshold: float | None = None
    if chosen:
        next_below = falling[chosen] if chosen < n else falling.dtype.type(-1)
        threshold = max(0.0, float(np.nextafter(next_below, falling.dtype.type(2))))
        answered = int(n_above[chosen - 1])
        right = answered - int(n_wrong[chosen - 1])
    low, high = wilson_intervals(answered, n, confidence).tolist()
    # Without a threshold, or without a limit, the share is no estimate.
    interval = (low if answered < n else 1.0, high if answered else 0.0)
    return ThresholdChoice(accuracy, confidence, threshold, answered, right, n, needed[0], interval)
