"""What the tests of exported files share: a small fitted classifier, and images for it."""

import subprocess
import sys
from functools import cache

import keras
import numpy as np
import pytest

from tlclassify.analysis.calibration import with_temperature
from tlclassify.engines.converters import FORMATS
from tlclassify.engines.metadata import ExportMetadata, encode_labels_as_json
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.networks.rows import SYMMETRIC, Backbone
from tlclassify.persistence.exporting import export
from tlclassify.training.stages import Stage

KERAS = tuple(int(part) for part in keras.__version__.split(".")[:2])
NAMES = {"onnx": "a.onnx", "openvino": "a.xml", "litert": "a.tflite", "saved_model": "a"}
# Python 3.10 has no Keras that writes LiteRT.
NAMES = {row.name: NAMES[row.name] for row in FORMATS if row.first_keras <= KERAS}
SHAPE = (5, 7)

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="only Keras on TensorFlow has graphs that can be converted",
)


def run_without_keras(code):
    """Run code in a process of its own, and see that it has loaded none of what is heavy."""
    code += "\nimport sys\nassert not {'keras', 'tensorflow', 'sklearn', 'scipy'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def build_two(x):
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="one")(x)
    x = keras.layers.BatchNormalization(name="one_bn")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="deep")(keras.layers.ReLU()(x))
    return keras.layers.Conv2D(12, 3, padding="same", activation="relu", name="two")(x)


def make_row(name="two_layers", scaling=SYMMETRIC):
    return Backbone(
        name, build_two, scaling, native_size=8, small_size=8, min_size=4, licence="CC0-1.0"
    )


def describe(classes, shape=(5, 7, 3), **fields):
    """What a file of such classes says of itself."""
    labels, dtype_name = encode_labels_as_json(classes)
    return ExportMetadata(
        classes=labels, classes_dtype=dtype_name, image_shape=shape, pixel_range=255, **fields
    )


def draw_images(n=24, shape=(8, 8), seed=0):
    rng = np.random.default_rng(seed)
    y = np.array(["cat", "dog", "eel"])[np.arange(n) % 3]
    X = rng.integers(0, 90, (n, *shape, 3), dtype=np.uint8)
    X[y == "dog", :, :, 0] += 150
    X[y == "eel", :, :, 2] += 150
    return X, y


def fit_small(shape=(8, 8), labels=None, row=None, **params):
    """A classifier with a head of some layers, trained for an epoch."""
    X, y = draw_images(shape=shape)
    y = y if labels is None else np.array(labels)[np.arange(len(y)) % len(labels)]
    params = {"head": "mlp", "head_stage": Stage(2, learning_rate=0.05)} | params
    clf = TransferClassifier(row or make_row(), weights=None, random_state=0, verbose=0, **params)
    return clf.fit(X, y)


@cache
def fit_once():
    """A classifier that resizes, whose probabilities are scaled; no test changes it."""
    return with_temperature(fit_small(SHAPE, image_size=12), 1.7)


_exported = {}


def export_once(tmp_path_factory):
    """The same classifier's export of each format, by the format's name; no test changes them."""
    if not _exported:
        folder = tmp_path_factory.mktemp("exported")
        _exported.update({name: export(fit_once(), folder / NAMES[name]) for name in NAMES})
    return _exported
