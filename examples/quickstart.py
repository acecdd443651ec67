"""Few-shot digits: a packaged backbone against random weights and against raw pixels.

Ten labelled images of each digit are all that is learnt from; the other 1,697 are the test.
Both networks see the digits at 64 pixels: thin strokes are lost when 32 pixels are halved three
times. Nothing is downloaded. Run it with ``make demo``, or ``python examples/quickstart.py``.
"""

import time
from pathlib import Path

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tlclassify import TransferClassifier, evaluate
from tlclassify.datasets import load_digits_rgb
from tlclassify.displays import ConfusionDisplay, ImageGridDisplay, PredictionGridDisplay

PACKAGED = "mobilenet_micro, packaged weights"
FOLDER = Path("quickstart_output")


def main() -> None:
    """Fit three classifiers on the same few images, print and draw what came out."""
    start = time.perf_counter()
    digits = load_digits_rgb()
    X, X_test, y, y_test = train_test_split(
        digits.X, digits.y, train_size=100, stratify=digits.y, random_state=0
    )
    flat = FunctionTransformer(lambda images: images[..., 0].reshape(len(images), -1))
    classifiers = {
        PACKAGED: TransferClassifier("mobilenet_micro", image_size=64),
        "mobilenet_micro, random weights": TransferClassifier(
            "mobilenet_micro", weights=None, image_size=64, random_state=0
        ),
        "logistic regression on raw pixels": make_pipeline(
            flat, StandardScaler(), LogisticRegression(max_iter=1000)
        ),
    }
    reports = {name: evaluate(clf.fit(X, y), X_test, y_test) for name, clf in classifiers.items()}

    print(reports[PACKAGED])
    print(f"\nTest accuracy after {len(y)} labelled digits, with its 95% interval:")
    for name, report in reports.items():
        low, high = report.accuracy_interval
        print(f"  {name:<35} {report.accuracy:.3f}  [{low:.3f}, {high:.3f}]")

    report = reports[PACKAGED]
    FOLDER.mkdir(exist_ok=True)
    for name, display in {
        "samples": ImageGridDisplay.from_images(X, y),
        "confusion": ConfusionDisplay.from_report(report),
        "mistakes": PredictionGridDisplay.from_report(report, X_test, select="wrong"),
    }.items():
        display.plot().figure_.savefig(FOLDER / f"{name}.png", dpi=150)
    report.to_html(FOLDER / "report.html")
    print(f"\nPictures and a page are in {FOLDER}/. It took {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
