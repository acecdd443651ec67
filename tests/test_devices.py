"""What two devices fit and predict is what one does: on two virtual ones, in a process for each.

Left out is what the devices do each by itself: dropout on TensorFlow, normalisation by each batch.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

CLOSE = 1e-5  # of probabilities, losses and heat; measured: 2e-6 at most
RUN = Path(__file__).with_name("devices.py")


def fit_twice(backend, names, folder):
    """What each case leaves on one device and on two."""
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    run = [sys.executable, RUN, folder / "a.tlc", *names]
    environment = os.environ | {"KERAS_BACKEND": backend}
    out = subprocess.run(run, check=True, env=environment, stdout=-1, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def check(name, one, two):
    for key in two.keys() - {"told"}:
        wanted = one.get(key, one["probabilities"])
        if wanted is not None:
            np.testing.assert_allclose(two[key], wanted, atol=CLOSE, err_msg=f"{name}: {key}")


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_equals_one_device(backend, tmp_path):
    ((name, one, two),) = fit_twice(backend, ["stages"], tmp_path)
    check(name, one, two)
    assert len(one["told"]) == len(two["told"]) == 4
    for mine, theirs in zip(one["told"], two["told"], strict=True):
        assert mine["logs"] == theirs["logs"]
        np.testing.assert_allclose(mine["predicted"], theirs["predicted"], atol=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_equals_one_device_in_further_cases(backend, tmp_path):
    for name, one, two in fit_twice(backend, ["solved", "stored", "odd", "mixed"], tmp_path):
        check(name, one, two)


def test_several_machines_are_refused(make_clf, images, monkeypatch):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        nodes = tf.train.ClusterSpec({"worker": ["here:1", "there:1"]})
        found = tf.distribute.cluster_resolver.SimpleClusterResolver(nodes)
        strategy = type(tf.distribute.get_strategy())
        monkeypatch.setattr(strategy, "cluster_resolver", property(lambda _: found))
    elif keras.backend.backend() == "jax":
        monkeypatch.setattr(keras.distribution.DataParallel, "num_processes", 2)
        monkeypatch.setattr(keras.distribution, "distribution", keras.distribution.DataParallel)
    else:
        pytest.skip("Keras divides no batches on PyTorch")
    with pytest.raises(RuntimeError, match="devices of one process; received 2 .*Start one"):
        make_clf().fit(*images)
