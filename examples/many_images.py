"""Ten thousand photographs, on this machine alone and by Ray, where a worker is killed on the way.

Photographs of shapes are made, and a hundred of them damaged. What both ways find is the same, and
nothing is missing. Then Ray's workers fill one folder of stored activations, from which a
classifier is fitted. Run it with ``pip install "tlclassify[export,ray]"`` and
``python examples/many_images.py``; ``--n-images 1000`` takes a minute.
"""

import argparse
import os
import signal
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from threading import Thread

import ray
from PIL import Image
from pyarrow import parquet

from tlclassify import FeatureExtractor, TransferClassifier, export, predict_files
from tlclassify.datasets import make_shapes

SETTINGS = {"backbone": "mobilenet_micro", "image_size": 32, "verbose": 0}


def main() -> None:
    """Predict ten thousand files twice, and fit on their stored activations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-images", type=int, default=10_000)
    n_images = parser.parse_args().n_images
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        labels = make_photos(folder / "photos", n_images)
        X, y = make_shapes(300, random_state=1)
        model = export(TransferClassifier(random_state=0, **SETTINGS).fit(X, y), folder / "a.onnx")

        ray.init(log_to_driver=False)
        found = {}
        for engine in ("local", "ray"):
            output, start = folder / engine, time.perf_counter()
            if engine == "ray":
                Thread(target=kill_one_worker, args=[output], daemon=True).start()
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                predict_files(model, folder / "photos", output, engine=engine, rows_per_file=200)
            rate = n_images / (time.perf_counter() - start)
            print(f"{engine}: {rate:.0f} images/s; {str(said[-1].message)[:60]} ...")
            found[engine] = parquet.read_table(output).sort_by("path")
        rows = found["local"]
        assert rows["path"].to_pylist() == sorted(labels)
        assert rows["error"].null_count == n_images - len(range(0, n_images, 100))
        # With another number of cores the last digits differ.
        for name in ("path", "label", "error"):
            assert found["ray"][name].equals(rows[name])
        print(f"{len(rows):,} files have one row each, and Ray's are the same.")
        fit_on_shared_activations(folder / "activations", labels)
        ray.shutdown()


def make_photos(folder: Path, n_images: int) -> dict[str, str]:
    """Write photographs of shapes, of which every hundredth is damaged; return their labels."""
    X, y = make_shapes(n_images, random_state=0)
    labels = {}
    for number, (image, label) in enumerate(zip(X, y, strict=True)):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        if number % 100 == 0:
            path.write_bytes(path.read_bytes()[:50])
        labels[str(path)] = str(label)
    return labels


def kill_one_worker(output: Path) -> None:
    """Kill one of Ray's workers when the first results are there."""
    while not list(output.glob("*.parquet")):
        time.sleep(0.05)
    command = ["ps", "-eo", "pid,args"]
    processes = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    pids = [int(line.split()[0]) for line in processes.splitlines() if " ray::_Job" in line]
    os.kill(pids[0], signal.SIGKILL)
    print(f"killed the worker {pids[0]}")


def fit_on_shared_activations(cache_dir: Path, labels: dict[str, str]) -> None:
    """Let Ray's workers fill a folder that all of them reach, and fit on what is in it."""
    good = [path for number, path in enumerate(labels) if number % 100][:1000]

    @ray.remote
    def fill(paths: list[str]) -> int:
        # Each image is run by one worker; what it finds stays in the folder.
        return len(FeatureExtractor(cache_dir=cache_dir, **SETTINGS).transform(paths))

    n_filled = sum(ray.get([fill.remote(good[first::2]) for first in range(2)]))
    start = time.perf_counter()
    clf = TransferClassifier(cache_dir=cache_dir, random_state=0, **SETTINGS)
    clf.fit(good, [labels[path] for path in good])
    print(
        f"Ray's workers stored the activations of {n_filled:,} images; the fit took "
        f"{time.perf_counter() - start:.1f} s, with {clf.history_[-1]['accuracy']:.3f} right."
    )


if __name__ == "__main__":
    main()
