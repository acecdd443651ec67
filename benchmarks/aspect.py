"""Pictures that are not square: what each ``aspect`` gives and costs, and how fast files are read.

    PHOTOS=path/to/clothing:path/to/insects make bench BENCH=aspect  # folders of class folders
    make bench BENCH="framing reading"

Each draw takes so many images of each class at random and judges on all others. All ways of framing
see the same draws, so that what one gains over another is told more sharply than either by itself.
"""

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from few_images import draw, interval
from measuring import RESULTS, in_turns, ratio_of, row

ASPECTS = ("stretch", "pad", "crop", "soft")
IMAGES_A_CLASS = (5, 10, 30)
N_DRAWS = 10
N_FILES, N_DIFFERENT, FILE_SHAPE = 2_000, 40, (1_000, 1_500)
N_THREADS = 4


def bench_aspect() -> None:
    """Measure what each way gives on photographs: MobileNet at 224 px under a solved head."""
    folders = [Path(name) for name in os.environ.get("PHOTOS", "").split(os.pathsep) if name]
    if not folders:
        raise FileNotFoundError("PHOTOS names no folders of class folders")
    lines = ["| photographs | images a class | " + " | ".join(ASPECTS) + " |"]
    lines.append("| --- " * (2 + len(ASPECTS)) + "|")
    for folder in folders:
        found = measure_folder(folder)
        for position, n in enumerate(IMAGES_A_CLASS):
            cells = []
            for aspect in ASPECTS:
                accuracy, width = interval(list(found[aspect][position]))
                gains = found[aspect][position] - found["stretch"][position]
                gain, gain_width = interval(list(gains))
                label = f"{folder.name}, {n} a class, {aspect}: accuracy (+- {width:.3f})"
                row(label, accuracy, "", "", None)
                cells.append(f"{accuracy:.3f}")
                if aspect != "stretch":
                    row(f"... over stretch (+- {gain_width:.3f})", gain, "", "", None)
                    cells[-1] += f" ({gain:+.3f} ± {gain_width:.3f})"
            lines.append(f"| {folder.name} | {n} | {' | '.join(cells)} |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "aspect.md").write_text("\n".join(lines) + "\n")


def measure_folder(folder: Path) -> dict[str, np.ndarray]:
    """Return the accuracies (numbers of images, draws) of each way on a folder of photographs."""
    from tlclassify import FeatureExtractor, TransferClassifier
    from tlclassify.datasets import load_image_folder

    data = load_image_folder(folder, verbose=0)
    X, y, found = np.asarray(data.X), data.y, {}
    options = {"image_size": 224, "engine": "auto", "random_state": 0, "verbose": 0}
    with tempfile.TemporaryDirectory() as cache_dir:
        for aspect in ASPECTS:
            options |= {"aspect": aspect, "cache_dir": cache_dir}
            features = FeatureExtractor("mobilenet", **options).transform(X)
            found[aspect] = np.zeros((len(IMAGES_A_CLASS), N_DRAWS))
            for position, n in enumerate(IMAGES_A_CLASS):
                for seed in range(N_DRAWS):
                    drawn = draw(y, n, seed)
                    rest = np.setdiff1d(np.arange(len(y)), drawn)
                    clf = TransferClassifier("mobilenet", **options).fit(X[drawn], y[drawn])
                    guesses = clf.head_.predict_on_batch(features[rest]).argmax(axis=1)
                    found[aspect][position, seed] = (clf.classes_[guesses] == y[rest]).mean()
    return found


def bench_framing() -> None:
    """Measure what each way costs with arrays, over stretching them: MobileNet at 224 px."""
    from tlclassify import FeatureExtractor

    rng = np.random.default_rng(0)
    for shape in ((240, 320), (400, 300)):
        X = rng.integers(0, 256, (192, *shape, 3), dtype=np.uint8)
        options = {"weights": None, "image_size": 224, "random_state": 0, "verbose": 0}
        for engine in ("keras", "auto"):
            extractors = {
                aspect: FeatureExtractor("mobilenet", aspect=aspect, engine=engine, **options)
                for aspect in ASPECTS
            }
            works = {name: partial(part.fit(X).transform, X) for name, part in extractors.items()}
            seconds = in_turns(works, n_turns=7)
            for aspect in ASPECTS[1:]:
                ratio = ratio_of(seconds, aspect, "stretch")
                label = f"arrays of {shape[0]}x{shape[1]}, {engine}: {aspect} over stretch"
                row(label, ratio, "x", "<= 1.05", ratio <= 1.05)


def bench_reading() -> None:
    """Measure the reading of large photographs against a bare threaded loop of Pillow."""
    from dataclasses import replace

    from tlclassify._checks.images import Framing
    from tlclassify.inputs.images import open_images

    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder))
        works = {"bare": partial(read_bare, paths)}
        for aspect in ASPECTS:
            framing = Framing(aspect, (127.5, 127.5, 127.5))
            source = replace(open_images(paths), file_shape=(224, 224), framing=framing)
            works[aspect] = partial(read_all, source)
        seconds, busy = {name: [] for name in works}, []
        for _ in range(3):
            for name, work in works.items():
                cpu, start = time.process_time(), time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - start)
                if name == "stretch":
                    busy.append((time.process_time() - cpu) / seconds[name][-1])
    found = {name: np.array(values) for name, values in seconds.items()}
    for aspect in ASPECTS:
        share = ratio_of(found, "bare", aspect)
        label = f"{N_FILES:,} photographs of 1,500 px, {aspect}: speed over a bare loop's"
        row(label, share, "x", ">= 0.9", share >= 0.9)
    row("... photographs a second", N_FILES / np.median(found["stretch"]), "images/s", "", None)
    n_cores = len(os.sched_getaffinity(0))
    row("... cores busy", float(np.median(busy)), f"of {n_cores}", "", None)


def read_all(source: object) -> None:
    """Read images as fits do."""
    from tlclassify.inputs.images import read_batches

    for _ in read_batches(source, 64):
        pass


def write_photographs(folder: Path) -> list[str]:
    """Write files as a camera's: soft noise, which takes as many bytes as a photograph does."""
    rng = np.random.default_rng(0)
    height, width = FILE_SHAPE
    for number in range(N_DIFFERENT):
        noise = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        grain = rng.normal(0, 6, (height, width, 3))
        soft = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
        pixels = np.clip(soft + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
    paths = []
    for number in range(N_FILES):
        path = folder / f"copy_{number}.jpg"
        path.hardlink_to(folder / f"{number % N_DIFFERENT}.jpg")
        paths.append(str(path))
    return paths


def read_bare(paths: list[str]) -> None:
    """Decode files at a reduced size, in threads, with nothing around it."""

    def read(path: str) -> np.ndarray:
        with Image.open(path) as image:
            image.draft("RGB", (224, 224))
            return np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))

    with ThreadPoolExecutor(N_THREADS) as pool:
        for start in range(0, len(paths), 64):
            np.stack(list(pool.map(read, paths[start : start + 64])))
