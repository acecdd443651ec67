"""Which images to label next: `select_images` against labelling images at random.

CIFAR-10 and scikit-learn's digits, MobileNet, five draws of a pool and the images to judge by. In
each, images are chosen step by step, and a classifier is fitted anew after every step. What is
random is the mean of three such walks. In ten minutes:

    make bench BENCH=selection
"""

import tempfile
from typing import Any

import numpy as np
from scipy import stats

from measuring import load_cifar10, row

IMAGES_A_CLASS = (2, 5, 10, 20, 30, 50, 70, 100)  # on average: nobody knows the classes before
N_DRAWS, N_WALKS = 5, 3
N_POOL, N_JUDGED = 5_000, 5_000


def bench_selection() -> None:
    """Measure the accuracy at 2 to 100 images a class, chosen and at random."""
    from tlclassify import FeatureExtractor
    from tlclassify.datasets import load_digits_rgb

    X, y, _, _ = load_cifar10()
    digits, size = load_digits_rgb(), N_POOL + N_JUDGED
    for name, X, y, n_pool in [  # noqa: B020
        # Other images and draws than those by which the policy was chosen.
        ("CIFAR-10", X[size : 2 * size], y[size : 2 * size], N_POOL),
        ("digits", digits.X, digits.y, 1_257),
    ]:
        chosen, at_random = [], []
        with tempfile.TemporaryDirectory() as folder:
            options = {"cache_dir": folder, "engine": "auto", "verbose": 0}
            FeatureExtractor("mobilenet", **options).transform(X)
            for seed in range(N_DRAWS):
                rng = np.random.default_rng(100 + seed)
                pool, judged = np.split(rng.permutation(len(X)), [n_pool])
                task = (X[pool], y[pool], X[judged], y[judged], options)
                chosen.append(walk(*task))
                at_random.append(np.mean([walk(*task, rng=rng) for _ in range(N_WALKS)], axis=0))
                print(name, seed, np.round(chosen[-1], 3), np.round(at_random[-1], 3), flush=True)
        gains = np.array(chosen) - at_random
        widths = stats.t.ppf(0.975, N_DRAWS - 1) * stats.sem(gains)
        for i, n in enumerate(IMAGES_A_CLASS):
            label = f"{name}, {n} a class: at random"
            row(label, np.mean(at_random, axis=0)[i], "", "", None)
            gain = gains[:, i].mean()
            row(f"... gain if chosen (+- {widths[i]:.3f})", gain, "", "> 0", gain > widths[i])


def walk(
    X: np.ndarray,
    y: np.ndarray,
    X_judged: np.ndarray,
    y_judged: np.ndarray,
    options: dict[str, Any],
    *,
    rng: np.random.Generator | None = None,
) -> list[float]:
    """Return the accuracies at each number of images, chosen, or at random by a generator."""
    from tlclassify import TransferClassifier, select_images

    clf = TransferClassifier("mobilenet", random_state=0, **options)
    labelled, scores = np.arange(0), []
    for n in IMAGES_A_CLASS:
        others = np.setdiff1d(np.arange(len(X)), labelled)
        n_new = n * len(np.unique(y)) - len(labelled)
        if rng is None:
            new = others[select_images(clf, X[others], n_images=n_new)]
        else:
            new = rng.permutation(others)[:n_new]
        labelled = np.concatenate([labelled, new])
        scores.append(clf.fit(X[labelled], y[labelled]).score(X_judged, y_judged))
    return scores
