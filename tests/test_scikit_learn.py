"""The classifier inside scikit-learn's tools, with images of four dimensions and with files."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict, cross_val_score, learning_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.training.stages import Stage


@pytest.fixture
def clf(make_clf, tmp_path):
    return make_clf(
        head_stage=Stage(6, learning_rate=0.05, batch_size=24),
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
