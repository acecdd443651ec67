"""Randomness that `random_state` alone decides, and that leaves global generators alone."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from sklearn.utils import check_random_state


def draw_seeds(random_state: int | np.random.RandomState | None, n: int) -> list[int]:
    """Return independent seeds, decided by `random_state` unless it is None.

    Raises
    ------
    ValueError
        If `random_state` is neither an integer, a RandomState nor None.
    """
    drawn = check_random_state(random_state).randint(2**31 - 1, size=n)
    return [int(seed) for seed in drawn]


@contextmanager
def seeded(random_state: int | None) -> Iterator[None]:
    """Make the weights built inside depend on `random_state` alone, and nothing outside it.

    Keras draws the seed of every initialiser and dropout layer from Python's own generator, so
    that generator is seeded here and put back afterwards.
    """
    if random_state is None:
        yield
        return
    before = random.getstate()
    random.seed(int(np.random.default_rng(random_state).integers(2**31)))
    try:
        yield
    finally:
        random.setstate(before)
