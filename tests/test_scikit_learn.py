"""The classifier inside scikit-learn's tools, with images of four dimensions and with files."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tlclassify.estimators.extractor import FeatureExtractor


@pytest.fixture
def clf(make_clf, tmp_path):
    return make_clf(
        head_stage="exact",
        validation_fraction=0,
        cache_dir=tmp_path,
    )


@pytest.fixture(params=["arrays", "files"])
def data(request):
    """Images and labels of two kinds."""
    return request.getfixturevalue("images" if request.param == "arrays" else "files")


def assert_probabilities(probabilities, y):
    """Rows sum to 1, and labels were learnt rather than lost on the way."""
    assert probabilities.shape == (len(y), 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    labels = np.array(["cat", "dog", "eel"])[probabilities.argmax(axis=1)]
    assert (labels == y).mean() > 0.6


def test_cross_val_predict(clf, data, runs):
    X, y = data
    assert_probabilities(cross_val_predict(clf, X, y, cv=2, method="predict_proba"), y)
    assert sum(runs) == 24


def test_a_pipeline_in_cross_val_score(clf, images):
    mirror = FunctionTransformer(lambda X: X[:, :, ::-1])
    scores = cross_val_score(make_pipeline(mirror, clf), *images, cv=2, error_score="raise")
    assert scores.mean() > 0.6


def test_learning_curve(clf, images):
    X, y = images
    sizes, _, scores = learning_curve(clf, X, y, cv=2, train_sizes=[6, 12], error_score="raise")
    assert sizes.tolist() == [6, 12]
    assert scores.shape == (2, 2)
    assert scores[1].mean() > 0.6


def test_calibration_of_an_unfitted_classifier(clf, files):
    X, y = files
    calibrated = CalibratedClassifierCV(clf, method="sigmoid", cv=2).fit(X, y)
    assert_probabilities(calibrated.predict_proba(X), y)
    assert calibrated.classes_.tolist() == ["cat", "dog", "eel"]


def test_calibration_of_a_fitted_classifier(clf, data):
    X, y = data
    frozen = FrozenEstimator(clf.fit(X, y))
    calibrated = CalibratedClassifierCV(frozen, method="isotonic").fit(X, y)
    assert_probabilities(calibrated.predict_proba(X), y)
    assert calibrated.calibrated_classifiers_[0].estimator.estimator is clf


def test_temperature_scaling_by_scikit_learn(clf, images):
    pytest.importorskip("sklearn", "1.8")
    X, y = images
    calibrated = CalibratedClassifierCV(clf, method="temperature", cv=2, ensemble=False)
    assert_probabilities(calibrated.fit(X, y).predict_proba(X), y)


def test_voting(clf, make_clf, images, tmp_path):
    X, y = images
    other = make_clf(head_stage=clf.head_stage, cache_dir=tmp_path).set_params(random_state=1)
    voting = VotingClassifier([("one", clf), ("other", other)], voting="soft").fit(X, y)
    assert_probabilities(voting.predict_proba(X), y)
    mean = np.mean([member.predict_proba(X) for member in voting.estimators_], axis=0)
    np.testing.assert_allclose(voting.predict_proba(X), mean, atol=1e-6)
    assert set(voting.predict(X)) <= set(y)


def test_stacking(clf, files):
    X, y = files
    fitted = FrozenEstimator(clf.fit(X, y))
    stacking = StackingClassifier([("new", clf), ("fitted", fitted)], cv=2).fit(X, y)
    assert stacking.final_estimator_.n_features_in_ == 2 * 3
    assert_probabilities(stacking.predict_proba(X), y)


def test_permutation_importance_of_features(tiny, images):
    """Of embeddings: scikit-learn permutes the columns of tables, not of images."""
    X, y = images
    embeddings = FeatureExtractor(tiny, weights=None, random_state=0, verbose=0).fit_transform(X)
    logistic = LogisticRegression(C=100).fit(embeddings, y)
    importances = permutation_importance(logistic, embeddings, y, random_state=0).importances_mean
    assert importances.shape == (12,)
    assert importances.max() > 0.1


def test_a_tuned_threshold(clf, data):
    """Of two classes, for whom one mistake is worse than the other."""
    X, y = data
    is_cat = y == "cat"
    tuned = TunedThresholdClassifierCV(clf, scoring="recall", cv=2).fit(X, is_cat)
    assert tuned.best_score_ > 0.6
    assert 0 <= tuned.best_threshold_ <= 1
    found = tuned.estimator_.predict_proba(X)[:, 1] >= tuned.best_threshold_
    np.testing.assert_array_equal(tuned.predict(X), found)


def test_a_threshold_of_a_fitted_classifier(clf, images):
    X, y = images
    fitted = FrozenEstimator(clf.fit(X, y == "cat"))
    tuned = TunedThresholdClassifierCV(fitted, cv="prefit", refit=False).fit(X, y == "cat")
    assert (tuned.predict(X) == (y == "cat")).mean() > 0.6


def test_voting_over_files(clf, files):
    X, y = files
    voting = VotingClassifier([("one", clf), ("fitted", clf)], voting="soft", weights=[1, 2])
    assert_probabilities(voting.fit(X, y).predict_proba(X), y)


def test_stacking_over_arrays(clf, images):
    X, y = images
    stacking = StackingClassifier([("one", clf)], cv=2).fit(X, y)
    assert_probabilities(stacking.predict_proba(X), y)


def test_what_takes_tables_only_refuses_images(clf, data):
    """Permuting pixels, and passing images on beside probabilities, have no meaning."""
    X, y = data
    with pytest.raises(ValueError, match=r"Expected 2D array, got 1D|with dim 4"):
        permutation_importance(clf.fit(X, y), X, y)
    stacking = StackingClassifier([("one", clf)], cv=2, passthrough=True)
    with pytest.raises(ValueError, match="must match exactly|incompatible|inhomogeneous|dim"):
        stacking.fit(X, y)
