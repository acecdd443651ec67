"""Measure this version against another checkout, in turns, each turn in a process of its own."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from measuring import load_cifar10, row

HERE = Path(__file__).parents[1] / "src"
N_TURNS = 3
# What is measured; all of it must not be worse by more than 3 %, unless a limit says otherwise.
FIGURES = {
    "few_fit_seconds": "fit of 100 images (mobilenet_micro, 32 px)",
    "default_fit_seconds": "fit of 10,000 images (MobileNet 1.0, default size)",
    "import_seconds": "import tlclassify and the classifier",
    "fit_seconds": "fit of 10,000 images (MobileNet 1.0, 96 px, by epochs)",
    "epoch_seconds": "an epoch of the head on their stored activations",
    "tune_seconds": "an epoch of two blocks on stored activations, 2,000 images",
    "one_image_milliseconds": "predict_proba of one image",
    "images_milliseconds": "predict_proba of 256 images, for each",
    "large_milliseconds": "predict_proba of images of 1000 x 1000, for each",
    "file_mebibytes": "a saved file",
    "save_seconds": "save",
    "load_seconds": "load",
    "files_fit_seconds": "fit on 600 PNG files",
    "peak_mebibytes": "peak memory of all this",
}
LIMITS = {"few_fit_seconds": 0.5, "default_fit_seconds": 2.0}


def bench_before() -> None:
    """Measure this checkout and that of ``BEFORE`` (a path to its ``src``) in turns."""
    other = os.environ.get("BEFORE")
    if other is None:
        raise FileNotFoundError("BEFORE must be the path of another checkout's src folder")
    X, y, _, _ = load_cifar10()
    with tempfile.TemporaryDirectory() as folder:
        np.savez(
            f"{folder}/images.npz", X=X[:10_000], y=np.unique(y, return_inverse=True)[1][:10_000]
        )
        turns = [[measure(source, folder) for source in (str(HERE), other)] for _ in range(N_TURNS)]
    for name, text in FIGURES.items():
        found = np.array([[after[name], before[name]] for after, before in turns])
        ratio, limit = float(np.median(found[:, 0] / found[:, 1])), LIMITS.get(name, 1.03)
        row(text, float(np.median(found[:, 0])), name.split("_")[-1], "", None)
        row("... over the version before", ratio, "x", f"<= {limit}", ratio <= limit)


def measure(source: str, folder: str) -> dict[str, float]:
    """Return the figures of a checkout, from a process of its own."""
    environment = {**os.environ, "PYTHONPATH": source, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, folder]
    answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


def measure_here(folder: Path) -> dict[str, float]:
    """Return the figures of the package that Python finds."""
    found = {}
    clock = time.perf_counter
    start = clock()
    from tlclassify import Stage, TransferClassifier, load, save

    found["import_seconds"] = clock() - start
    with np.load(folder / "images.npz") as arrays:
        X, y = arrays["X"], arrays["y"]
    few = TransferClassifier("mobilenet_micro", random_state=0, verbose=0)
    start = clock()
    few.fit(X[:100], y[:100])
    found["few_fit_seconds"] = clock() - start
    # Of the same size in both, and by epochs, however the defaults have changed since.
    same = {"image_size": 96, "head": "mlp", "random_state": 0, "verbose": 0}
    clf = TransferClassifier("mobilenet", **same)
    start = clock()
    clf.fit(X, y)
    found["fit_seconds"] = clock() - start
    start = clock()
    TransferClassifier("mobilenet", random_state=0, verbose=0).fit(X, y)
    found["default_fit_seconds"] = clock() - start
    found["epoch_seconds"] = float(np.median([epoch["seconds"] for epoch in clf.history_[1:]]))
    stage = Stage(3, unfreeze=2, batch_size=64, patience=None)
    tuned = TransferClassifier("mobilenet", head_stage=None, fine_tune_stage=stage, **same)
    tuned.fit(X[:2000], y[:2000])
    found["tune_seconds"] = float(np.median([epoch["seconds"] for epoch in tuned.history_[1:]]))
    found["one_image_milliseconds"] = 1000 * repeat(lambda: clf.predict_proba(X[:1]), 40)
    found["images_milliseconds"] = 1000 * repeat(lambda: clf.predict_proba(X[:256]), 5) / 256
    path = folder / "classifier.tlc"
    found["save_seconds"] = repeat(lambda: save(clf, path), 3)
    found["file_mebibytes"] = path.stat().st_size / 2**20
    found["load_seconds"] = repeat(lambda: load(path), 3)
    large = np.random.default_rng(0).integers(0, 256, (64, 1000, 1000, 3), dtype=np.uint8)
    same |= {"image_size": None, "head_stage": Stage(1)}
    wide = TransferClassifier("mobilenet", **same)
    wide.fit(large, np.arange(64) % 2)
    found["large_milliseconds"] = 1000 * repeat(lambda: wide.predict_proba(large[:32]), 3) / 32
    paths = write_files(folder, X[:600])
    start = clock()
    TransferClassifier("mobilenet", **same).fit(paths, y[:600])
    found["files_fit_seconds"] = clock() - start
    found["peak_mebibytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def repeat(work: object, n: int) -> float:
    """Return the median seconds of a call, after one that is not counted."""
    times = []
    for _ in range(n + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def write_files(folder: Path, images: np.ndarray) -> list[str]:
    """Write images as files, once for all turns."""
    from PIL import Image

    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        if not path.is_file():
            Image.fromarray(image).resize((320, 240)).save(path)
    return [str(path) for path in paths]


if __name__ == "__main__":
    print(json.dumps(measure_here(Path(sys.argv[1]))))
