"""CIFAR-10 with any backbone: report, pictures and the seconds it took.

    python examples/cifar10.py --backbone mobilenet --limit 10000
    python examples/cifar10.py --backbone mobilenet --fine-tune top --augmentation flip
    python examples/cifar10.py --backbone mobilenet --label-errors

CIFAR-10 is looked for in ``--data`` (an archive or a folder of it), then where `fetch_cifar10`
looks, and is downloaded when it is nowhere. ``KERAS_HOME`` names the folder with Keras's weights.
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
    parser.add_argument("--data", help="a CIFAR-10 archive or folder")
    parser.add_argument("--cache-dir", help="keep activations here for the next run")
    parser.add_argument(
        "--label-errors", action="store_true", help="draw likely wrong labels (needs cleanlab)"
    )
    parser.add_argument("--output", type=Path, default=Path("cifar10_output"))
    options = parser.parse_args()

    data = fetch_cifar10(path=options.data)
    X, y = data.X_train[: options.limit], data.y_train[: options.limit]
    names = list(data.class_names)
    clf = TransferClassifier(
        options.backbone,
        head=options.head,
        fine_tune_stage=options.fine_tune,
        augmentation=options.augmentation,
        cache_dir=options.cache_dir,
        random_state=0,
    )
    start = time.perf_counter()
    clf.fit(X, [names[label] for label in y])
    fitted = time.perf_counter()
    report = evaluate(clf, data.X_test, [names[label] for label in data.y_test])
    print(report)
    print(
        f"\n{options.backbone}: fitted on {len(X)} images in {fitted - start:.0f} s, "
        f"evaluated on {len(data.X_test)} in {time.perf_counter() - fitted:.0f} s"
    )

    options.output.mkdir(exist_ok=True)
    displays = {
        "samples": ImageGridDisplay.from_images(X, [names[label] for label in y]),
        "learning_curves": LearningCurvesDisplay(clf.history_),
        "confusion_normalized": ConfusionDisplay.from_report(report, normalize="true"),
        "mistakes": PredictionGridDisplay.from_report(
            report, data.X_test, select="wrong", random_state=0
        ),
    }
    if options.label_errors:
        errors = report.label_errors()[:18]
        displays["label_errors"] = ImageGridDisplay(
            data.X_test[[error.row for error in errors]],
            labels=[f"{error.label}: {error.suggested}?" for error in errors],
        )
    for name, display in displays.items():
        display.plot().figure_.savefig(options.output / f"{name}.png", dpi=150)
    report.to_html(options.output / "report.html")


if __name__ == "__main__":
    main()
