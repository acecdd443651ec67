"""CIFAR-10 with any backbone: report, pictures and the seconds it took.

    python examples/cifar10.py --backbone mobilenet --limit 10000
    python examples/cifar10.py --backbone mobilenet --fine-tune top --augmentation flip
    python examples/cifar10.py --backbone mobilenet --label-errors

CIFAR-10 is read from ``--data`` (a folder or .npz file), or else from where `fetch_cifar10` looks,
and is downloaded when it is nowhere. ``KERAS_HOME`` names the folder with Keras's data and weights.
"""

import argparse
import time
from pathlib import Path

from tlclassify import TransferClassifier, evaluate
from tlclassify.datasets import fetch_cifar10
from tlclassify.displays import (
    ConfusionDisplay,
    ImageGridDisplay,
    LearningCurvesDisplay,
    PredictionGridDisplay,
)


def main() -> None:
    """Fit on the training images, evaluate on the test images, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="mobilenet_micro")
    parser.add_argument("--limit", type=int, default=10_000, help="training images at most")
    parser.add_argument("--head", default="mlp", help="linear, mlp, article or article_plain")
    parser.add_argument("--fine-tune", help="top or all: what is trained after the head")
    parser.add_argument("--augmentation", help="flip, article or strong")
    parser.add_argument("--data", help="cifar-10-batches-bin, cifar10.npz or their folder")
    parser.add_argument("--cache-dir", help="keep activations here for the next run")
    parser.add_argument(
        "--label-errors", action="store_true", help="draw likely wrong labels (needs cleanlab)"
    )
    parser.add_argument("--output", type=Path, default=Path("cifar10_output"))
    options = parser.parse_args()

    train, test = fetch_cifar10(options.data)
    X, y = train.X[: options.limit], train.y[: options.limit]
    clf = TransferClassifier(
        options.backbone,
        head=options.head,
        fine_tune_stage=options.fine_tune,
        augmentation=options.augmentation,
        cache_dir=options.cache_dir,
        random_state=0,
    )
    start = time.perf_counter()
    clf.fit(X, y)
    fitted = time.perf_counter()
    report = evaluate(clf, test.X, test.y)
    print(report)
    print(
        f"\n{options.backbone}: fitted on {len(X)} images in {fitted - start:.0f} s, "
        f"evaluated on {len(test.X)} in {time.perf_counter() - fitted:.0f} s"
    )

    options.output.mkdir(exist_ok=True)
    displays = {
        "samples": ImageGridDisplay.from_images(X, y),
        "learning_curves": LearningCurvesDisplay(clf.history_),
        "confusion_normalized": ConfusionDisplay.from_report(report, normalize="true"),
        "mistakes": PredictionGridDisplay.from_report(
            report, test.X, select="wrong", random_state=0
        ),
    }
    if options.label_errors:
        errors = report.label_errors()[:18]
        displays["label_errors"] = ImageGridDisplay(
            test.X[[error.row for error in errors]],
            labels=[f"{error.label}: {error.suggested}?" for error in errors],
        )
    for name, display in displays.items():
        display.plot().figure_.savefig(options.output / f"{name}.png", dpi=150)
    report.to_html(options.output / "report.html")


if __name__ == "__main__":
    main()
