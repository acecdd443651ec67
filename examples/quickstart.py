"""Few-shot digits: a packaged backbone against random weights and against raw pixels.

Ten labelled images of each digit are all that is learnt from; the other 1,697 are the test.
Both networks see the digits at 64 pixels: thin strokes are lost when 32 pixels are halved three
times. Nothing is downloaded. Run it with ``make demo``, or ``python examples/quickstart.py``.
"""

import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tlclassify import EvaluationReport, TransferClassifier, evaluate
from tlclassify.datasets import load_digits_rgb
from tlclassify.displays import (
    ConfusionDisplay,
    ImageGridDisplay,
    LearningCurvesDisplay,
    PredictionGridDisplay,
)

N_PER_CLASS = 10
FOLDER = Path("quickstart_output")


def main() -> None:
    """Train three classifiers on the same few images, print and draw what came out."""
    start = time.perf_counter()
    digits = load_digits_rgb()
    few = pick_few(digits.y)
    rest = np.setdiff1d(np.arange(len(digits.y)), few)
    X, y, X_test, y_test = digits.X[few], digits.y[few], digits.X[rest], digits.y[rest]
    print(f"{len(y)} labelled digits to learn from, {len(y_test)} to test on\n")

    transfer = TransferClassifier("mobilenet_micro", image_size=64, random_state=0)
    classifiers = {
        "mobilenet_micro, packaged weights": transfer,
        "mobilenet_micro, random weights": TransferClassifier(
            "mobilenet_micro", weights=None, image_size=64, random_state=0
        ),
        "logistic regression on raw pixels": make_pipeline(
            FunctionTransformer(flatten), StandardScaler(), LogisticRegression(max_iter=1000)
        ),
    }
    reports = {
        name: evaluate(classifier.fit(X, y), X_test, y_test)
        for name, classifier in classifiers.items()
    }

    report = reports["mobilenet_micro, packaged weights"]
    print(report)
    print("\nTest accuracy, with its 95% interval:")
    for name, found in reports.items():
        low, high = found.accuracy_interval
        print(f"  {name:<35} {found.accuracy:.3f}  [{low:.3f}, {high:.3f}]")
    draw(report, transfer, X, y, X_test)
    print(f"\nPictures are in {FOLDER}/. It took {time.perf_counter() - start:.0f} s.")


def pick_few(labels: np.ndarray) -> np.ndarray:
    """Return the rows of a few images of each class, drawn with a fixed seed."""
    rng = np.random.default_rng(0)
    classes = np.unique(labels)
    rows = [rng.choice(np.flatnonzero(labels == k), N_PER_CLASS, replace=False) for k in classes]
    return np.sort(np.concatenate(rows))


def flatten(images: np.ndarray) -> np.ndarray:
    """Return one row of raw pixels per image; the three channels of a digit are alike."""
    return images[..., 0].reshape(len(images), -1).astype(np.float32)


def draw(
    report: EvaluationReport,
    clf: TransferClassifier,
    X: np.ndarray,
    y: np.ndarray,
    X_test: np.ndarray,
) -> None:
    """Save the pictures of the images, the training and the report."""
    FOLDER.mkdir(exist_ok=True)
    displays = {
        "samples": ImageGridDisplay.from_images(X, y, select="random", random_state=0),
        "learning_curves": LearningCurvesDisplay(clf.history_),
        "confusion_counts": ConfusionDisplay.from_report(report),
        "confusion_normalized": ConfusionDisplay.from_report(report, normalize="true"),
        "predictions": PredictionGridDisplay.from_report(
            report, X_test, select="random", random_state=0
        ),
    }
    for name, display in displays.items():
        display.plot().figure_.savefig(FOLDER / f"{name}.png", dpi=150)


if __name__ == "__main__":
    main()
