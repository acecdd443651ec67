"""Fine-tuning that makes worse is left out or undone, and says so."""

import numpy as np
import pytest
from sklearn.base import clone

from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.training.stages import Stage

RUINOUS = Stage(3, unfreeze="all", optimizer="sgd", learning_rate=3.0, batch_size=8)
HARMLESS = Stage(2, unfreeze=1, learning_rate=1e-4, batch_size=8)


@pytest.fixture
def clf(tiny):
    return TransferClassifier(tiny, weights=None, random_state=0, verbose=0)


def test_a_stage_that_ruins_the_network_is_left_out(clf, images):
    X, y = images
    head = clone(clf).fit(X, y)
    clf.set_params(fine_tune_stage=RUINOUS)
    with pytest.warns(UserWarning, match=r"fine_tune_stage is left out.* log loss, .* before"):
        clf.fit(X, y)
    assert [row["stage"] for row in clf.history_] == ["head"]
    np.testing.assert_allclose(clf.predict_proba(X), head.predict_proba(X), atol=1e-6)


def test_a_trial_leaves_no_trace_in_a_fit_that_goes_on(clf, images, monkeypatch):
    X, y = images
    clf.set_params(fine_tune_stage=HARMLESS)
    tried = clone(clf).fit(X, y)
    monkeypatch.setattr("tlclassify.estimators.classifier.drop_what_fails", lambda fit: None)
    untried = clone(clf).fit(X, y)
    assert [row["stage"] for row in tried.history_] == ["head", "fine_tune", "fine_tune"]
    np.testing.assert_allclose(tried.predict_proba(X), untried.predict_proba(X), atol=1e-6)


def test_a_stage_that_is_only_less_sure_is_kept(clf, images):
    X, y = images
    smoothing = clone(HARMLESS).set_params(epochs=20, learning_rate=1e-3, label_smoothing=0.5)
    clf.set_params(fine_tune_stage=smoothing).fit(X, y)
    assert clf.history_[-1]["stage"] == "fine_tune"


def test_a_trial_is_made_after_a_warm_start_too(clf, images):
    X, y = images
    clf.set_params(head="mlp", head_stage=Stage(2)).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(warm_start=True, head_stage=Stage(1, learning_rate=1e-9))
    clf.set_params(fine_tune_stage=RUINOUS)
    with pytest.warns(UserWarning, match="fine_tune_stage is left out"):
        clf.fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X), before, atol=1e-3)


def test_what_one_image_a_class_cannot_try_is_done(clf, images):
    X, y = images
    clf.set_params(fine_tune_stage=HARMLESS).fit(X[:3], y[:3])
    assert clf.history_[-1]["stage"] == "fine_tune"


def test_with_validation_data_the_network_before_is_put_back(clf, images):
    X, y = images
    clf.set_params(fine_tune_stage=clone(RUINOUS).set_params(learning_rate=0.5))
    with pytest.warns(UserWarning, match=r"stage 'fine_tune' is undone.*no lower than"):
        clf.fit(X, y, validation_data=(X ^ 1, y))
    clf.set_params(fine_tune_stage=None)
    np.testing.assert_allclose(
        clf.predict_proba(X), clone(clf).fit(X, y).predict_proba(X), atol=1e-5
    )
