"""Tiny data and a tiny backbone: what most laws are proved on."""

import keras
import numpy as np
import pytest

from tlclassify.activations import run as activations
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.networks import backbones
from tlclassify.networks.rows import SYMMETRIC, Backbone
from tlclassify.training.stages import Stage

# What is said where there are no graphs here; there are some of TensorFlow always.
NO_GRAPHS = {"torch": "needs Keras on tensorflow", "jax": "needs jax2onnx", "tensorflow": "\0"}


def skip_without_graphs(item):
    """Skip what a backend has no graphs for here, with the reason that the library gives."""
    try:
        return (yield)
    except ImportError as error:
        if NO_GRAPHS[keras.backend.backend()] in str(error):
            pytest.skip(str(error))
        raise


pytest_runtest_setup = pytest_runtest_call = pytest.hookimpl(wrapper=True)(skip_without_graphs)


def build_tiny(x):
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="one")(x)
    x = keras.layers.BatchNormalization(name="one_bn")(x)
    x = keras.layers.ReLU(name="one_relu")(x)
    return keras.layers.Conv2D(12, 3, padding="same", activation="relu", name="two")(x)


@pytest.fixture
def tiny():
    """A backbone of two convolutions: 8 pixels to a 4x4 map of 12 channels."""
    return Backbone("tiny", build_tiny, SYMMETRIC, native_size=8, small_size=8, min_size=4)


@pytest.fixture
def make_clf(tiny):
    """A function that makes a classifier on the tiny backbone, with other parameters as given.

    Its head is trained by epochs, and some images are held out.
    """

    def make(**params):
        trained = {"head_stage": Stage(), "validation_fraction": 0.1} | params
        return TransferClassifier(
            tiny, weights=None, head="linear", random_state=0, verbose=0, **trained
        )

    return make


@pytest.fixture
def images():
    """24 images of 8x8 with three labels that a linear head can tell apart."""
    rng = np.random.default_rng(0)
    y = np.array(["cat", "dog", "eel"])[np.arange(24) % 3]
    X = rng.integers(0, 90, (24, 8, 8, 3), dtype=np.uint8)
    X[y == "dog", :, :, 0] += 150
    X[y == "eel", :, :, 2] += 150
    return X, y


@pytest.fixture
def files(tmp_path, images):
    """The same images as PNG files."""
    from PIL import Image

    paths = []
    for number, image in enumerate(images[0]):
        paths.append(tmp_path / f"{number:02d}.png")
        Image.fromarray(image).save(paths[-1])
    return paths, images[1]


@pytest.fixture
def figures(monkeypatch):
    """Draw off screen, leave no figure and no setting behind."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("a display must not show itself"))
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before


@pytest.fixture
def runs(monkeypatch):
    """How many images the network has been run on."""
    counted = []
    original = activations.run_batches

    def counting(model, source, **options):
        for batch in original(model, source, **options):
            counted.append(len(batch))
            yield batch

    monkeypatch.setattr(activations, "run_batches", counting)
    return counted


@pytest.fixture
def registered(tiny, monkeypatch):
    """The tiny backbone, which has its name in the registry for one test."""
    monkeypatch.setitem(backbones._registry, "tiny", tiny)
    return tiny
