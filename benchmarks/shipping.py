"""Measure exported classifiers: speed by engine, what a cold start costs, accuracy by precision."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from measuring import in_turns, load_cifar10, ratio_of, row, run_bare, seconds

N_TRAIN, N_TEST, N_CALIBRATION = 5_000, 2_000, 256


def fit_mobilenet(image_size: int = 96) -> tuple[object, np.ndarray, np.ndarray, np.ndarray]:
    """Return a classifier on CIFAR-10, its training images, and images and labels for a test."""
    from tlclassify import TransferClassifier

    X, y, X_test, y_test = load_cifar10()
    clf = TransferClassifier("mobilenet", image_size=image_size, random_state=0, verbose=0)
    return clf.fit(X[:N_TRAIN], y[:N_TRAIN]), X[:N_TRAIN], X_test[:N_TEST], y_test[:N_TEST]


# Each engine against Keras in a process of its own: their threads disturb one another's work.
def bench_engine_auto() -> None:
    """Measure the engine that "auto" takes, also against a bare loop of OpenVINO."""
    measure_engine("auto", aim=1.5)


def bench_engine_onnxruntime() -> None:
    """Measure ONNX Runtime, which "auto" takes where there is no OpenVINO."""
    measure_engine("onnxruntime")


def bench_engine_bfloat16() -> None:
    """Measure OpenVINO in bfloat16, where the processor has it."""
    for engine in bfloat16_engines():
        measure_engine(engine, aim=3)


def measure_engine(engine: str, *, aim: float | None = None) -> None:
    """Measure frozen MobileNet from uint8 images of 32 px, on Keras and on an engine, in turns."""
    from tlclassify import FeatureExtractor

    for image_size, n_images in ((96, 1024), (224, 256)):
        X = draw_images(n_images)
        options = {"weights": None, "image_size": image_size, "random_state": 0, "verbose": 0}
        works: dict[str, Callable[[], object]] = {}
        for name in ("keras", engine):
            extractor = FeatureExtractor("mobilenet", engine=name, **options).fit(X)
            works[name] = partial(extractor.transform, X)
        if engine == "auto":
            works["bare"] = partial(run_bare, compile_bare(extractor.model_), X, 64)
        found = in_turns(works)
        fast = ratio_of(found, "keras", engine)
        label = f"frozen MobileNet at {image_size} px from uint8: {engine} over TensorFlow"
        row(label, fast, "x", f">= {aim}" if aim else "", fast >= aim if aim else None)
        if engine == "auto":
            share = ratio_of(found, "bare", engine)
            row("... over a bare OpenVINO loop", share, "x", ">= 0.95", share >= 0.95)
        for name in ("keras", engine):
            row(f"... {name}", n_images / np.median(found[name]), "images/s", "", None)


def bench_one_image() -> None:
    """Measure one image through a classifier, a bare call, and `keras.Model.predict`."""
    from tlclassify import TransferClassifier

    X = draw_images(64)
    options = {"weights": None, "validation_fraction": 0, "verbose": 0, "random_state": 0}
    clf = TransferClassifier("mobilenet", engine="auto", **options).fit(X, np.arange(64) % 10)
    plain = TransferClassifier("mobilenet", **options).fit(X, np.arange(64) % 10)
    bare, image = compile_bare(clf.model_), X[:1]
    found = in_turns(
        {
            "auto": lambda: [clf.predict_proba(image) for _ in range(30)],
            "bare": lambda: [bare(image) for _ in range(30)],
            "keras": lambda: [plain.predict_proba(image) for _ in range(30)],
            "compiled": lambda: [plain.model_.predict_on_batch(image) for _ in range(30)],
            "predict": lambda: [plain.model_.predict(image, verbose=0) for _ in range(30)],
        }
    )
    for engine, direct in (("auto", "bare"), ("keras", "compiled")):
        ratio = ratio_of(found, engine, direct)
        label = f"one image at 96 px, engine {engine}: predict_proba over a direct call"
        row(label, ratio, "x", "<= 1.3", ratio <= 1.3)
        ratio = ratio_of(found, "predict", engine)
        row("... keras.Model.predict over it", ratio, "x", ">= 5", ratio >= 5)
        row("... predict_proba", 1000 * np.median(found[engine]) / 30, "ms", "", None)


def draw_images(n_images: int) -> np.ndarray:
    """Return uint8 images of 32x32."""
    return np.random.default_rng(0).integers(0, 256, (n_images, 32, 32, 3), dtype=np.uint8)


def bfloat16_engines() -> list[str]:
    """Return the engines that compute in bfloat16, where the processor has it."""
    from tlclassify.engines.runtimes import choose_engine

    name = "openvino_bfloat16"
    try:
        choose_engine(name)
    except ValueError as error:
        print(f"{name}: skipped, {error}")
        return []
    return [name]


def compile_bare(network: object) -> Callable[[np.ndarray], object]:
    """Return a network compiled by OpenVINO itself, with nothing around it."""
    import openvino

    from tlclassify.engines.converters import export_graph

    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.xml"
        export_graph(network, path, "openvino")
        compiled: Callable[[np.ndarray], object] = openvino.Core().compile_model(
            path, "CPU", options
        )
    return compiled


COLD_START = r"""
import time
start = time.perf_counter()
import json, re, sys
import numpy as np
from tlclassify import load_exported
images = np.zeros((1, 32, 32, 3), np.uint8)
load_exported(sys.argv[1], engine=sys.argv[2]).predict(images)
taken = time.perf_counter() - start
# Not by getrusage, which counts what the parent held when this process was forked.
peak = re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]
print(json.dumps([taken, int(peak) / 2**10]))
"""


def bench_cold_start() -> None:
    """Measure a new process from its first line to its first prediction, and its memory."""
    from tlclassify import TransferClassifier, export

    X = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    clf = TransferClassifier("mobilenet", weights=None, validation_fraction=0, verbose=0)
    clf.fit(X, np.arange(64) % 10)
    with tempfile.TemporaryDirectory() as folder:
        for engine, name in (
            ("openvino", "a.xml"),
            ("openvino", "a.onnx"),
            ("onnxruntime", "a.onnx"),
        ):
            path = str(export(clf, Path(folder) / name))
            command = [sys.executable, "-c", COLD_START, path, engine]
            runs = [
                json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                for _ in range(5)
            ]
            taken, megabytes = (statistics.median(values) for values in zip(*runs, strict=True))
            label = f"cold start of MobileNet, {name[2:]} on {engine}"
            row(label, taken, "s", "< 1", taken < 1)
            row("... resident memory, at most", megabytes, "MiB", "< 200", megabytes < 200)


def bench_precision() -> None:
    """Measure what smaller weights cost in accuracy, and how large and fast the files are."""
    from tlclassify import export, load_exported

    clf, X, X_test, y_test = fit_mobilenet()
    before = clf.score(X_test, y_test)
    row(f"CIFAR-10, MobileNet at 96 px, {N_TEST} images: accuracy", before, "", "", None)
    for engine in bfloat16_engines():
        change = clf.set_params(engine=engine).score(X_test, y_test) - before
        row(f"... engine {engine}, change", change, "", ">= -0.003", change >= -0.003)
    with tempfile.TemporaryDirectory() as folder:
        for suffix, engine in ((".onnx", "onnxruntime"), (".onnx", "openvino"), (".xml", "auto")):
            for precision in ("float32", "float16", "int8")[: 2 if suffix == ".xml" else 3]:
                images = X[:N_CALIBRATION] if precision == "int8" else None
                path = Path(folder) / f"{precision}{suffix}"
                export(clf, path, precision=precision, calibration_images=images)
                loaded = load_exported(path, engine=engine)
                accuracy = loaded.score(X_test, y_test)
                label = f"{precision} in {suffix} on {loaded.engine_}: accuracy, change"
                row(label, accuracy - before, "", "", None)
                weights = path.with_suffix(".bin")
                n_bytes = (weights if suffix == ".xml" else path).stat().st_size
                row("... file", n_bytes / 2**20, "MiB", "", None)
                speed = N_TEST / seconds(lambda loaded=loaded: loaded.predict(X_test))
                row("... speed", speed, "images/s", "", None)
        for engine in bfloat16_engines():
            half = load_exported(Path(folder) / "float32.xml", engine=engine)
            change = half.score(X_test, y_test) - before
            row("float32 in .xml, computed in bfloat16: accuracy, change", change, "", "", None)
        for precision in ("float32", "float16", "int8"):
            images = X[:N_CALIBRATION] if precision == "int8" else None
            path = Path(folder) / f"{precision}.tflite"
            export(clf, path, precision=precision, calibration_images=images)
            accuracy = float(np.mean(clf.classes_[run_litert(path, X_test)] == y_test))
            row(f"{precision} in .tflite: accuracy, change", accuracy - before, "", "", None)
            row("... file", path.stat().st_size / 2**20, "MiB", "", None)


def run_litert(path: Path, images: np.ndarray) -> np.ndarray:
    """Return the column of each image's most probable class."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=2)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.allocate_tensors()
    columns = []
    for image in images:
        interpreter.set_tensor(place, image[None])
        interpreter.invoke()
        output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        columns.append(output[0].argmax())
    return np.array(columns)
