"""The same task, the same weights: this library and what people would use instead, side by side.

    make bench BENCH=side_by_side  # half an hour of two cores

Each way is written as its own documentation teaches it; keras-hub and SciKeras are used where they
are installed. Seconds are those of processors, so that other programs do not count, from raw arrays
to the fitted model, without imports.
"""

import inspect
import itertools
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from few_images import Task, draw, interval, load_tasks
from measuring import TABLE, keep

N_DRAWS, N_TEST, EPOCHS = 3, 2_000, 20
# Images a class, backbone, pixels.
TASKS = {"CIFAR-10": ((10, 100), "mobilenet", 96), "digits": ((10,), "mobilenet_micro", 32)}
LOSS = "sparse_categorical_crossentropy"
Predict = Callable[[np.ndarray], np.ndarray]


def build_base(name: str, size: int) -> keras.Model:
    """Return a backbone as `keras.applications` gives it: scaled images to a feature map."""
    if name == "mobilenet":
        return keras.applications.MobileNet(input_shape=(size, size, 3), include_top=False)
    from tlclassify.networks.backbones import get_backbone, load_weight_file

    backbone, images = get_backbone(name), keras.Input((size, size, 3))
    base = keras.Model(images, backbone.builder(images))
    load_weight_file(base, backbone.weights, name)
    return base


def fit_tlclassify(X: np.ndarray, y: np.ndarray, name: str, size: int) -> Predict:
    """Fit ours, with nothing set but the size."""
    from tlclassify import TransferClassifier

    clf = TransferClassifier(name, image_size=size, verbose=0)
    return clf.fit(X, y).predict


def fit_scikit_learn(X: np.ndarray, y: np.ndarray, name: str, size: int) -> Predict:
    """Fit logistic regression on features from Keras."""
    inputs = keras.Input(X.shape[1:])
    x = layers.Resizing(size, size)(inputs)
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = layers.GlobalAveragePooling2D()(build_base(name, size)(x))
    extractor = keras.Model(inputs, x)
    clf = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    clf.fit(extractor.predict(X, verbose=0), y)
    return lambda images: clf.predict(extractor.predict(images, verbose=0))


def build_guide(shape: tuple[int, ...], n_classes: int, name: str, size: int) -> keras.Model:
    """Build the network of Keras's guide to transfer learning."""
    base = build_base(name, size)
    base.trainable = False
    inputs = keras.Input(shape)
    x = layers.Resizing(size, size)(inputs)
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = layers.GlobalAveragePooling2D()(base(x, training=False))
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(n_classes, activation="softmax")(x))


def fit_keras_guide(X: np.ndarray, y: np.ndarray, name: str, size: int) -> Predict:
    """Fit as Keras's guide does."""
    classes, targets = np.unique(y, return_inverse=True)
    model = build_guide(X.shape[1:], len(classes), name, size)
    model.compile(keras.optimizers.Adam(), LOSS)
    model.fit(X, targets, epochs=EPOCHS, verbose=0)
    return lambda images: classes[model.predict(images, verbose=0).argmax(axis=1)]


def fit_keras_hub(X: np.ndarray, y: np.ndarray, name: str, size: int) -> Predict:
    """Fit keras-hub's classifier around the same network, which its guide would train whole."""
    import keras_hub

    classes, targets = np.unique(y, return_inverse=True)
    inputs = keras.Input(X.shape[1:])
    x = layers.Resizing(size, size)(inputs)
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    backbone = keras_hub.models.Backbone(inputs, build_base(name, size)(x))
    clf = keras_hub.models.ImageClassifier(backbone, len(classes), activation="softmax")
    clf.backbone.trainable = False
    clf.compile(keras.optimizers.Adam(), LOSS)
    clf.fit(X, targets, epochs=EPOCHS, verbose=0)
    return lambda images: classes[clf.predict(images, verbose=0).argmax(axis=1)]


def fit_scikeras(X: np.ndarray, y: np.ndarray, name: str, size: int) -> Predict:
    """Fit the guide's network as an estimator of SciKeras."""
    from scikeras.wrappers import KerasClassifier

    def build(meta: dict[str, Any]) -> keras.Model:
        return build_guide(meta["X_shape_"][1:], meta["n_classes_"], name, size)

    clf = KerasClassifier(build, loss=LOSS, optimizer="adam", epochs=EPOCHS, verbose=0)
    return clf.fit(X, y).predict


# Each with the further functions that a user would have to write.
WAYS: dict[str, tuple[Callable[..., Any], ...]] = {
    "tlclassify": (fit_tlclassify,),
    "scikit-learn on features": (fit_scikit_learn,),
    "Keras's guide": (fit_keras_guide, build_guide),
    "keras-hub": (fit_keras_hub,),
    "SciKeras": (fit_scikeras, build_guide),
}


def count_lines(function: Callable[..., Any]) -> int:
    """Return the lines of code in a function's body, without imports."""
    lines = [line.strip() for line in inspect.getsource(function).split("\n")[2:]]
    return sum(bool(line) and not line.startswith(("from ", "import ")) for line in lines)


def bench_side_by_side() -> None:
    """Measure each way on each task, in turns; or say why it does not run."""
    tasks = [task for task in load_tasks() if task.name in TASKS]
    for n, task in itertools.product((10, 100), tasks):
        done, found = list(TABLE), dict[str, list[Any]]()
        for seed, way in itertools.product(range(N_DRAWS * (n in TASKS[task.name][0])), WAYS):
            try:
                found.setdefault(way, []).append(measure(WAYS[way][0], task, n, seed))
            except Exception as error:  # noqa: BLE001 - of other libraries, and shown
                found[way] = [f"{type(error).__name__}: {error}"]
            print(task.name, n, way, seed, found[way][-1], flush=True)
            TABLE[:] = [*done, *([task.name, n, name, *tell(name, found[name])] for name in found)]
            keep("side_by_side")


def tell(way: str, found: list[Any]) -> list[Any]:
    """Return accuracy with interval, seconds and lines of code of a way, or its error."""
    if isinstance(found[-1], str):
        return found[-1:]
    accuracies, taken = map(list, zip(*found, strict=True))
    return [*interval(accuracies), float(np.median(taken)), sum(map(count_lines, WAYS[way]))]


def measure(fit: Callable[..., Predict], task: Task, n: int, seed: int) -> tuple[float, float]:
    """Return the test accuracy of one draw, and the seconds of processors that its fit took."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    drawn = np.random.default_rng(seed).permutation(draw(task.y, n, seed))
    start = time.process_time()
    predict = fit(task.X[drawn], task.y[drawn], *TASKS[task.name][1:])
    taken = time.process_time() - start
    right = predict(task.X_test[:N_TEST]) == task.y_test[:N_TEST]
    return float(np.mean(right)), taken
