"""Measure exported classifiers: speed by engine, what a cold start costs, accuracy by precision."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from measuring import load_cifar10, row, seconds

N_TRAIN, N_TEST, N_CALIBRATION = 5_000, 2_000, 256
IDLE_SECONDS = 1.0  # ONNX Runtime's threads wait for more work at full speed for a while


def fit_mobilenet(image_size: int = 96) -> tuple[object, np.ndarray, np.ndarray, np.ndarray]:
    """Return a classifier on CIFAR-10, its training images, and images and labels for a test."""
    from tlclassify import TransferClassifier

    X, y, X_test, y_test = load_cifar10()
    clf = TransferClassifier("mobilenet", image_size=image_size, random_state=0, verbose=0)
    return clf.fit(X[:N_TRAIN], y[:N_TRAIN]), X[:N_TRAIN], X_test[:N_TEST], y_test[:N_TEST]


def in_turns(works: dict[str, Callable[[], object]], n_turns: int = 5) -> dict[str, float]:
    """Return the median seconds of each, run one after the other so that all see the same load."""
    for work in works.values():
        work()
    found = [{name: alone(work) for name, work in works.items()} for _ in range(n_turns)]
    return {name: statistics.median(turn[name] for turn in found) for name in works}


def alone(work: Callable[[], object]) -> float:
    """Return the seconds of work that begins when the threads of what ran before have gone idle."""
    time.sleep(IDLE_SECONDS)
    return seconds(work)


def bench_engines() -> None:
    """Measure MobileNet from uint8 images of 32 px, at 96 and at 224, on every engine."""
    for image_size, n_images in ((96, 1024), (224, 256)):
        measure_engines(image_size, n_images)
    measure_one_image()


def measure_engines(image_size: int, n_images: int) -> None:
    """Measure the frozen part on Keras, on engines, and in a bare loop of OpenVINO, in turns."""
    from tlclassify import FeatureExtractor

    X = draw_images(n_images)
    options = {"weights": None, "image_size": image_size, "random_state": 0, "verbose": 0}
    works: dict[str, Callable[[], object]] = {}
    for engine in ("keras", "auto", "onnxruntime", *bfloat16_engines()):
        extractor = FeatureExtractor("mobilenet", engine=engine, **options).fit(X)
        works[engine] = partial(extractor.transform, X)
    bare = compile_bare(extractor.model_)
    works["bare"] = lambda: [bare(X[first : first + 64]) for first in range(0, len(X), 64)]
    found = in_turns(works)
    over_keras = {name: found["keras"] / taken for name, taken in found.items()}
    fast = over_keras["auto"]
    label = f"frozen MobileNet at {image_size} px from uint8: engine auto over TensorFlow"
    row(label, fast, "x", ">= 1.5", fast >= 1.5)
    for engine in bfloat16_engines():
        fast = over_keras[engine]
        row(f"... {engine}", fast, "x", ">= 3", fast >= 3)
    row("... engine onnxruntime", over_keras["onnxruntime"], "x", "", None)
    share = found["bare"] / found["auto"]
    row("... engine auto's speed over a bare OpenVINO loop's", share, "x", ">= 0.95", share >= 0.95)
    for name in ("keras", "auto"):
        row(f"... {name}", n_images / found[name], "images/s", "", None)


def measure_one_image() -> None:
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
        ratio = found[engine] / found[direct]
        label = f"one image at 96 px, engine {engine}: predict_proba over a direct call"
        row(label, ratio, "x", "<= 1.3", ratio <= 1.3)
        ratio = found["predict"] / found[engine]
        row("... keras.Model.predict over it", ratio, "x", ">= 5", ratio >= 5)
        row("... predict_proba", 1000 * found[engine] / 30, "ms", "", None)


def draw_images(n_images: int) -> np.ndarray:
    """Return uint8 images of 32x32."""
    return np.random.default_rng(0).integers(0, 256, (n_images, 32, 32, 3), dtype=np.uint8)


def bfloat16_engines() -> list[str]:
    """Return the engines that compute in bfloat16, where the processor has it."""
    import openvino

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["openvino_bfloat16"] * ("BF16" in capabilities)


def compile_bare(network: object) -> Callable[[np.ndarray], object]:
    """Return a network compiled by OpenVINO itself, with nothing around it."""
    import openvino

    from tlclassify.portable import build_portable, export_graph

    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.xml"
        export_graph(build_portable(network), path, "openvino")
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
