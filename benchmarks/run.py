"""Measure speed, memory and accuracy; ratios are taken side by side in one run.

    make bench                     # everything that the data at hand allows
    make bench BENCH="import micro"  # only these
    make bench BENCH=few_images  # two hours
    make bench BENCH=penalty  # half an hour
    make bench BENCH=fine_tune_few  # two hours
    make bench BENCH=start_share  # how fine-tuning is to end; two hours
    make bench BENCH=selection  # ten minutes
    make bench BENCH=onednn  # on a processor without AVX-512; ten minutes
    PHOTOS=clothing:insects make bench BENCH=aspect  # folders of class folders; half an hour
    make bench BENCH=fine_tune_50000  # half an hour, so only when it is named
    make bench BENCH=fine_tune_whole  # an hour or two
    make bench BENCH=many_images  # half an hour; needs ray and pyarrow
    make bench BENCH=before BEFORE=../before/src  # against another checkout
    make bench BENCH=side_by_side  # against other libraries, where they install; half an hour
    make bench BENCH=figures  # writes docs/figures.md from the results that there are

CIFAR-10 comes from ``fetch_cifar10`` (``TLCLASSIFY_DATA``, or a path in ``CIFAR10``); ImageNet
weights come from ``KERAS_HOME`` or are downloaded, and ``WEIGHTS`` says in words what is special
about them. What is not at hand is skipped with its reason. Rows are printed and kept in
``benchmarks/results/``, with the machine, the versions and how many cores other programs took.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial

import numpy as np

import aspect
import before
import few_images
import figures
import fine_tuning
import many_images
import selection
import shipping
import side_by_side
import trust
from measuring import (
    ROWS,
    TABLE,
    in_turns,
    keep,
    load_cifar10,
    own_seconds,
    ratio_of,
    row,
    run_bare,
    seconds,
)

ASKED_FOR = {
    "aspect",
    "before",
    "few_images",
    "figures",
    "fine_tune_few",
    "fine_tune_50000",
    "fine_tune_whole",
    "many_images",
    "onednn",
    "selection",
    "side_by_side",
    "start_share",
}


def bench_import() -> None:
    """Measure what importing the package adds to importing NumPy."""

    def start_up(statement: str) -> float:
        taken = [own_seconds()]
        for _ in range(5):
            subprocess.run([sys.executable, "-c", statement], check=True)
            taken.append(own_seconds())
        return float(np.diff(taken).min())  # of the processor: other programs do not count

    extra = start_up("import numpy, tlclassify") - start_up("import numpy")
    row("import tlclassify, beyond import numpy", extra, "s", "< 0.3", extra < 0.3)


def bench_extractor() -> None:
    """Measure FeatureExtractor.transform against a bare loop over the same model, in turns."""
    from tlclassify import FeatureExtractor

    images = np.random.default_rng(0).integers(0, 256, (1024, 32, 32, 3), dtype=np.uint8)
    extractor = FeatureExtractor("mobilenet", weights=None, random_state=0, verbose=0).fit(images)
    works = {
        "bare": partial(run_bare, extractor.model_.predict_on_batch, images, extractor.batch_size),
        "transform": partial(extractor.transform, images),
    }
    ratio = ratio_of(in_turns(works, n_turns=5), "bare", "transform")
    row(
        "transform's speed over a bare loop's (MobileNet, 96 px)",
        ratio,
        "x",
        ">= 0.95",
        ratio >= 0.95,
    )


def bench_cifar10() -> None:
    """Measure one default fit and its test accuracy, against the bare extraction loop."""
    from tlclassify import TransferClassifier

    X, y, X_test, y_test = load_cifar10()
    X, y = X[:10_000], y[:10_000]
    clf = TransferClassifier("mobilenet", image_size=96, random_state=0, verbose=0)
    fit_seconds = seconds(lambda: clf.fit(X, y))
    start = time.perf_counter()
    accuracy = clf.score(X_test, y_test)
    total = fit_seconds + time.perf_counter() - start
    images, run = np.concatenate([X, X_test]), clf.backbone_.predict_on_batch
    run(images[: clf.batch_size])
    bare = seconds(lambda: run_bare(run, images, clf.batch_size))
    row(
        "CIFAR-10, 10,000 images, MobileNet 1.0 (96 px): accuracy",
        accuracy,
        "",
        ">= 0.83",
        accuracy >= 0.83,
    )
    row("... fit and score on 10,000 + 10,000 images", total, "s", "< 60", total < 60)
    row("... over the bare extraction loop", total / bare, "x", "<= 2.5", total <= 2.5 * bare)
    row("... bare extraction", 20_000 / bare, "images/s", "", None)


def bench_stored() -> None:
    """Measure a second head, and a grid of 6 penalties and 3 folds, at 96 px and at 224."""
    for image_size in (96, 224):
        measure_stored(image_size)


def measure_stored(image_size: int) -> None:
    """Measure what fits cost that read stored activations, over a fit that makes them."""
    from sklearn.model_selection import GridSearchCV

    from tlclassify import TransferClassifier

    X, y, _, _ = load_cifar10()
    X, y = X[:10_000], y[:10_000]
    grid = {"head__C": [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]}
    clf = TransferClassifier(
        "mobilenet", head="linear", image_size=image_size, random_state=0, verbose=0
    )
    with tempfile.TemporaryDirectory() as folder:
        clf.set_params(cache_dir=folder)
        first = seconds(lambda: clf.fit(X, y))
        second = seconds(lambda: clf.set_params(head__C=0.02).fit(X, y))
        clf.set_params(head="linear")
        search = seconds(lambda: GridSearchCV(clf, grid, cv=3, error_score="raise").fit(X, y))
    row(
        f"second head on the same images ({image_size} px), over the first fit",
        second / first,
        "x",
        "<= 0.1",
        second <= first / 10,
    )
    row(
        f"grid of 6 penalties, 3 folds and the refit on them ({image_size} px), over the first fit",
        search / first,
        "x",
        "<= 1",
        search <= first,
    )
    row("... first fit", first, "s", "", None)


def bench_memory() -> None:
    """Measure the memory added by 50,000 images at 224 px; the images are views of one batch."""
    from tlclassify import FeatureExtractor

    batch = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    extractor = FeatureExtractor("mobilenet_025", weights=None, image_size=224, verbose=0).fit(
        batch
    )
    images = np.broadcast_to(batch, (50_000, 224, 224, 3))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    extractor.transform(images)
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    row("memory added by 50,000 images at 224 px (MobileNet 0.25)", added, "GiB", "< 1", added < 1)


def bench_micro() -> None:
    """Measure a linear probe of the packaged backbone on all of CIFAR-10, and its speed."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from tlclassify import FeatureExtractor

    X, y, X_test, y_test = load_cifar10()
    extractor = FeatureExtractor("mobilenet_micro", batch_size=256, verbose=0).fit(X)
    features = extractor.transform(X)
    # C is the best of 0.003, 0.01, 0.03 and 0.1 in 3-fold cross-validation on the training images.
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    accuracy = probe.fit(features, y).score(extractor.transform(X_test), y_test)
    speed = len(X_test) / min(seconds(lambda: extractor.transform(X_test)) for _ in range(3))
    row(
        "mobilenet_micro: linear probe on CIFAR-10 (50,000 images)",
        accuracy,
        "",
        ">= 0.80",
        accuracy >= 0.80,
    )
    row("mobilenet_micro: extraction at 32 px", speed, "images/s", ">= 2000", speed >= 2000)


BENCHMARKS = {
    "aspect": aspect.bench_aspect,
    "framing": aspect.bench_framing,
    "reading": aspect.bench_reading,
    "before": before.bench_before,
    "import": bench_import,
    "extractor": bench_extractor,
    "cifar10": bench_cifar10,
    "stored": bench_stored,
    "many_images": many_images.bench_many_images,
    "micro": bench_micro,
    "memory": bench_memory,
    "few_images": few_images.bench_few_images,
    "figures": figures.bench_figures,
    "penalty": few_images.bench_penalty,
    "fine_tune_few": fine_tuning.bench_fine_tune_few,
    "start_share": fine_tuning.bench_start_share,
    "selection": selection.bench_selection,
    "side_by_side": side_by_side.bench_side_by_side,
    "stages": fine_tuning.bench_stages,
    "onednn": fine_tuning.bench_onednn,
    "fine_tune": fine_tuning.bench_fine_tune,
    "compare": trust.bench_compare,
    "learning_curve": trust.bench_learning_curve,
    "label_errors": trust.bench_label_errors,
    "calibration": trust.bench_calibration,
    "engine_auto": shipping.bench_engine_auto,
    "engine_bfloat16": shipping.bench_engine_bfloat16,
    "engine_onnxruntime": shipping.bench_engine_onnxruntime,
    "one_image": shipping.bench_one_image,
    "cold_start": shipping.bench_cold_start,
    "precision": shipping.bench_precision,
    "fine_tune_50000": fine_tuning.bench_fine_tune_50000,
    "fine_tune_whole": fine_tuning.bench_fine_tune_whole,
}


def main() -> None:
    """Run the benchmarks named, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(BENCHMARKS)}")
    parser.add_argument("--one", choices=list(BENCHMARKS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        try:
            BENCHMARKS[options.one]()
        except (FileNotFoundError, ConnectionError, OSError) as error:
            print(f"{options.one}: skipped, {error}")
        if ROWS or TABLE:  # what was skipped leaves what an earlier run found
            keep(options.one)
        return
    for name in options.names or [name for name in BENCHMARKS if name not in ASKED_FOR]:
        if name not in BENCHMARKS:
            parser.error(f"unknown benchmark {name!r}; choose from {', '.join(BENCHMARKS)}")
        subprocess.run([sys.executable, __file__, "--one", name], check=True)


if __name__ == "__main__":
    main()
