"""A linear head is solved exactly: on all images, without epochs, the same way every time."""

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from tlclassify.analysis.learning_rates import find_learning_rate
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.persistence.saving import load, save
from tlclassify.training.stages import Stage


@pytest.fixture
def clf(tiny):
    """A classifier with nothing set but its network."""
    return TransferClassifier(tiny, weights=None, random_state=0, verbose=0)


def inputs_of_the_last_layer(clf, X):
    last = clf.head_.get_layer("probabilities")
    part = keras.Model(clf.head_.input, last.input)
    return np.asarray(part.predict_on_batch(clf.backbone_.predict_on_batch(X)))


def test_the_default_for_few_images_is_solved(clf, images):
    X, y = images
    clf.fit(X, y)
    assert clf.score(X, y) == 1
    assert clf.blueprint_.head.hidden_units == ()
    assert clf.head.hidden_units == "auto"
    (row,) = clf.history_
    assert (row["stage"], row["accuracy"]) == ("head", 1)
    assert row["C"] == 10 / 12
    assert "learning_rate" not in row
    assert clf.blueprint_.class_counts == [[8, 8, 8]]


def whiten(features, y):
    """Make images of one class differ less in the directions in which they differ most."""
    within = features - np.array([features[y == label].mean(axis=0) for label in y])
    scatter = within.T @ within
    scatter /= np.trace(scatter) / len(scatter)
    metric = 0.1 * scatter + 0.9 * np.eye(len(scatter))
    return features @ np.linalg.inv(np.linalg.cholesky(metric)).T


@pytest.mark.parametrize("names", [["cat", "dog", "eel"], ["cat", "dog", "dog"]])
@pytest.mark.parametrize("C", [None, 0.03, 3.0])
@pytest.mark.parametrize("n_images", [6, 24])  # with 12 features
def test_it_is_a_logistic_regression_on_the_whitened_features(clf, images, names, C, n_images):
    X = images[0][:n_images]
    y = np.array(names)[np.arange(n_images) % 3]
    clf.set_params(head__C=C).fit(X, y)
    features = whiten(inputs_of_the_last_layer(clf, X).astype(float), y)
    n_classes = len(set(names))
    # With two classes, scikit-learn's penalty is on one vector, and ours on two, each half of it.
    strength = (10 / 12 if C is None else C) * (2 if n_classes == 2 else 1)
    other = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(features, y)
    np.testing.assert_allclose(clf.predict_proba(X), other.predict_proba(features), atol=2e-3)


def test_two_fits_are_equal_to_the_bit(clf, images):
    X, y = images
    first, second = clone(clf).fit(X, y), clone(clf).fit(X, y)
    assert (first.predict_proba(X) == second.predict_proba(X)).all()


def test_a_weight_of_two_is_an_image_that_is_there_twice(clf, images):
    X, y = images
    weights = np.arange(24) % 4
    weighted = clone(clf).fit(X, y, sample_weight=weights)
    rows = np.repeat(np.arange(24), weights)
    repeated = clone(clf).fit(X[rows], y[rows])
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-3)


def test_class_weights_are_taken(clf, images):
    X, y = images
    plain = clone(clf).fit(X, y).predict_proba(X)[:, 0].mean()
    more = clone(clf).set_params(class_weight={"cat": 20}).fit(X, y).predict_proba(X)[:, 0].mean()
    assert more > plain


def test_all_views_are_learnt(clf, images, runs):
    X, y = images
    clf.set_params(augmentation="flip").fit(X, y)
    assert sum(runs) == 48


def test_validation_data_report_and_choose_nothing(clf, images):
    X, y = images
    alone = clone(clf).fit(X, y)
    measured = clone(clf).fit(X, y, validation_data=(X[:6] ^ 1, y[:6]))
    assert (alone.predict_proba(X) == measured.predict_proba(X)).all()
    assert measured.history_[0]["val_accuracy"] == 1
    assert measured.history_[0]["val_loss"] > 0


def test_a_share_that_is_asked_for_is_held_out(clf, images):
    clf.set_params(validation_fraction=0.25).fit(*images)
    assert clf.blueprint_.class_counts == [[6, 6, 6], [2, 2, 2]]
    assert "val_loss" in clf.history_[0]


@pytest.mark.parametrize("scale", [1, 1 / 255])
def test_floats_give_the_labels_of_integers(clf, images, scale):
    X, y = images
    whole = clone(clf).fit(X, y).predict(X)
    for dtype in ("float32", "float64"):
        floats = X.astype(dtype) * np.asarray(scale, dtype)
        np.testing.assert_array_equal(clone(clf).fit(floats, y).predict(floats), whole)


def test_one_image_a_class_is_enough(clf, images):
    X, y = images
    clf.fit(X[:3], y[:3])
    np.testing.assert_array_equal(clf.predict(X[:3]), y[:3])


def test_a_class_with_many_images_and_one_with_two(clf, images):
    X, y = images
    rows = np.r_[np.repeat(np.flatnonzero(y == "cat"), 30), np.flatnonzero(y == "dog")[:2]]
    clf.fit(X[rows], y[rows])
    assert (clf.predict(X[y == "dog"]) == "dog").mean() > 0.8


def test_images_that_are_all_the_same_leave_the_classes_shares(clf):
    X = np.full((9, 8, 8, 3), 90, dtype=np.uint8)
    clf.fit(X, [0, 0, 0, 0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(clf.predict_proba(X[:1])[0], [2 / 3, 1 / 3], atol=1e-3)


def test_a_weaker_penalty_fits_more_closely(clf, images):
    X, y = images
    losses = [
        clone(clf).set_params(head__C=C).fit(X, y).history_[0]["loss"] for C in (0.01, 1, 100)
    ]
    assert losses == sorted(losses, reverse=True)
    assert all(np.isfinite(clf.fit(X, y).head_.get_weights()[-2]).ravel())


def test_a_grid_over_penalties_reads_stored_activations(clf, images, tmp_path, runs):
    clf.set_params(cache_dir=tmp_path)
    GridSearchCV(clf, {"head__C": [0.01, 0.1, 1]}, cv=2, error_score="raise").fit(*images)
    assert sum(runs) == 24


def test_it_is_saved_and_loaded(clf, images, tmp_path, registered):
    X, y = images
    save(clf.set_params(backbone=registered.name).fit(X, y), tmp_path / "c.tlc")
    loaded = load(tmp_path / "c.tlc")
    assert (loaded.predict_proba(X) == clf.predict_proba(X)).all()
    assert loaded.history_ == clf.history_
    assert loaded.get_params()["head__hidden_units"] == "auto"


def test_fine_tuning_begins_with_it(clf, images):
    stage = Stage(1, unfreeze=1, learning_rate=1e-6)
    clf.set_params(fine_tune_stage=stage).fit(*images)
    assert [row["stage"] for row in clf.history_] == ["head", "fine_tune"]
    assert clf.history_[1]["loss"] == pytest.approx(clf.history_[0]["loss"], rel=0.05)


def test_a_warm_start_solves_on_what_it_gets(clf, images):
    X, y = images
    cold = clone(clf).fit(X, y)
    warm = clone(clf).set_params(warm_start=True).fit(X[:12], y[:12]).fit(X, y)
    np.testing.assert_allclose(warm.predict_proba(X), cold.predict_proba(X), atol=1e-5)
    assert len(warm.history_) == 2
    with pytest.raises(ValueError, match=r"images of every class.*received none of .*eel"):
        warm.fit(X[y != "eel"], y[y != "eel"])


def test_epochs_can_still_be_asked_for(clf, images):
    clf.set_params(head_stage=Stage(2)).fit(*images)
    assert [row["epoch"] for row in clf.history_] == [1, 2]
    stopping = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=100)
    clf.set_params(head="mlp", head_stage="auto", callbacks=[stopping]).fit(*images)
    assert [row["epoch"] for row in clf.history_] == [1, 2]


def test_many_images_get_a_hidden_layer(clf):
    X = np.zeros((3_001, 8, 8, 3), dtype=np.uint8)
    y = np.arange(3_001) % 2
    clf.set_params(head_stage=Stage(1, batch_size=512)).fit(X, y)
    assert clf.blueprint_.head.hidden_units == (512,)
    assert clf.fit(X[1:], y[1:]).blueprint_.head.hidden_units == ()
    # Unless it is to be solved.
    exact = clone(clf).set_params(head_stage="exact").fit(X, y)
    assert exact.blueprint_.head.hidden_units == ()
    assert "C" in exact.history_[0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"head": "mlp", "head_stage": "exact"}, "head_stage='exact' needs a linear head"),
        ({"head_stage": "exactly"}, "head_stage must be one of.*mean 'exact'"),
        ({"head__C": -1.0}, "C must be"),
    ],
)
def test_what_cannot_be_solved_is_an_error(clf, images, params, message):
    with pytest.raises(ValueError, match=message):
        clf.set_params(**params).fit(*images)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"head__dropout": 0.1}, "head__dropout=0.1 has no effect on a head that is solved"),
        ({"head__C": 2.0, "head_stage": Stage(1)}, "head__C=2.0 has no effect on a head that is"),
        ({"callbacks": [keras.callbacks.Callback()]}, "callbacks are told nothing"),
    ],
)
def test_a_setting_without_effect_is_said(clf, images, params, message):
    with pytest.warns(UserWarning, match=message):
        clf.set_params(**params).fit(*images)


def test_a_solved_head_has_no_learning_rate(clf, images):
    with pytest.raises(ValueError, match="no learning rate"):
        find_learning_rate(clf, *images)
    clf.set_params(fine_tune_stage=Stage(1, unfreeze=1))
    assert find_learning_rate(clf, *images, n_steps=12).suggestion > 0


@pytest.mark.parametrize("stage", ["exact", Stage(2)], ids=["exact", "epochs"])
def test_features_that_are_not_finite_are_an_error(clf, images, stage):
    clf.set_params(backbone=lambda x: keras.ops.log(keras.layers.Conv2D(4, 3)(x) * 0 - 1))
    clf.set_params(head_stage=stage)
    with pytest.raises(ValueError, match="backbone must give finite features; .* for 24 of 24"):
        clf.fit(*images)


def test_features_are_measured_on_images_that_weigh_something(clf, images, monkeypatch):
    X, y = images
    monkeypatch.setattr("tlclassify.training.fit._ROWS_MEASURED", 12)
    weights = np.arange(24) % 2
    p = clone(clf).fit(X, y, sample_weight=weights).predict_proba(X)
    np.testing.assert_allclose(p, clf.fit(X[1::2], y[1::2]).predict_proba(X), atol=1e-3)
