"""Fit the same on one device and on two, and print what comes of each: `python devices.py CASE`."""

import json
import os
import sys

# Before Keras starts JAX.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import keras
import numpy as np

from conftest import build_tiny
from tlclassify.analysis.explanation import grad_cam
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.inputs.augmentation import Augmentation
from tlclassify.networks.heads import Head
from tlclassify.networks.rows import SYMMETRIC, Backbone
from tlclassify.persistence.saving import load, save
from tlclassify.training.stages import Stage

TINY = Backbone("tiny", build_tiny, SYMMETRIC, native_size=8, small_size=8, min_size=4)
# Without dropout, whose random numbers TensorFlow draws on each device.
LINEAR, HIDDEN = (Head(hidden_units=units, dropout=0.0) for units in ((), (6,)))
FEW = {"epochs": 2, "batch_size": 8}
EVERYTHING = Stage(**FEW, unfreeze="all")
HELD_OUT = {"validation_fraction": 0.25}  # 7 images, so that 21 are trained on
CASES = {
    "stages": {"head": LINEAR, "head_stage": Stage(**FEW), "fine_tune_stage": EVERYTHING}
    | HELD_OUT,
    "solved": {},
    "stored": {"fine_tune_stage": Stage(**FEW, unfreeze=1)} | HELD_OUT,
    "odd": {
        "head": HIDDEN,
        "head_stage": Stage(2, batch_size=7),
        "class_weight": "balanced",
        "batch_size": 5,
    }
    | HELD_OUT,
    "mixed": {"augmentation": Augmentation(mixup_alpha=0.2), "fine_tune_stage": EVERYTHING}
    | HELD_OUT,
}
rng = np.random.default_rng(0)
y = np.array(["cat", "dog", "eel"])[np.arange(28) % 3]
X = rng.integers(0, 90, (28, 8, 8, 3), dtype=np.uint8)
X[y == "dog", :, :, 0] += 150
X[y == "eel", :, :, 2] += 150


class Told(keras.callbacks.Callback):
    """What a user's callback is told, and what its model predicts then."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        predicted = self.model.predict(X[:4], verbose=0).tolist()
        self.seen.append({"logs": [epoch, *logs], "predicted": predicted})


def fit(name):
    params = {"weights": None, "head": "linear", "random_state": 0, "verbose": 0} | CASES[name]
    told = Told()
    clf = TransferClassifier(TINY, **params, callbacks=[told] if name == "stages" else None).fit(
        X, y
    )
    return clf, {
        "probabilities": clf.predict_proba(X[:17]).tolist(),
        "of_one": clf.predict_proba(X[:1]).tolist(),
        "history": [[row["epoch"], row.get("val_loss", row["loss"])] for row in clf.history_],
        "told": told.seen,
    }


def divide():
    """Two devices, as a user says it."""
    if keras.backend.backend() == "jax":
        return keras.distribution.DataParallel()
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


if __name__ == "__main__":
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        both = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, both)
    devices = divide()
    for name in sys.argv[2:]:
        before, one = fit(name)
        with devices.scope():
            clf, two = fit(name)
            two["before"] = before.predict_proba(X[:17]).tolist()
            two["heat"] = grad_cam(clf, X[:3]).tolist() if name == "stored" else None
        one["heat"] = grad_cam(before, X[:3]).tolist() if name == "stored" else None
        two["outside"] = clf.predict_proba(X[:17]).tolist()
        save(clf, sys.argv[1])
        two["loaded"] = load(sys.argv[1], backbone=TINY).predict_proba(X[:17]).tolist()
        sys.stdout.write(json.dumps([name, one, two]) + "\n")
