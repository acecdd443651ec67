"""Measure `predict_files`: its speed, its memory, and what is left after kills."""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from measuring import alone, row

N_KILLS = int(os.environ.get("KILLS", "20"))
N_IMAGES, N_KILLED = 2_000, 1_000
N_TURNS = int(os.environ.get("TURNS", "5"))
JOB = """
import sys, warnings
from tlclassify import predict_files
warnings.simplefilter("ignore")
model, photos, output, engine, rows, cores = sys.argv[1:]
options = {"rows_per_file": int(rows), "n_threads": int(cores) or None, "verbose": 0}
predict_files(model, photos, output, engine=engine, **options)
"""


def bench_many_images() -> None:
    """Measure speed by network and engine, memory over 100,000 files, and twenty kills each."""
    # Ray lets its workers wait for all other programs, which others' load would show as slowness.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        wanted = os.environ.get("PARTS", "speed memory kills").split()
        for part in wanted:
            {"speed": measure_speed, "memory": measure_memory, "kills": measure_kills}[part](folder)


def export_model(folder: Path, backbone: str, **params: Any) -> Path:
    """Export a classifier of ten classes."""
    from tlclassify import TransferClassifier, export

    X = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    clf = TransferClassifier(backbone, random_state=0, verbose=0, **params)
    return Path(export(clf.fit(X, np.arange(100) % 10), folder / f"{backbone}.xml"))


def make_photos(folder: Path, n_images: int, side: int, *, broken: bool = False) -> Path:
    """Make JPEG files of a hundred pictures, of which as many names as are wanted are links."""
    from PIL import Image

    folder.mkdir()
    for number in range(100):
        grid = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(grid).resize((side * 4 // 3, side), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:06d}.jpg", quality=90)
    if broken:
        (folder / "000037.jpg").write_bytes(b"\xff\xd8\xff no picture")
    for number in range(100, n_images):
        (folder / f"{number:06d}.jpg").hardlink_to(folder / f"{number % 100:06d}.jpg")
    return folder


def run_bare_loop(model: Path, photos: Path) -> None:
    """Decode with as many threads, the next batch meanwhile, and predict; write nothing."""
    from tlclassify import load_exported
    from tlclassify._checks.files import read_files, read_image
    from tlclassify.inputs.images import read_batches

    class Source:
        paths = sorted(photos.iterdir())

        def __len__(self) -> int:
            return len(self.paths)

        def read(self, start: int, stop: int) -> np.ndarray:
            read = partial(read_image, size=loaded.image_shape_[:2])
            return np.stack(read_files(read, self.paths[start:stop])[0])

    loaded = load_exported(model)
    for batch in read_batches(Source(), 64):
        loaded.predict_proba(batch)


def measure_speed(folder: Path) -> None:
    """Measure a bare loop, the local way and one Ray worker in turns."""
    import ray

    from tlclassify import predict_files

    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, logging_level="error")
    for backbone, n_images, side, params in (
        ("mobilenet", N_IMAGES, 240, {"weights": None, "image_size": 128}),
        ("mobilenet_micro", 4 * N_IMAGES, 96, {}),
    ):
        model = export_model(folder, backbone, **params)
        photos = make_photos(folder / f"{backbone}_photos", n_images, side)

        def run(model: Path = model, photos: Path = photos, **options: Any) -> None:
            with tempfile.TemporaryDirectory() as output:
                predict_files(model, photos, output, verbose=0, **options)

        works = {
            "bare": partial(run_bare_loop, model, photos),
            "local": run,
            "ray": partial(run, engine="ray", n_workers=1, n_threads=2),
        }
        found = np.array([[alone(work) for work in works.values()] for _ in range(N_TURNS)])
        bare, local, by_ray = found.T
        of_bare, of_local = float(np.median(bare / local)), float(np.median(local / by_ray))
        label = f"{backbone}, {n_images:,} files of {side} px: "
        row(f"{label}local over a bare loop", of_bare, "x", ">= 0.9", of_bare >= 0.9)
        row("... one Ray worker over local", of_local, "x", ">= 0.7", of_local >= 0.7)
        for name, taken in zip(works, found.T, strict=True):
            row(f"... {name}", n_images / float(np.median(taken)), "images/s", "", None)
    ray.shutdown()


def measure_memory(folder: Path) -> None:
    """Measure the resident memory of a job of 100,000 files, after 10,000 and at the end."""
    model = export_model(folder, "mobilenet_micro")
    photos, output = make_photos(folder / "hundred_thousand", 100_000, 32), folder / "hundred"
    options = [str(model), str(photos), str(output), "local", "1000", "0"]
    job = subprocess.Popen([sys.executable, "-c", JOB, *options])
    early, late, start = 0, 0, time.perf_counter()
    while job.poll() is None:
        n_parts = len([*output.glob("*.parquet")])
        status = Path(f"/proc/{job.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        if found:
            late = int(found[1]) // 1024
            early = early or (late if n_parts >= 10 else 0)
        time.sleep(0.1)
    growth = late / early - 1
    row(
        "100,000 files: memory at the end over that after 10,000",
        growth,
        "",
        "<= 0.1",
        growth <= 0.1,
    )
    row("... at the end", late, "MiB", "", None)
    row("... with all", 100_000 / (time.perf_counter() - start), "images/s", "", None)


def measure_kills(folder: Path) -> None:
    """Kill jobs at random moments, run them again, and compare with one that ran undisturbed.

    On one core for each worker, as with more of them numbers differ by roundings.
    """
    import ray

    model = export_model(folder, "mobilenet_micro")
    photos = make_photos(folder / "some_photos", N_KILLED, 96, broken=True)
    rng = random.Random(0)
    run_job([str(model), str(photos), str(folder / "whole"), "local", "32", "1"])
    expected = read_rows(folder / "whole")
    broken = sum(error is not None for error in expected["error"].to_pylist())
    row("broken files named, of 1 %", 100 * broken / N_KILLED, "%", "1", broken == N_KILLED / 100)
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, logging_level="error")
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    for name in os.environ.get("KILLED", "local,ray driver,ray worker").split(","):
        engine = name.split()[0]
        n_right, n_ended = 0, 0
        for number in range(N_KILLS):
            output = folder / f"{name}_{number}"
            command = [str(model), str(photos), str(output), engine, "32", "1"]
            n_parts = rng.randrange(N_KILLED // 32)
            ended = run_job(command, kill_at=n_parts, kill=name.split()[-1])
            n_ended += ended is not None
            if name != "ray worker":
                run_job(command)
            n_right += read_rows(output).equals(expected)
        label = f"killed at {N_KILLS} moments ({name}), {n_ended} of which it outlived: jobs right"
        row(label, n_right, "", f"{N_KILLS}", n_right == N_KILLS)
    ray.shutdown()


def run_job(command: list[str], kill_at: int | None = None, kill: str = "local") -> float | None:
    """Run a job in a process of its own; return its seconds, or None where it was killed.

    It is killed a moment after so many files of results are there.
    """
    start, output = time.perf_counter(), Path(command[2])
    job = subprocess.Popen([sys.executable, "-c", JOB, *command], stderr=subprocess.DEVNULL)
    if kill_at is not None:
        while job.poll() is None and len([*output.glob("*.parquet")]) < kill_at:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.2))
        for process in list_workers() if kill == "worker" else [job.pid]:
            os.kill(process, signal.SIGKILL)
    if job.wait() not in {0, -signal.SIGKILL}:
        raise RuntimeError(f"the job ended with {job.returncode}")
    return time.perf_counter() - start if job.returncode == 0 else None


def list_workers() -> list[int]:
    """Return the processes of this benchmark's own cluster that predict."""
    import ray

    session, found = ray.get_runtime_context().get_session_name(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = re.search(r"PPid:\s+(\d+)", (process / "status").read_text())
            title = (process / "cmdline").read_bytes()
            if title.startswith(b"ray::_Job") and parent:
                raylet = Path(f"/proc/{parent[1]}/cmdline").read_text()
                found += [int(process.name)] if session in raylet else []
        except OSError:
            continue
    return found


def read_rows(output: Path) -> Any:
    """Return the rows of a folder of results in the order of paths."""
    from pyarrow import parquet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parquet.read_table(output).sort_by("path").replace_schema_metadata()
