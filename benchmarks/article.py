"""Compare the article's recipe with ours on CIFAR-10: test accuracy against seconds of training.

    python benchmarks/article.py                            # an hour or more
    python benchmarks/article.py --epochs 20 --ours head    # the recipe's first 20 epochs

The recipe gets 50,000 training images; ours get the first 10,000 of them, which is enough for its
figures. Both are tested on the same 10,000, the recipe after every epoch, ours at the end of each
fit. Each holds out a share of its own: the recipe 30 %, ours 10 %. Seconds
are of the wall clock, so the machine should be idle: from raw arrays to a trained network, the
reading of the weights included, testing and checkpoints not.

All that is done is kept, and the same command goes on from there: after Ctrl-C, which prints what
there is, or after a kill, which costs the epoch or the fit in progress. A recipe gone on with has
its weights, its optimizer and its plateau back. It has not the order of images and the views, which
are drawn as from the first epoch again, nor the state of dropout where the head has any. Its
seconds leave out the second start, but not the compilation in the epoch after it.

The table goes to the standard output, rows and a picture to ``results/article.json`` and ``.png``.
Data and weights are found as by ``run.py``.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from measuring import RESULTS, load_cifar10
from tlclassify import TransferClassifier
from tlclassify.displays.drawing import BLUE, VERMILION
from tlclassify.estimators.recipes import article_classifier
from tlclassify.inputs.augmentation import no_views
from tlclassify.training.stages import PLATEAU_ARTICLE

TARGETS = (0.65, 0.81)
SEED = 0
RECIPE = "article's recipe"
N_OURS = 10_000
OURS: dict[str, tuple[str, dict[str, str]]] = {
    "head": ("ours: head alone, 10,000 images", {}),
    "top": ("ours: fine-tuned, 10,000 images", {"fine_tune_stage": "top", "augmentation": "flip"}),
}
LABELS = (RECIPE, *(label for label, _ in OURS.values()))
Data = tuple[np.ndarray, ...]  # training images and labels, test images and labels


@dataclass
class Record:
    """What has been measured so far: rows by the run's name, the recipe's one an epoch."""

    folder: Path
    settings: dict[str, Any]
    recipe_epochs: int
    runs: dict[str, Any] = field(default_factory=lambda: {label: [] for label in LABELS})

    def checkpoint(self, epoch: int | str) -> Path:
        """Return the file of the recipe's state after an epoch, counted from 1."""
        return self.folder / f"article-epoch-{epoch}.npz"

    def restore(self) -> None:
        """Read the rows of earlier sessions, if there are any."""
        path = self.folder / "article.json"
        if not path.exists():
            return
        last = json.loads(path.read_text())
        self.runs, settings = last["runs"], last["settings"]
        changed = [key for key in self.settings if settings.get(key) != self.settings[key]]
        if self.runs[RECIPE] and not self.checkpoint(len(self.runs[RECIPE])).exists():
            changed.append("checkpoint (it is gone)")
        if changed:
            sys.exit(f"{path} has another {', '.join(changed)}. Pass --fresh to replace it.")

    def add(self, label: str, row: dict[str, Any]) -> None:
        """Keep and show a row."""
        self.runs[label].append(row)
        self.save()
        done = f"{row['seconds']:,.0f} s, test accuracy {row['test_accuracy']:.4f}"
        print(f"{label}: epoch {row['epoch']}, {done}", file=sys.stderr, flush=True)

    def save(self) -> None:
        """Write the rows, and forget the checkpoints of other epochs."""
        kept = {"settings": self.settings, "ratios": time_ratios(self), "runs": self.runs}
        text = json.dumps(kept, indent=1)
        write_whole(self.folder / "article.json", lambda path: path.write_text(text))
        current = self.checkpoint(len(self.runs[RECIPE]))
        for old in set(self.folder.glob(self.checkpoint("*").name)) - {current}:
            old.unlink()


class _EveryEpoch(keras.callbacks.Callback):
    """Stop the clock after each epoch, test, and keep what a later session goes on from.

    A plateau of its own remembers all sessions. Keras's knows this one alone, so that it never
    cuts the learning rate earlier; and the recipe has room for one cut.
    """

    def __init__(self, record: Record, test: tuple[np.ndarray, np.ndarray]) -> None:
        super().__init__()
        self._record, (self._images, self._targets) = record, test
        self._rows = record.runs[RECIPE]
        self._session = self._rows[-1]["session"] + 1 if self._rows else 1
        self._plateau = keras.callbacks.ReduceLROnPlateau(
            "val_accuracy", mode="max", **PLATEAU_ARTICLE
        )
        self._start = time.perf_counter()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._plateau.set_model(self.model)
        self._plateau.on_train_begin(logs)
        if self._rows:
            self._restore()
            self._start = time.perf_counter() - self._rows[-1]["seconds"]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        seconds = time.perf_counter() - self._start
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._plateau.on_epoch_end(epoch, dict(logs or {}))
        row = {"epoch": len(self._rows) + 1, "session": self._session, "seconds": seconds}
        row |= {"test_accuracy": self._test(), "learning_rate": rate}
        row |= {key: float(value) for key, value in (logs or {}).items()}
        write_whole(self._record.checkpoint(row["epoch"]), self._write_state)
        self._record.add(RECIPE, row)
        self._start = time.perf_counter() - seconds

    def _test(self) -> float:
        inputs = [self._images, no_views(len(self._images))]
        probabilities = self.model.predict(inputs, batch_size=500, verbose=0)
        return float((probabilities.argmax(axis=1) == self._targets).mean())

    def _write_state(self, path: Path) -> None:
        arrays = map(keras.ops.convert_to_numpy, self.model.optimizer.variables)
        np.savez(path, *self.model.get_weights(), *arrays)

    def _restore(self) -> None:
        for row in self._rows:
            self._plateau.on_epoch_end(row["epoch"] - 1, {"val_accuracy": row["val_accuracy"]})
        with np.load(self._record.checkpoint(len(self._rows))) as state:
            arrays = [state[f"arr_{i}"] for i in range(len(state.files))]
        n_weights = len(self.model.weights)
        self.model.set_weights(arrays[:n_weights])
        self.model.optimizer.build(self.model.trainable_variables)
        for variable, array in zip(self.model.optimizer.variables, arrays[n_weights:], strict=True):
            variable.assign(array)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let a file appear only when all of it has been written."""
    unfinished = path.with_name(f".{path.name}")
    write(unfinished)
    unfinished.replace(path)


def run_ours(record: Record, name: str, data: Data) -> None:
    """Fit and test one of ours, unless that has been done."""
    label, parameters = OURS[name][0], dict(OURS[name][1])
    if record.runs[label]:
        return
    X, y, X_test, y_test = data
    parameters |= {key: record.settings[key] for key in ("backbone", "weights")}
    clf = TransferClassifier(image_size=96, random_state=SEED, **parameters)
    start = time.perf_counter()
    clf.fit(X[:N_OURS], y[:N_OURS])
    row = {"epoch": len(clf.history_), "seconds": time.perf_counter() - start}
    record.add(label, row | {"test_accuracy": float(clf.score(X_test, y_test))})


def run_recipe(record: Record, clf: TransferClassifier, epochs: int, data: Data) -> None:
    """Train by the recipe until so many epochs are done, those of earlier sessions among them."""
    X, y, X_test, y_test = data
    missing = epochs - len(record.runs[RECIPE])
    if missing > 0:
        test = X_test, np.searchsorted(np.unique(y), y_test)
        clf.set_params(fine_tune_stage__epochs=missing, callbacks=[_EveryEpoch(record, test)])
        clf.fit(X, y)


def seconds_to(rows: list[dict[str, Any]], target: float) -> float | None:
    """Return the seconds at which a test accuracy was reached first, or None."""
    return next((row["seconds"] for row in rows if row["test_accuracy"] >= target), None)


def time_ratios(record: Record) -> dict[str, Any]:
    """Return how many times longer the recipe takes than the fastest of ours, by test accuracy."""
    seconds = [row["seconds"] for row in record.runs[RECIPE][: record.recipe_epochs]]
    n = len(seconds)
    if not n:
        return {}
    # The first epoch has the start in it, and is left out of the mean where there are more.
    mean = (seconds[-1] - seconds[0]) / (n - 1) if n > 1 else seconds[0]
    whole = seconds[-1] + (record.recipe_epochs - n) * mean
    ratios: dict[str, Any] = {"recipe_seconds": whole, "measured_epochs": n}
    for target in TARGETS:
        ours = [seconds_to(record.runs[label], target) for label in LABELS[1:]]
        best = min((reached for reached in ours if reached is not None), default=None)
        there = seconds_to(record.runs[RECIPE], target)
        ratios[f"{target}"] = {
            "seconds_of_ours": best,
            "whole_recipe": whole / best if best else None,
            "recipe_to_there": there / best if there and best else None,
        }
    return ratios


def line(name: str, *values: float | None, digits: int = 0) -> str:
    """Return a line of a Markdown table."""
    cells = ["not reached" if value is None else f"{value:,.{digits}f}" for value in values]
    return f"| {' | '.join([name, *cells])} |"


def table(record: Record) -> str:
    """Return the runs and the ratios as Markdown."""
    heads = " | ".join(f"seconds to {target}" for target in TARGETS)
    lines = [f"| | test accuracy | highest | epochs | seconds | {heads} |", "|---" * 7 + "|"]
    for label, rows in record.runs.items():
        if rows:
            accuracies = [row["test_accuracy"] for row in rows]
            name = f"{label} | {accuracies[-1]:.4f} | {max(accuracies):.4f}"
            reached = [seconds_to(rows, target) for target in TARGETS]
            lines.append(line(name, rows[-1]["epoch"], rows[-1]["seconds"], *reached))
    ratios = time_ratios(record)
    if ratios:
        n, whole = ratios["measured_epochs"], ratios["recipe_seconds"]
        how = "all measured" if n == record.recipe_epochs else f"extrapolated from {n}"
        lines += ["", f"The recipe's {record.recipe_epochs} epochs: {whole:,.0f} s ({how}).", ""]
        heads = f"its {record.recipe_epochs} epochs over ours | its epochs up to there over ours"
        lines += [f"| test accuracy | seconds of ours | {heads} |", "|---" * 4 + "|"]
        lines += [line(f"{target}", *ratios[f"{target}"].values(), digits=1) for target in TARGETS]
    return "\n".join(lines)


def draw(record: Record, path: Path) -> None:
    """Draw test accuracy against seconds of training."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    ax = figure.subplots()
    above = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
    for label, rows in record.runs.items():
        points = [(row["seconds"], row["test_accuracy"]) for row in rows]
        if points:
            color = BLUE if label == RECIPE else VERMILION
            ax.plot(*zip(*points, strict=True), "-o", color=color, markersize=3)
            ax.annotate(label, points[-1], color=color, **above)
    for target in TARGETS:
        ax.axhline(target, color="0.35", linewidth=1, linestyle=":")
        ax.text(1, target, f" {target}", transform=ax.get_yaxis_transform(), va="center")
    ax.set(xscale="log", xlabel="Seconds of training", ylabel="Test accuracy", ylim=(0, 1))
    ax.set_title(f"CIFAR-10, {record.settings['backbone']}: {record.settings['limit']:,} images")
    ax.margins(x=0.3)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    figure.savefig(path, dpi=150, format="png")


def main() -> None:
    """Run what is missing, and print and draw what there is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backbone", default="mobilenet", help="one with a recipe and weights")
    parser.add_argument("--limit", type=int, default=50_000, help="training images")
    parser.add_argument("--epochs", type=int, help="of the recipe, all sessions together")
    parser.add_argument("--ours", nargs="*", choices=list(OURS), default=list(OURS))
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--weights", default="pretrained", help="'pretrained' or a file")
    parser.add_argument("--weights-note", default="ImageNet weights", help="what they are")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    given = parser.parse_args()
    clf = article_classifier(given.backbone, weights=given.weights, random_state=SEED, verbose=0)
    X, y, X_test, y_test = load_cifar10()
    data = X[: given.limit], y[: given.limit], X_test, y_test
    settings: dict[str, Any] = {"data": "CIFAR-10, 10,000 test images", "cores": os.cpu_count()}
    settings |= {"machine": platform.processor() or platform.machine(), "keras": keras.__version__}
    settings |= {"backbone": given.backbone, "weights": given.weights, "limit": len(data[0])}
    settings |= {"weights_note": given.weights_note, "recipe": repr(clf.fine_tune_stage)}
    record = Record(given.results, settings, clf.fine_tune_stage.epochs)
    record.folder.mkdir(parents=True, exist_ok=True)
    if not given.fresh:
        record.restore()
    epochs = record.recipe_epochs if given.epochs is None else given.epochs
    try:
        for name in given.ours:
            run_ours(record, name, data)
        run_recipe(record, clf, epochs, data)
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
    record.save()
    write_whole(record.folder / "article.png", lambda path: draw(record, path))
    print(table(record))


if __name__ == "__main__":
    main()
