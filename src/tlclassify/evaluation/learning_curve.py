"""Accuracy against the number of labelled images: the record that `learning_curve` makes."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tlclassify._checks.parameters import COUNT, check_parameters
from tlclassify._checks.tables import Part, shown_by
from tlclassify.evaluation.diagnosis import wilson_intervals
from tlclassify.evaluation.text import draw_with, to_plain

# Fewer say nothing of a law with three numbers.
_FEWEST_SIZES, _FEWEST_DRAWS = 4, 2
_EXPONENTS = np.linspace(0.05, 1.5, 59)
_N_RESAMPLES = 1_000
_NO_SPREAD = 1e-9
_FACTORS = {2: "twice as many labels", 4: "four times as many"}


class PowerLaw(NamedTuple):
    """The law error = floor + scale * n ** -exponent, for n images a class."""

    floor: float
    scale: float
    exponent: float


class Forecast(NamedTuple):
    """The accuracy to be expected with so many images a class, and its interval."""

    n_images: int
    accuracy: float
    interval: tuple[float, float]


def _describe(curve: "LearningCurve") -> list[Part]:
    n_draws = curve.accuracies.shape[1]
    table = [("images a class", "accuracy", "interval")]
    numbers = zip(curve.train_sizes, curve.mean_accuracies, curve.accuracy_intervals, strict=True)
    for size, accuracy, (low, high) in numbers:
        table.append((f"{size:,}", f"{accuracy:.3f}", f"{low:.3f} to {high:.3f}"))
    draws = "one draw" if n_draws == 1 else f"means of {n_draws:,} draws"
    judged = f"{curve.n_classes:,} classes, judged by {curve.n_test:,} images"
    level = f"intervals at {100 * curve.confidence_level:g}%"
    lines = [f"no forecast: {_why_no_law(curve)}"]
    if curve.law is not None:
        lines = ["error = {:.3f} + {:.3f} / n^{:.2f} for n images a class".format(*curve.law)]
    for name, forecast in zip(_FACTORS.values(), curve.forecasts, strict=False):
        n_images, accuracy, (low, high) = forecast
        lines.append(
            f"{name} ({n_images:,} a class) would give about {accuracy:.2f} [{low:.2f}, {high:.2f}]"
        )
    return [f"{judged}; {draws}, {level}", table, "\n".join(lines)]


def _why_no_law(curve: "LearningCurve") -> str:
    n_sizes, n_draws = curve.accuracies.shape
    return (
        f"a law is fitted to at least {_FEWEST_SIZES} sizes and {_FEWEST_DRAWS} draws; there "
        f"are {n_sizes} and {n_draws}"
    )


@shown_by(_describe, draw=partial(draw_with, "ImageCountDisplay"))
@dataclass(frozen=True, eq=False, repr=False)
class LearningCurve:
    """Accuracy against labelled images a class; `learning_curve` makes it.

    `str(curve)` is a table, and what twice and four times as many labels would give. Intervals are
    of the accuracy on new images after a fit on new ones: Student's t interval of the mean over
    draws and Wilson's on `n_test` images, added as the sides of a right angle.

    Attributes
    ----------
    train_sizes : ndarray (n_sizes,), int64, images a class, ascending
    accuracies : ndarray (n_sizes, n_draws), float64 in [0, 1]
        On the images held out; a column's smaller sizes are parts of its larger ones.
    n_test : int, how many different images have judged, in all draws together
    n_classes : int
    confidence_level : float in (0, 1), of all intervals

    Examples
    --------
    >>> import numpy as np
    >>> sizes = np.array([5, 10, 20, 40])
    >>> accuracies = 0.9 - sizes[:, None] ** -0.5 + np.array([[-0.01, 0.01]])
    >>> curve = LearningCurve(
    ...     sizes, accuracies, n_test=10_000, n_classes=10, confidence_level=0.95
    ... )
    >>> round(curve.forecast(160).accuracy, 2)
    0.82
    """

    train_sizes: NDArray[np.int64]
    accuracies: NDArray[np.float64]
    n_test: int
    n_classes: int
    confidence_level: float

    def __post_init__(self) -> None:
        self.train_sizes.flags.writeable = False
        self.accuracies.flags.writeable = False

    @property
    def mean_accuracies(self) -> NDArray[np.float64]:
        """Means over draws, shape (n_sizes,)."""
        return np.asarray(self.accuracies.mean(axis=1))

    @property
    def accuracy_intervals(self) -> NDArray[np.float64]:
        """Their intervals, shape (n_sizes, 2), in [0, 1]."""
        spread = np.zeros(len(self.train_sizes))
        if self.accuracies.shape[1] > 1:
            spread = self._student * stats.sem(self._deviations, axis=1)
        return self._widen(self.mean_accuracies, spread, spread)

    @cached_property
    def law(self) -> PowerLaw | None:
        """The power law nearest to the means; None of fewer than 4 sizes or 2 draws."""
        n_sizes, n_draws = self.accuracies.shape
        if n_sizes < _FEWEST_SIZES or n_draws < _FEWEST_DRAWS:
            return None
        (found,) = _fit_laws(self.train_sizes, 1 - self.mean_accuracies[None])
        return PowerLaw(*map(float, found))

    @property
    def forecasts(self) -> tuple[Forecast, ...]:
        """What twice and four times the largest size would give; empty without a law."""
        if self.law is None:
            return ()
        return tuple(self.forecast(factor * int(self.train_sizes[-1])) for factor in _FACTORS)

    def forecast(self, n_images: int) -> Forecast:
        """Return the accuracy to be expected with so many images a class, should the law go on.

        Its interval is that of laws fitted to resampled draws (the bootstrap), widened for so few
        draws and by the chance of the test images. ValueError if there are fewer than 4 sizes or 2
        draws, or `n_images` is not a positive integer.
        """
        check_parameters(("n_images", n_images, COUNT))
        if self.law is None:
            raise ValueError(f"{_why_no_law(self)}. Call learning_curve with more.")
        floor, scale, exponent = self.law
        accuracy = np.clip(1 - floor - scale * n_images**-exponent, 0, 1)
        n_draws = self.accuracies.shape[1]
        rows = np.random.default_rng(0).integers(n_draws, size=(_N_RESAMPLES, n_draws))
        means = self.mean_accuracies[:, None] + self._deviations[:, rows].mean(axis=-1)
        floors, scales, exponents = _fit_laws(self.train_sizes, 1 - means.T).T
        low, high = np.quantile(1 - floors - scales * n_images**-exponents, self._tails)
        # Of k draws, resampled means vary less than means do, by (k - 1) / k.
        factor = self._student / stats.norm.ppf(self._tails[1]) * np.sqrt(n_draws / (n_draws - 1))
        down, up = factor * max(accuracy - low, 0), factor * max(high - accuracy, 0)
        interval = self._widen(accuracy, down, up)
        return Forecast(n_images, float(accuracy), (float(interval[0]), float(interval[1])))

    def to_dict(self) -> dict[str, Any]:
        """Return all the numbers, in types that `json.dumps` takes."""
        names = [*self.__dataclass_fields__, "mean_accuracies", "accuracy_intervals"]
        numbers = {name: getattr(self, name) for name in names}
        law = None if self.law is None else self.law._asdict()
        forecasts = [forecast._asdict() for forecast in self.forecasts]
        plain: dict[str, Any] = to_plain(numbers | {"law": law, "forecasts": forecasts})
        return plain

    def __repr__(self) -> str:
        n_sizes, n_draws = self.accuracies.shape
        return f"LearningCurve({n_sizes} sizes, {n_draws} draws)"

    @property
    def _tails(self) -> tuple[float, float]:
        return (1 - self.confidence_level) / 2, (1 + self.confidence_level) / 2

    @property
    def _student(self) -> float:
        """How many standard errors lie between a mean over draws and the end of its interval."""
        return float(stats.t.ppf(self._tails[1], self.accuracies.shape[1] - 1))

    @cached_property
    def _deviations(self) -> NDArray[np.float64]:
        """How far draws are from their mean (n_sizes, n_draws), had they nothing in common."""
        # Draws of nearly all images are nearly the same. So deviations that fall faster than with
        # the root of the images are enlarged; where there are none, those of the size before stand
        # in, in other draws lest curves run side by side.
        found = self.accuracies - self.mean_accuracies[:, None]
        for i, factor in enumerate(np.sqrt(self.train_sizes[:-1] / self.train_sizes[1:]), start=1):
            spread, least = found[i].std(), factor * found[i - 1].std()
            if spread < _NO_SPREAD:
                found[i] = factor * np.roll(found[i - 1], 1)
            elif spread < least:
                found[i] *= least / spread
        return found

    def _widen(self, accuracy: Any, down: Any, up: Any) -> NDArray[np.float64]:
        """Return intervals (..., 2) that reach so far and as far as the test images' chance."""
        wilson = wilson_intervals(accuracy * self.n_test, self.n_test, self.confidence_level)
        low = accuracy - np.hypot(down, accuracy - wilson[..., 0])
        high = accuracy + np.hypot(up, wilson[..., 1] - accuracy)
        return np.stack([low, high], axis=-1).clip(0, 1)


def _fit_laws(sizes: NDArray[np.int64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return floor, scale and exponent (n_curves, 3) of errors (n_curves, n_sizes)."""
    # Floor and scale are solved for each exponent of a grid, so that no local optimum is found.
    # Errors spread less where there are more images; variances of five draws say little of it.
    n = sizes.astype(np.float64)
    weights = np.sqrt(n) / np.sqrt(n).sum()
    laws, lowest = np.zeros((len(errors), 3)), np.full(len(errors), np.inf)
    for exponent in _EXPONENTS:
        x = n**-exponent
        mean = errors @ weights
        centred = weights * (x - weights @ x)
        scale = np.maximum(errors @ centred / (centred @ x), 0)
        floor = mean - scale * (weights @ x)
        scale = np.where(floor < 0, errors @ (weights * x) / (weights @ x**2), scale)
        floor = np.maximum(floor, 0)
        loss = (errors - floor[:, None] - scale[:, None] * x) ** 2 @ weights
        better = loss < lowest
        lowest[better] = loss[better]
        laws[better] = np.stack([floor, scale, np.full_like(floor, exponent)], axis=1)[better]
    return laws
