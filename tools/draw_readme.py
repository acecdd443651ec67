"""Draw docs/digits.png, the picture of README.md: ``python tools/draw_readme.py``."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from tlclassify import TransferClassifier, evaluate
from tlclassify.datasets import load_digits_rgb
from tlclassify.displays import ConfusionDisplay, PredictionGridDisplay

PATH = Path(__file__).parents[1] / "docs" / "digits.png"


def main() -> None:
    """Fit on ten images of each digit; draw some predictions and the confusion matrix."""
    digits = load_digits_rgb()
    X, X_test, y, y_test = train_test_split(
        digits.X, digits.y, train_size=100, stratify=digits.y, random_state=0
    )
    clf = TransferClassifier("mobilenet_micro", image_size=64).fit(X, y)
    report = evaluate(clf, X_test, y_test)
    print(report)
    wrong = report.y_true != report.y_pred
    rows = np.concatenate([np.flatnonzero(~wrong)[:10], np.flatnonzero(wrong)[:2]])
    figure = plt.figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.5, 1])
    grid = PredictionGridDisplay.from_report(report, X_test, select=rows)
    grid.plot(left.subplots(3, 4).ravel())
    ConfusionDisplay.from_report(report).plot(right.subplots())
    low, high = report.accuracy_interval
    right.suptitle(f"accuracy {report.accuracy:.3f} [{low:.3f}, {high:.3f}]", fontsize=11)
    figure.savefig(PATH, dpi=90)


if __name__ == "__main__":
    main()
