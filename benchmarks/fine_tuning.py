"""Measure stages: their accuracy, and what an epoch costs over training what is above the cut."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from few_images import N_DRAWS, Task, draw, interval, load_tasks
from measuring import TABLE, load_cifar10, row, seconds

N_EPOCHS = 4
N_TURNS = 3
# Points that fine-tuning is to add, by images a class.
FINE_TUNE_AIMS = {name: {5: 0, 10: 2, 30: 3, 100: 5} for name in ("CIFAR-10", "clothing")}


def bench_fine_tune() -> None:
    """Measure the preset "top" on 10,000 images and their mirror images."""
    measure_fine_tuning(10_000, {}, target=0.895)


def bench_fine_tune_50000() -> None:
    """Measure 6 epochs of "top" on all training images and their mirror images."""
    params = {"fine_tune_stage__epochs": 6, "validation_fraction": 0.02}
    measure_fine_tuning(50_000, params, target=0.93, limit_seconds=25 * 60)


def bench_fine_tune_whole() -> None:
    """Measure 7 epochs of the whole network at 128 px, in fresh views: the best at any budget."""
    from tlclassify import Augmentation, Stage

    params = {
        "image_size": 128,
        "augmentation": Augmentation(horizontal_flip=True, translation_fraction=0.1, n_views=1),
        "fine_tune_stage": Stage(
            7, unfreeze="all", schedule="cosine", patience=None, label_smoothing=0.1
        ),
        "validation_fraction": 0.02,
    }
    measure_fine_tuning(50_000, params, target=0.95)


def measure_fine_tuning(
    n_images: int,
    params: dict[str, object],
    *,
    target: float,
    limit_seconds: float | None = None,
) -> None:
    """Fit from raw arrays and score on all test images."""
    from tlclassify import TransferClassifier

    X, y, X_test, y_test = load_cifar10()
    clf = TransferClassifier(
        "mobilenet", augmentation="flip", fine_tune_stage="top", random_state=0, verbose=0
    )
    clf.set_params(**params)
    fit_seconds = seconds(lambda: clf.fit(X[:n_images], y[:n_images]))
    accuracy = clf.score(X_test, y_test)
    label = f"CIFAR-10, {n_images:,} images, MobileNet 1.0, fine-tuned: accuracy"
    row(label, accuracy, "", f">= {target}", accuracy >= target)
    limit = "" if limit_seconds is None else f"< {limit_seconds}"
    in_time = None if limit_seconds is None else fit_seconds < limit_seconds
    row("... fit", fit_seconds, "s", limit, in_time)
    for entry in clf.history_:
        if entry["stage"] == "fine_tune":
            print({key: entry[key] for key in ("epoch", "val_accuracy", "seconds")})


def bench_fine_tune_few() -> None:
    """Measure what the preset "top" adds to the head alone when labelled images are few."""
    for task in load_tasks():
        if task.name in FINE_TUNE_AIMS:
            for n, aim in FINE_TUNE_AIMS[task.name].items():
                gains = [measure_gain(task, n, seed) for seed in range(N_DRAWS)]
                report_gain(task.name, n, gains, aim)


def bench_start_share() -> None:
    """Measure what the preset "top" gains by how it ends and how long it is, on other draws."""
    variants = {
        "12 epochs": {"fine_tune_stage__epochs": 12, "fine_tune_stage__start_share": 0.0},
        "12 epochs, half way": {"fine_tune_stage__epochs": 12},
        "more epochs, half way": {},
    }
    for task in load_tasks():
        if task.name in FINE_TUNE_AIMS:
            for n in (5, 10, 30):
                for name, params in variants.items():
                    seeds = (100, 101, 102)
                    found = [measure_gain(task, n, seed, **params)[:2] for seed in seeds]
                    gain, width = interval([100 * (after - before) for before, after in found])
                    label = f"{task.name}, {n} a class, {name}: points (+- {width:.1f})"
                    row(label, gain, "", "", None)


def measure_gain(
    task: Task, n_per_class: int, seed: int, **params: object
) -> tuple[float, float, bool]:
    """Return the accuracy of the head, that after fine-tuning, and whether that was kept."""
    from tlclassify import TransferClassifier

    rows = draw(task.y, n_per_class, seed)
    options: dict[str, Any] = {"random_state": seed, "aspect": task.aspect, "verbose": 0}
    accuracies = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a stage that is left out says so
        for stage in (None, "top"):
            clf = TransferClassifier("mobilenet", fine_tune_stage=stage, **options)
            if stage:
                clf.set_params(augmentation="flip", **params)
            clf.fit(task.X[rows], task.y[rows])
            accuracies.append(clf.score(task.X_test, task.y_test))
    head, fine_tuned = accuracies
    return head, fine_tuned, any(entry["stage"] == "fine_tune" for entry in clf.history_)


def report_gain(name: str, n: int, found: list[tuple[float, float, bool]], aim: float) -> None:
    """Print the mean gain of the draws with half the width of its interval."""
    gain, width = interval([after - before for before, after, _ in found])
    label = f"{name}, {n} a class: points from fine-tuning (+- {100 * width:.1f})"
    row(label, 100 * gain, "", f">= {aim}", 100 * gain >= aim)
    head, after, kept = np.mean(found, axis=0)
    row("... accuracy of the head alone", head, "", "", None)
    row("... after fine-tuning", after, "", "", None)
    row("... share of the fits that kept it", kept, "", "", None)
    TABLE.append([name, n, *map(float, (head, after, gain, width, kept))])


def bench_stages() -> None:
    """Measure an epoch against `model.fit` of the same part on arrays, and of the whole network."""
    for label, unfreeze, n_images in (
        ("head", 0, 10_000),
        ("last two blocks", 2, 2_000),
        ("top third", 1 / 3, 2_000),
    ):
        with tempfile.TemporaryDirectory() as folder:
            measure_stage(label, unfreeze, n_images, folder)


def measure_stage(label: str, unfreeze: float, n_images: int, folder: str) -> None:
    """Train three equal copies in turns: as a stage, on arrays in memory, and from the images."""
    (ours, _), (arrays, array_fit), (whole, fit) = (
        prepare(unfreeze, n_images, folder) for _ in range(3)
    )
    stage = fit.stages["fine_tune"]
    features = array_fit.store(fit.cuts["fine_tune"])[0].outputs[:].astype(np.float32)
    above = part_above(array_fit)
    pixels = fit.training.images.read(0, n_images)
    from_pixels = keras.Model(fit.network.input, fit.top(fit.network.output))
    expected = measure_first_loss(unfreeze, n_images, folder)
    spent: dict[str, list[float]] = {"ours": [], "arrays": [], "whole": []}
    first_losses = []
    for _ in range(N_TURNS):
        ours_seconds, ours_loss = run_ours(ours)
        first_losses.append(ours_loss)
        spent["ours"].append(ours_seconds)
        spent["arrays"].append(run_bare(arrays, stage, above, features))
        spent["whole"].append(run_bare(whole, stage, from_pixels, pixels))
    middle = {name: statistics.median(values) for name, values in spent.items()}
    ratio = middle["ours"] / middle["arrays"]
    row(f"epoch of a stage over model.fit on arrays: {label}", ratio, "x", "<= 1.1", ratio <= 1.1)
    row("... over model.fit of the whole network", middle["ours"] / middle["whole"], "x", "", None)
    difference = abs(first_losses[0] - expected) / expected
    row("... first epoch's loss, difference", difference, "", "< 0.01", difference < 0.01)
    row("... epoch of the stage", middle["ours"], "s", "", None)


def measure_first_loss(unfreeze: float, n_images: int, folder: str) -> float:
    """Return the loss of an epoch of `model.fit` on arrays, in the order in which ours trains."""
    prepared, fit = prepare(unfreeze, n_images, folder)
    order = prepared.training.rows
    features = fit.store(fit.cuts["fine_tune"])[0].outputs[:].astype(np.float32)[order]
    targets = np.eye(10, dtype=np.float32)[prepared.training.targets[order]]
    stage, above = fit.stages["fine_tune"], part_above(fit)
    compile_bare(above, stage)
    fitted = above.fit(features, targets, batch_size=stage.batch_size, shuffle=False, verbose=0)
    return fitted.history["loss"][0]


ONEDNN = """
import json
import time
from measuring import load_cifar10
from tlclassify import TransferClassifier
X, y, _, _ = load_cifar10()
clf = TransferClassifier("mobilenet", fine_tune_stage="top", random_state=0, verbose=0)
clf.set_params(fine_tune_stage__epochs=3).fit(X[:640], y[:640])
clf.predict(X[:640])
start = time.perf_counter()
clf.predict(X[:640])
predicted = time.perf_counter() - start
print(json.dumps([min(row["seconds"] for row in clf.history_[1:]), predicted]))
"""


def bench_onednn() -> None:
    """Measure what TensorFlow's oneDNN kernels gain, which it leaves off on some processors."""
    runs: dict[str, list[list[float]]] = {"0": [], "1": []}
    for _ in range(N_TURNS):
        for switch, found in runs.items():
            environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": switch}
            command = [sys.executable, "-c", ONEDNN]
            options: dict[str, Any] = {"cwd": Path(__file__).parent, "env": environment}
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, **options)
            found.append(json.loads(answer.stdout.splitlines()[-1]))
    off, on = (np.array(found) for found in runs.values())
    names = ("fine-tuning, an epoch", "prediction")
    for name, *pair in zip(names, np.median(off / on, axis=0), np.median(on, axis=0), strict=True):
        row(f"{name} of 640 images, oneDNN's speed over none", pair[0], "x", "", None)
        row("... with it", pair[1], "s", "", None)


def prepare(unfreeze: float, n_images: int, folder: str) -> tuple[Any, Any]:
    """Return one stage ready to be trained, and the fit that it belongs to."""
    from tlclassify import Head, Stage, TransferClassifier
    from tlclassify.training.preparation import prepare_fit
    from tlclassify.training.stages import resolve_stage

    X, y, _, _ = load_cifar10()
    stage = Stage(N_EPOCHS, unfreeze=unfreeze, schedule="constant", patience=None)
    clf = TransferClassifier(
        "mobilenet",
        head=Head((), dropout=0.0),
        head_stage=None,
        fine_tune_stage=resolve_stage(stage, n_images),
        validation_fraction=0,
        cache_dir=folder,
        random_state=0,
        verbose=0,
    )
    fit = prepare_fit(clf, X[:n_images], y[:n_images])
    return fit.prepare("fine_tune"), fit


def part_above(fit: Any) -> Any:
    """Return what lies above the cut: from its output to class probabilities."""
    from tlclassify.networks.cuts import output_at

    return keras.Model(output_at(fit.network, fit.cuts["fine_tune"]), fit.top(fit.network.output))


def run_ours(prepared: Any) -> tuple[float, float]:
    """Return seconds an epoch and the first loss of a stage; the first epoch compiles."""
    from tlclassify.training.loop import run_stage

    history: list[dict[str, Any]] = []
    run_stage(prepared, name="x", history=history)
    return min(entry["seconds"] for entry in history[1:]), history[0]["loss"]


def compile_bare(model: keras.Model, stage: Any) -> None:
    """Compile a model as a stage does."""
    from tlclassify.training.loop import build_optimizer

    optimizer = build_optimizer(stage, model.trainable_variables, n_steps=0)
    model.compile(optimizer, loss="categorical_crossentropy", metrics=["accuracy"])


def run_bare(prepared: Any, stage: Any, model: keras.Model, inputs: np.ndarray) -> float:
    """Return seconds an epoch of `model.fit` on arrays."""
    targets = np.eye(10, dtype=np.float32)[prepared.training.targets]
    compile_bare(model, stage)
    clock = Clock()
    model.fit(
        inputs,
        targets,
        batch_size=stage.batch_size,
        epochs=stage.epochs,
        verbose=0,
        callbacks=[clock],
    )
    return min(clock.seconds[1:])


class Clock(keras.callbacks.Callback):
    """Take the seconds of every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002, D102
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002, D102
        self.seconds.append(time.perf_counter() - self._start)
