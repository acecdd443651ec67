"""Pickle, joblib and copies keep a classifier whole."""

import copy
import pickle
from dataclasses import replace

import joblib
import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from conftest import build_tiny
from tlclassify.analysis.calibration import with_temperature
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.networks import backbones
from tlclassify.networks.cuts import fingerprint_model
from tlclassify.networks.heads import Head
from tlclassify.networks.rows import SYMMETRIC, Backbone
from tlclassify.training.stages import Stage

ONE_EPOCH = Stage(1, learning_rate=0.05, batch_size=8)
TUNE = Stage(1, unfreeze=1, learning_rate=1e-3, batch_size=8, batch_norm="train")


class Halved(keras.layers.Layer):
    """A layer of a user's own, in a module that can be imported."""

    def build(self, input_shape):
        self.built = True

    def call(self, x):
        return x / 2


def own_activation(x):
    return keras.ops.relu(x)


def own_head(feature_map, n_classes):
    x = Halved()(keras.layers.GlobalMaxPooling2D()(feature_map))
    x = keras.layers.Dense(4, activation=own_activation)(x)
    return keras.layers.Dense(n_classes, activation="softmax", name="own")(x)


@pytest.fixture(scope="module")
def trained():
    """A calibrated classifier that no test trains further or changes."""
    rng = np.random.default_rng(0)
    row = Backbone("tiny", build_tiny, SYMMETRIC, native_size=8, small_size=8, min_size=4)
    params = {"head": Head((4,)), "head_stage": ONE_EPOCH, "random_state": 0, "verbose": 0}
    clf = TransferClassifier(row, weights=None, **params)
    X = rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    return with_temperature(clf.fit(X, np.arange(24) % 3), 2.0)


def assert_equal_answers(first, second, X):
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    for name in ("model_", "backbone_", "head_"):
        networks = getattr(first, name), getattr(second, name)
        assert networks[0].name == networks[1].name
        assert len(set(map(fingerprint_model, networks))) == 1


@pytest.mark.filterwarnings("ignore:stage 'fine_tune' is undone")
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize(
    "params",
    [
        {"head": own_head},
        {"head": Head((4,), batch_norm=True, pooling="flatten"), "fine_tune_stage": TUNE},
    ],
)
def test_pickle_keeps_everything(make_clf, images, params, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        clf = make_clf(head_stage=ONE_EPOCH).set_params(**params).fit(*images)
    finally:
        keras.config.set_dtype_policy(before)
    unpickled = pickle.loads(pickle.dumps(clf.set_params(cache_dir="kept", batch_size=7)))
    for each in (clf, unpickled):
        each.set_params(cache_dir=None)
    assert_equal_answers(unpickled, clf, images[0])
    assert repr(unpickled.get_params()) == repr(clf.get_params())
    assert unpickled.history_ == clf.history_
    trained = [variable.path for variable in clf.model_.trainable_variables]
    assert [variable.path for variable in unpickled.model_.trainable_variables] == trained


def test_a_temperature_is_kept_and_can_be_replaced(trained, images):
    unpickled = pickle.loads(pickle.dumps(trained))
    assert unpickled.temperature_ == 2
    for temperature in (1.0, 3.0):
        first, second = (with_temperature(clf, temperature) for clf in (trained, unpickled))
        assert_equal_answers(first, second, images[0])


def test_stored_activations_are_found_again(make_clf, images, tmp_path, runs):
    clf = make_clf(head_stage=ONE_EPOCH, cache_dir=tmp_path).fit(*images)
    unpickled = pickle.loads(pickle.dumps(with_temperature(clf, 2.0)))
    runs.clear()
    assert unpickled.predict_proba(images[0]).shape == (24, 3)
    assert runs in ([], [24])


def test_a_pickle_needs_no_registered_backbone(trained, registered, images, monkeypatch):
    named = copy.copy(trained).set_params(backbone="tiny")
    content = pickle.dumps(named)
    monkeypatch.delitem(backbones._registry, "tiny")
    assert_equal_answers(pickle.loads(content), trained, images[0])


def test_a_pickle_has_no_limits_of_a_file(trained):
    clf = copy.copy(trained)
    clf.history_ = 40_000 * trained.history_[:1]
    assert len(pickle.loads(pickle.dumps(clf)).history_) == 40_000


def test_pickle_of_what_is_not_fitted(make_clf, trained):
    for clf in (make_clf(), clone(trained)):
        unpickled = pickle.loads(pickle.dumps(clf))
        assert repr(unpickled.get_params()) == repr(clf.get_params())
        assert not hasattr(unpickled, "model_")


def test_joblib_inside_another_estimator(trained, images, tmp_path):
    joblib.dump(FrozenEstimator(trained), tmp_path / "clf.joblib")
    assert_equal_answers(joblib.load(tmp_path / "clf.joblib").estimator, trained, images[0])


def test_a_deep_copy_has_networks_of_its_own_and_a_copy_shares_them(trained, images):
    deep, shallow = copy.deepcopy(trained), copy.copy(trained)
    assert_equal_answers(deep, trained, images[0])
    for name in ("model_", "backbone_", "head_"):
        assert getattr(shallow, name) is getattr(trained, name)
        assert getattr(deep, name) is not getattr(trained, name)
    before = trained.predict_proba(images[0])
    deep.head_.set_weights([0 * values for values in deep.head_.get_weights()])
    assert (deep.predict_proba(images[0]) != before).any()
    np.testing.assert_array_equal(trained.predict_proba(images[0]), before)


@pytest.mark.parametrize("dump", [lambda f: pickle.loads(pickle.dumps(f)), copy.deepcopy])
def test_a_feature_extractor(tiny, images, dump):
    own = (
        replace(tiny, builder=lambda x: Halved()(build_tiny(x))) if dump is copy.deepcopy else tiny
    )
    extractor = FeatureExtractor(own, weights=None, random_state=0, verbose=0).fit(images[0])
    expected = extractor.transform(images[0])
    np.testing.assert_array_equal(dump(extractor).transform(images[0]), expected)
    assert not hasattr(dump(clone(extractor)), "model_")
