"""Pickle, joblib and copies keep a classifier whole."""

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import joblib
import keras
import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator

from tlclassify.analysis.calibration import with_temperature
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.networks import backbones
from tlclassify.persistence.saving import load
from tlclassify.training.stages import Stage

SAVED = Path(__file__).parent / "data" / "saved_format_1.tlc"
QUICK = Stage(2, learning_rate=0.05, batch_size=8)
TUNE = Stage(2, unfreeze=1, learning_rate=0.01, batch_size=8)


def own_head(feature_map, n_classes):
    x = keras.layers.GlobalMaxPooling2D()(feature_map)
    return keras.layers.Dense(n_classes, activation="softmax", name="own")(x)


@pytest.fixture
def named(registered):
    """A fitted classifier whose backbone is a name, registered for one test."""
    return load(SAVED)


@pytest.fixture
def trained(named, tiny):
    """The same with a row for its backbone, as no file holds it."""
    named._blueprint = replace(named._blueprint, backbone=tiny)
    return named.set_params(backbone=tiny)


def assert_equal_answers(first, second, X):
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


@pytest.mark.parametrize("params", [{"head": own_head}, {"fine_tune_stage": TUNE}])
def test_pickle_keeps_everything(make_clf, images, params):
    clf = make_clf(head_stage=QUICK, cache_dir="unused", validation_fraction=0)
    clf = with_temperature(clf.set_params(**params, cache_dir=None).fit(*images), 2.0)
    unpickled = pickle.loads(pickle.dumps(clf.set_params(cache_dir="kept", batch_size=0)))
    assert unpickled.cache_dir == "kept"
    assert unpickled.head is clf.head or repr(unpickled.head) == repr(clf.head)
    assert unpickled.backbone == clf.backbone
    assert unpickled.history_ == clf.history_
    assert_equal_answers(
        unpickled.set_params(cache_dir=None, batch_size=8),
        clf.set_params(cache_dir=None, batch_size=8),
        images[0],
    )


def test_a_pickle_needs_no_registered_backbone(trained, images, monkeypatch):
    monkeypatch.delitem(backbones._registry, "tiny")
    assert_equal_answers(pickle.loads(pickle.dumps(trained)), trained, images[0])


def test_a_pickle_of_a_name_needs_it(named, monkeypatch):
    content = pickle.dumps(named)
    monkeypatch.delitem(backbones._registry, "tiny")
    with pytest.raises(ValueError, match="the pickle was saved with the backbone 'tiny', which"):
        pickle.loads(content)


def test_a_pickle_has_the_limits_of_a_file(named):
    named.history_ = 40_000 * named.history_[:1]
    with pytest.raises(ValueError, match=r"clf must fit into a file .* manifest has .*4,194,304"):
        pickle.dumps(named)


def test_a_pickle_that_is_not_whole(named):
    state = named.__getstate__()
    state["_dumped"] = state["_dumped"][:-1]
    message = r"a pickled classifier must hold .*is missing\. Pickle the classifier again"
    with pytest.raises(ValueError, match=message):
        named.__setstate__(state)


def test_pickle_of_what_is_not_fitted(make_clf):
    clf = make_clf(head_stage=QUICK)
    unpickled = pickle.loads(pickle.dumps(clf))
    assert repr(unpickled.get_params()) == repr(clf.get_params())
    assert not hasattr(unpickled, "model_")


def test_joblib_inside_another_estimator(trained, images, tmp_path):
    joblib.dump(FrozenEstimator(trained), tmp_path / "clf.joblib")
    assert_equal_answers(joblib.load(tmp_path / "clf.joblib"), trained, images[0])


def test_a_deep_copy_has_networks_of_its_own_and_a_copy_shares_them(trained, images):
    deep, shallow = copy.deepcopy(trained), copy.copy(trained)
    assert_equal_answers(deep, trained, images[0])
    for name in ("model_", "backbone_", "head_", "_calibrated_head"):
        assert getattr(shallow, name) is getattr(trained, name)
        assert getattr(deep, name) is not getattr(trained, name)
    before = trained.predict_proba(images[0])
    deep.head_.set_weights([0 * values for values in deep.head_.get_weights()])
    np.testing.assert_array_equal(trained.predict_proba(images[0]), before)


@pytest.mark.parametrize("dump", [lambda f: pickle.loads(pickle.dumps(f)), copy.deepcopy])
def test_a_feature_extractor(tiny, images, dump):
    extractor = FeatureExtractor(tiny, weights=None, random_state=0, verbose=0).fit(images[0])
    expected = extractor.transform(images[0])
    np.testing.assert_array_equal(dump(extractor).transform(images[0]), expected)
