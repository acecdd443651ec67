"""Confidence intervals of proportions."""

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def wilson_interval(
    n_correct: int, *, n_samples: int, confidence_level: float
) -> tuple[float, float]:
    """Return the Wilson (1927) score interval of a proportion, two floats in [0, 1]."""
    z = NormalDist().inv_cdf((1 + confidence_level) / 2)
    share = n_correct / n_samples
    centre = share + z**2 / (2 * n_samples)
    spread = z * np.sqrt(share * (1 - share) / n_samples + (z / (2 * n_samples)) ** 2)
    low, high = np.array([centre - spread, centre + spread]) / (1 + z**2 / n_samples)
    return max(float(low), 0.0), min(float(high), 1.0)


def wilson_intervals(
    n_correct: NDArray[np.int64], n_samples: NDArray[np.int64], *, confidence_level: float
) -> NDArray[np.float64]:
    """Return one such interval a row, shape (n, 2); NaN where there are no samples."""
    rows = np.full((len(n_correct), 2), np.nan)
    for row, correct, total in zip(rows, n_correct.tolist(), n_samples.tolist(), strict=True):
        if total:
            row[:] = wilson_interval(correct, n_samples=total, confidence_level=confidence_level)
    return rows
