"""Measure comparisons, forecasts, the list of likely label errors, and calibration, on CIFAR-10."""

import tempfile

import numpy as np

from measuring import load_cifar10, row, seconds

NAMES = ["mobilenet", "mobilenet_050", "mobilenet_025", "mobilenet_micro"]
N_IMAGES, N_FLIPPED, N_ROWS = 10_000, 200, 400


def bench_compare() -> None:
    """Measure one comparison of four backbones on 10,000 images, and the same call again."""
    from tlclassify import compare_backbones

    X, y, _, _ = load_cifar10()
    X, y = X[:N_IMAGES], y[:N_IMAGES]
    found = []

    def compare() -> None:
        found.append(compare_backbones(NAMES, X, y, cache_dir=folder, random_state=0, verbose=0))

    with tempfile.TemporaryDirectory() as folder:
        first, second = seconds(compare), seconds(compare)
    print(found[0])
    label = "compare_backbones, MobileNet 1.0, 0.5, 0.25 and micro, 10,000"
    row(label, first, "s", "< 180", first < 180)
    row(
        "... the same call again, over the first", second / first, "x", "< 0.1", second < first / 10
    )


def bench_learning_curve() -> None:
    """Forecast from 50 images a class what 100 and 200 give, and measure it; time fifty fits."""
    from tlclassify import TransferClassifier, learning_curve

    X, y, X_test, y_test = load_cifar10()
    X, y = X[:N_IMAGES], y[:N_IMAGES]
    judged = {"X_test": X_test, "y_test": y_test, "verbose": 0}
    with tempfile.TemporaryDirectory() as folder:
        clf = TransferClassifier("mobilenet_micro", cache_dir=folder, random_state=0)
        sizes = [1, 2, 5, 10, 20, 50]
        curve = learning_curve(clf, X, y, train_sizes=sizes, random_state=0, **judged)
        truth = learning_curve(clf, X, y, train_sizes=[100, 200], random_state=1, **judged)
    print(curve, truth, sep="\n\n")
    for (n_images, accuracy, (low, high)), true in zip(
        curve.forecasts, truth.mean_accuracies, strict=True
    ):
        label = f"forecast of accuracy at {n_images} a class from 50, micro"
        row(label, accuracy, "", f"about {true:.3f}", bool(low <= true <= high))
        row("... off by", abs(accuracy - true), "", "<= 0.02", bool(abs(accuracy - true) <= 0.02))
        row("... half width of its 95% interval", (high - low) / 2, "", "", None)
    with tempfile.TemporaryDirectory() as folder:
        clf = TransferClassifier(
            "mobilenet", weights=None, cache_dir=folder, engine="auto", random_state=0
        )
        options = {"train_sizes": [1, 2, 5, 10, 20, 30, 40, 50, 60, 70], "random_state": 0}
        part = X[:1_000], y[:1_000]
        learning_curve(clf, *part, n_draws=1, verbose=0, **options)
        fifty = seconds(lambda: learning_curve(clf, *part, n_draws=5, verbose=0, **options))
    label = "learning_curve, 50 fits on stored features, MobileNet, 1,000 images"
    row(label, fifty, "s", "< 60", fifty < 60)


def bench_label_errors() -> None:
    """Flip labels of training images, and count how many lead the list of likely errors."""
    from tlclassify import TransferClassifier, evaluate

    X, y, _, _ = load_cifar10()
    X, true = X[:N_IMAGES], y[:N_IMAGES]
    classes = np.unique(true)
    rng = np.random.default_rng(0)
    flipped = rng.choice(N_IMAGES, N_FLIPPED, replace=False)
    given = np.searchsorted(classes, true)
    given[flipped] = (given[flipped] + rng.integers(1, len(classes), N_FLIPPED)) % len(classes)
    with tempfile.TemporaryDirectory() as folder:
        clf = TransferClassifier("mobilenet", cache_dir=folder, random_state=0, verbose=0)
        report = evaluate(clf, X, classes[given], cv=5)
    errors = report.label_errors()
    n_found = int(np.isin([error.row for error in errors[:N_ROWS]], flipped).sum())
    label = f"label errors: of {N_FLIPPED} flipped, in the first {N_ROWS} rows"
    row(label, n_found / N_FLIPPED, "", ">= 0.5", n_found >= N_FLIPPED / 2)


def bench_calibration() -> None:
    """Measure the calibration error of an over-confident head before and after temperature."""
    from tlclassify import Head, Stage, TransferClassifier, calibrate, evaluate

    X, y, X_test, y_test = load_cifar10()
    # No dropout, no decay, no early stop: it learns its training images by heart.
    clf = TransferClassifier(
        "mobilenet",
        head=Head((512,), dropout=0),
        head_stage=Stage(40, weight_decay=0, patience=None, schedule="constant"),
        validation_fraction=0,
        random_state=0,
        verbose=0,
    ).fit(X[:N_IMAGES], y[:N_IMAGES])
    held_out = slice(N_IMAGES, N_IMAGES + 2000)
    before = evaluate(clf, X_test, y_test)
    after = evaluate(calibrate(clf, X[held_out], y[held_out]), X_test, y_test)
    ratio = after.calibration_error / before.calibration_error
    row("calibration error of an over-confident head", before.calibration_error, "", "", None)
    row("... after temperature, over before", ratio, "x", "<= 0.5", ratio <= 0.5)
    change = after.accuracy - before.accuracy
    row("... accuracy, change", change, "", "0", change == 0)
