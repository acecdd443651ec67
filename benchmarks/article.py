"""Compare the article's recipe with ours on CIFAR-10: test accuracy against seconds of training.

    python benchmarks/article.py                            # an hour or more
    python benchmarks/article.py --epochs 20 --ours head    # the recipe's first 20 epochs

Both get the same training images, and are tested on the same 10,000. Each holds out a share of its
own: the recipe 30 % of the images, ours 10 %. Seconds are of the wall clock, from raw arrays to a
trained network, the reading of the weights included; testing and checkpoints are not.

The recipe is tested after every epoch, ours at the end of each fit. All that is done is kept in
``results/``, and the same command goes on from there: after Ctrl-C, which prints what there is, or
after a kill, which costs the epoch or the fit in progress. A recipe gone on with has its weights,
its optimizer and its plateau back. It has not the order of images and the views, which are drawn
anew from the first epoch's on, nor the state of dropout where the head has any. Its seconds leave
out the second start, but not the compilation in the first epoch after that.

The table goes to the standard output, progress to the standard error, rows and a picture to
``results/article.json`` and ``results/article.png``. Data and weights are found as ``run.py`` does.
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
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from run import RESULTS, load_cifar10

from tlclassify import TransferClassifier
from tlclassify.augmentation import no_views
from tlclassify.displays._drawing import BLUE, VERMILION
from tlclassify.recipes import article_classifier
from tlclassify.training import _PLATEAU_ARTICLE

TARGETS = (0.65, 0.81)
SEED = 0
RECIPE = "article's recipe"
OURS: dict[str, tuple[str, dict[str, str]]] = {
    "head": ("ours: head alone", {}),
    "top": ("ours: fine-tuned", {"fine_tune_stage": "top", "augmentation": "flip"}),
}
Rows = list[dict[str, Any]]


@dataclass
class Record:
    """What has been measured so far, and the files that keep it.

    Parameters
    ----------
    folder : Path
    settings : dict
        What must be the same for rows to stand side by side.
    recipe_epochs : int
        Of the recipe as it was published.
    runs : dict of str to list of dict
        Rows with epoch, seconds and test_accuracy at least; the recipe's one an epoch.
    """

    folder: Path
    settings: dict[str, Any]
    recipe_epochs: int
    runs: dict[str, Rows] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file of the rows."""
        return self.folder / "article.json"

    def checkpoint(self, epoch: int) -> Path:
        """Return the file of the recipe's state after an epoch, counted from 1."""
        return self.folder / f"article-epoch-{epoch}.npz"

    def restore(self) -> None:
        """Read the rows of earlier sessions, if there are any."""
        if not self.path.exists():
            return
        last = json.loads(self.path.read_text())
        different = [
            f"{key} was {last['settings'].get(key)!r} and is {value!r}"
            for key, value in self.settings.items()
            if last["settings"].get(key) != value
        ]
        epochs = len(last["runs"].get(RECIPE, []))
        if epochs and not self.checkpoint(epochs).exists():
            different.append(f"{self.checkpoint(epochs)} is gone")
        if different:
            raise ValueError(
                f"{self.path} cannot be gone on with: {'; '.join(different)}. Pass --fresh to "
                "begin anew, or another folder as --results."
            )
        self.runs = last["runs"]

    def save(self) -> None:
        """Write the rows, and forget the checkpoints of earlier epochs."""
        kept = {"settings": self.settings, "ratios": time_ratios(self), "runs": self.runs}
        write_whole(self.path, lambda path: path.write_text(json.dumps(kept, indent=1)))
        current = self.checkpoint(len(self.runs.get(RECIPE, [])))
        for old in set(self.folder.glob(self.checkpoint(0).name.replace("0", "*"))) - {current}:
            old.unlink()


class EveryEpoch(keras.callbacks.Callback):
    """Hold the clock after each epoch, test, and keep what a later session goes on from.

    The clock runs from here on, or from the start of training where an earlier session is gone on
    with. The plateau beside Keras's own remembers all sessions. While both remember the same, they
    act alike; and after the one cut that there is room for, neither acts again.
    """

    def __init__(self, record: Record, test: tuple[np.ndarray, np.ndarray]) -> None:
        super().__init__()
        self._record = record
        self._rows = record.runs.setdefault(RECIPE, [])
        self._images, self._targets = test
        self._session = self._rows[-1]["session"] + 1 if self._rows else 1
        self._plateau = keras.callbacks.ReduceLROnPlateau(
            "val_accuracy", mode="max", **_PLATEAU_ARTICLE
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
        self._rows.append(row)
        self._record.save()
        say(f"{RECIPE}: epoch {row['epoch']}, {seconds:,.0f} s, {row['test_accuracy']:.4f}")
        self._start = time.perf_counter() - seconds

    def _test(self) -> float:
        inputs = [self._images, no_views(len(self._images))]
        probabilities = self.model.predict(inputs, batch_size=500, verbose=0)
        return float((probabilities.argmax(axis=1) == self._targets).mean())

    def _write_state(self, path: Path) -> None:
        optimizer: dict[str, np.ndarray] = {}
        self.model.optimizer.save_own_variables(optimizer)
        state = {f"weight_{i}": array for i, array in enumerate(self.model.get_weights())}
        np.savez(path, **state, **{f"optimizer_{key}": optimizer[key] for key in optimizer})

    def _restore(self) -> None:
        optimizer = self.model.optimizer
        optimizer.build(self.model.trainable_variables)
        for row in self._rows:
            self._plateau.on_epoch_end(row["epoch"] - 1, {"val_accuracy": row["val_accuracy"]})
        with np.load(self._record.checkpoint(len(self._rows))) as state:
            self.model.set_weights([state[f"weight_{i}"] for i in range(len(self.model.weights))])
            optimizer.load_own_variables(
                {str(i): state[f"optimizer_{i}"] for i in range(len(optimizer.variables))}
            )


def say(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let a file appear only when all of it has been written."""
    unfinished = path.with_name(f".{path.name}")
    write(unfinished)
    unfinished.replace(path)


def run_ours(record: Record, name: str, data: tuple[np.ndarray, ...]) -> None:
    """Fit and test one of ours, unless that has been done."""
    label, parameters = OURS[name]
    if label in record.runs:
        return
    X, y, X_test, y_test = data
    clf = TransferClassifier(
        record.settings["backbone"],
        weights=record.settings["weights"],
        image_size=96,
        random_state=SEED,
        **parameters,
    )
    start = time.perf_counter()
    clf.fit(X, y)
    row = {"epoch": len(clf.history_), "seconds": time.perf_counter() - start}
    record.runs[label] = [row | {"test_accuracy": float(clf.score(X_test, y_test))}]
    record.save()
    say(f"{label}: {row['seconds']:,.0f} s, {record.runs[label][0]['test_accuracy']:.4f}")


def run_recipe(
    record: Record, clf: TransferClassifier, epochs: int, data: tuple[np.ndarray, ...]
) -> None:
    """Train by the recipe until so many epochs are done, those of earlier sessions among them."""
    missing = epochs - len(record.runs.get(RECIPE, []))
    if missing <= 0:
        return
    X, y, X_test, y_test = data
    test = X_test, np.searchsorted(np.unique(y), y_test)
    clf.set_params(fine_tune_stage__epochs=missing, callbacks=[EveryEpoch(record, test)])
    clf.fit(X, y)


def seconds_to(rows: Rows, target: float) -> float | None:
    """Return the seconds at which a test accuracy was reached first, or None."""
    return next((row["seconds"] for row in rows if row["test_accuracy"] >= target), None)


def recipe_seconds(record: Record) -> float | None:
    """Return the seconds of all the recipe's epochs; those not run count as the mean of others.

    The first epoch has the start in it, and is left out of the mean if it can be.
    """
    rows = record.runs.get(RECIPE, [])[: record.recipe_epochs]
    if not rows:
        return None
    last, first = rows[-1], rows[0]
    mean = last["seconds"]
    if len(rows) > 1:
        mean = (last["seconds"] - first["seconds"]) / (len(rows) - 1)
    return float(last["seconds"] + (record.recipe_epochs - len(rows)) * mean)


def time_ratios(record: Record) -> dict[str, Any]:
    """Return how many times longer the recipe takes than the faster of ours, by test accuracy."""
    rows = record.runs.get(RECIPE, [])
    whole = recipe_seconds(record)
    ratios: dict[str, Any] = {"recipe_seconds": whole}
    ratios["extrapolated"] = len(rows) < record.recipe_epochs
    for target in TARGETS:
        ours = [seconds_to(record.runs.get(label, []), target) for label, _ in OURS.values()]
        best = min((seconds for seconds in ours if seconds is not None), default=None)
        reached = seconds_to(rows, target)
        ratios[f"{target}"] = {
            "ours_seconds": best,
            "whole_recipe": whole / best if whole and best else None,
            "recipe_to_there": reached / best if reached and best else None,
        }
    return ratios


def table(record: Record) -> str:
    """Return the runs and the ratios as Markdown."""

    def number(value: float | None, digits: int = 0) -> str:
        return "not reached" if value is None else f"{value:,.{digits}f}"

    lines = [
        "| | epochs | seconds | test accuracy | highest | s to 0.65 | s to 0.81 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for label, rows in record.runs.items():
        if rows:
            cells = [label, str(rows[-1]["epoch"]), number(rows[-1]["seconds"])]
            cells.append(f"{rows[-1]['test_accuracy']:.4f}")
            cells.append(f"{max(row['test_accuracy'] for row in rows):.4f}")
            cells += [number(seconds_to(rows, target)) for target in TARGETS]
            lines.append(f"| {' | '.join(cells)} |")
    ratios = time_ratios(record)
    if ratios["recipe_seconds"] is None:
        return "\n".join(lines)
    n_epochs = len(record.runs[RECIPE])
    how = f"extrapolated from {n_epochs}" if ratios["extrapolated"] else "all of them run"
    lines += [
        "",
        f"The recipe's {record.recipe_epochs} epochs: {ratios['recipe_seconds']:,.0f} s ({how}).",
        "",
        "| test accuracy | our seconds | all the recipe's epochs over ours | its first there |",
        "|---:|---:|---:|---:|",
    ]
    for target in TARGETS:
        row = ratios[f"{target}"]
        cells = [f"{target}", number(row["ours_seconds"])]
        cells += [number(row[key], 1) for key in ("whole_recipe", "recipe_to_there")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(record: Record, path: Path) -> None:
    """Draw test accuracy against seconds of training."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    ax = figure.subplots()
    for label, rows in record.runs.items():
        if not rows:
            continue
        color = BLUE if label == RECIPE else VERMILION
        seconds = [row["seconds"] for row in rows]
        ax.plot(seconds, [row["test_accuracy"] for row in rows], "-o", color=color, markersize=4)
        ax.annotate(
            label,
            (seconds[-1], rows[-1]["test_accuracy"]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            color=color,
        )
    for target in TARGETS:
        ax.axhline(target, color="0.35", linewidth=1, linestyle=":")
        place = (1, target)
        ax.annotate(f" {target}", place, xycoords=ax.get_yaxis_transform(), va="center")
    ax.set(xscale="log", xlabel="Seconds of training", ylabel="Test accuracy", ylim=(0, 1))
    ax.margins(x=0.15)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(alpha=0.3)
    ax.set_title(f"CIFAR-10, {record.settings['backbone']}: {record.settings['limit']:,} images")
    figure.savefig(path, dpi=150, format="png")


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="mobilenet", help="one with a recipe and weights")
    parser.add_argument("--limit", type=int, default=50_000, help="training images")
    parser.add_argument("--epochs", type=int, help="of the recipe, all sessions together")
    parser.add_argument("--ours", nargs="*", choices=list(OURS), default=list(OURS))
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--weights", default="pretrained", help="'pretrained' or a file")
    parser.add_argument("--weights-note", default="ImageNet weights", help="what they are")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    return parser.parse_args()


def main() -> None:
    """Run what is missing, and print and draw what there is."""
    options = parse_arguments()
    recipe = article_classifier(
        options.backbone, weights=options.weights, random_state=SEED, verbose=0
    )
    data = load_cifar10()
    X, y = data[0][: options.limit], data[1][: options.limit]
    settings = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    settings |= {"python": platform.python_version(), "keras": keras.__version__}
    settings |= {"backbone": options.backbone, "weights": options.weights}
    settings |= {"weights_note": options.weights_note, "data": "CIFAR-10", "limit": len(X)}
    settings |= {"test_images": len(data[2]), "recipe": repr(recipe.fine_tune_stage)}
    recipe_epochs = recipe.fine_tune_stage.epochs
    record = Record(options.results, settings, recipe_epochs)
    record.folder.mkdir(parents=True, exist_ok=True)
    if not options.fresh:
        record.restore()
    try:
        for name in options.ours:
            run_ours(record, name, (X, y, *data[2:]))
        epochs = recipe_epochs if options.epochs is None else options.epochs
        run_recipe(record, recipe, epochs, (X, y, *data[2:]))
    except KeyboardInterrupt:
        say("stopped: the same command goes on from here")
    record.save()
    write_whole(record.folder / "article.png", lambda path: draw(record, path))
    print(table(record))


if __name__ == "__main__":
    main()
