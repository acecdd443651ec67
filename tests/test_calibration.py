import copy
import gc
import weakref

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from exports import fit_small
from tlclassify.analysis.calibration import calibrate, find_temperature, with_temperature
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.networks.heads import Head
from tlclassify.networks.rows import SYMMETRIC, Backbone
from tlclassify.networks.steps import scale_probabilities
from tlclassify.training.stages import Stage

QUICK = Stage(8, learning_rate=0.1, batch_size=32)


def draw_images(n, seed):
    """Images whose colours tell three labels apart, though not always."""
    rng = np.random.default_rng(seed)
    y = np.array(["cat", "dog", "eel"])[rng.integers(3, size=n)]
    X = rng.integers(0, 120, (n, 8, 8, 3))
    for channel, label in ((0, "dog"), (2, "eel")):
        X[..., channel] += (40 * (y == label) + rng.normal(60, 25, n)).astype(int)[:, None, None]
    return X.clip(0, 255).astype(np.uint8), y


def draw_logits(n, n_classes, scale=2.0):
    """Logits, and targets that are as probable as these say."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=scale, size=(n, n_classes))
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def multiply_logits(clf, factor):
    layer = clf.head_.get_layer("probabilities")
    layer.set_weights([factor * values for values in layer.get_weights()])
    return clf


def calibration_error(probabilities, y, classes):
    """Sum over 15 equal bins of the top probability: share * |accuracy - mean probability|."""
    top, right = probabilities.max(axis=1), classes[probabilities.argmax(axis=1)] == y
    bins = np.minimum((15 * top).astype(int), 14)
    return sum(
        (bins == b).mean() * abs(right[bins == b].mean() - top[bins == b].mean())
        for b in np.unique(bins)
    )


def scaled(probabilities, temperature):
    return softmax(np.log(probabilities.astype(float)) / temperature, axis=1)


def build_small(x):
    return keras.layers.Conv2D(12, 3, strides=2, activation="relu", name="only")(x)


@pytest.fixture(scope="module")
def trained():
    """A classifier that makes mistakes, trained once for all tests that train no further."""
    row = Backbone("small", build_small, SYMMETRIC, native_size=8, small_size=8, min_size=4)
    clf = TransferClassifier(
        row, weights=None, head=Head((), dropout=0), head_stage=QUICK, random_state=0, verbose=0
    )
    return clf.fit(*draw_images(200, seed=0))


def with_own_head(clf):
    own = copy.copy(clf)
    own.head_ = keras.models.clone_model(clf.head_)
    own.head_.set_weights(clf.head_.get_weights())
    return with_temperature(own, 1.0)


@pytest.fixture
def fitted(trained):
    """The same with a head that a test may change."""
    return with_own_head(trained)


@pytest.fixture
def sure(fitted):
    """Much surer of itself than it has reason to be."""
    return multiply_logits(fitted, 5)


# Numbers


@pytest.mark.parametrize("n_classes", [2, 10, 1000])
@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_the_temperature_undoes_a_factor_of_the_logits(factor, n_classes):
    logits, targets = draw_logits(1000, n_classes)
    given = softmax(factor * logits, axis=1).astype(np.float32)
    found = find_temperature(given, targets)
    assert found == pytest.approx(factor, rel=0.1)
    losses = [
        -log_softmax(factor * logits / T, axis=1)[np.arange(1000), targets].mean()
        for T in (found / 1.001, found, found * 1.001)
    ]
    assert losses[1] < min(losses[0], losses[2])


class Given(ClassifierMixin, BaseEstimator):
    """A classifier that is handed its probabilities."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return X.argmax(axis=1)

    def predict_proba(self, X):
        return X


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_scikit_learn_finds_the_same_temperature(factor):
    pytest.importorskip("sklearn", "1.8")
    # Not small enough for the 1e-12 that scikit-learn adds to each probability to be felt.
    logits, targets = draw_logits(500, 4, scale=0.5)
    given = softmax(factor * logits, axis=1)
    theirs = CalibratedClassifierCV(
        FrozenEstimator(Given().fit(given, targets)), method="temperature"
    )
    theirs.fit(given, targets)
    beta = theirs.calibrated_classifiers_[0].calibrators[0].beta_
    found = find_temperature(given, targets)
    assert found == pytest.approx(1 / beta, rel=1e-5)
    np.testing.assert_allclose(scaled(given, found), theirs.predict_proba(given), atol=1e-6)


def test_saturated_probabilities():
    """Exactly 0 and 1, nine rows of ten right: as good as a classifier sure to that degree."""
    targets = np.arange(30) % 3
    given = np.eye(3, dtype=np.float32)[np.where(np.arange(30) < 3, targets - 1, targets)]
    found = find_temperature(given, targets)
    softened = softmax(np.log(np.maximum(given.astype(float), 2.0**-126)) / found, axis=1)
    assert 1 < found < 100
    np.testing.assert_allclose(softened.max(axis=1), 0.9, atol=1e-6)


def test_one_image():
    given = np.float32([[0.7, 0.2, 0.1]])
    with pytest.warns(UserWarning, match="every image of X correctly"):
        assert find_temperature(given, np.array([0])) == 0.01
    with pytest.warns(UserWarning, match="held at 100, because the probabilities say nothing"):
        assert find_temperature(given, np.array([2])) == 100
    second_best = np.float32([[0.5, 0.4, 0.1]])
    found = find_temperature(second_best, np.array([1]))
    mean = (scaled(second_best, found) * np.log(second_best)).sum()
    assert mean == pytest.approx(np.log(0.4), abs=1e-6)


def test_ties():
    with pytest.warns(UserWarning, match="held at 1, because every class of every image"):
        assert find_temperature(np.full((5, 4), 0.25), np.arange(5) % 4) == 1
    halves = np.float32([[0.5, 0.5, 0]] * 9 + [[0, 0.5, 0.5]])
    found = find_temperature(halves, np.zeros(10, dtype=int))
    np.testing.assert_allclose(scaled(halves[:1] + 1e-38, found)[0, :2], 0.45, atol=1e-3)


@pytest.mark.parametrize("given", [[0.5, 0.3, 0.2], [1, 0, 0], [0.5, 0.5, 0], [0.34, 0.33, 0.33]])
def test_no_errors_no_lowest_loss(given):
    with pytest.warns(UserWarning, match="held at 0.01, because clf classif"):
        assert find_temperature(np.float32([given] * 20), np.zeros(20, dtype=int)) == 0.01


# The graph


def hard_rows(n_classes):
    """Rows with ties or neighbours in float32 at the top, zeros, ones, and all but even ones."""
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(n_classes, 0.3), 300).astype(np.float32)
    first, second = np.argsort(rng.random(rows.shape), axis=1)[:, :2].T
    top = rows.max(axis=1)
    next_lower = np.nextafter(top, np.float32(0))
    rows[np.arange(300), first] = top
    rows[np.arange(300), second] = np.where(np.arange(300) % 3 == 0, top, next_lower)
    even = np.full((2, n_classes), 1 / n_classes, dtype=np.float32)
    even[1, -1] = np.nextafter(even[0, 0], np.float32(1))
    return np.vstack([rows, np.eye(n_classes, dtype=np.float32), even])


@pytest.mark.parametrize("n_classes", [2, 3, 1000])
@pytest.mark.parametrize("temperature", [0.01, 0.7, 1.3, 7.0, 100.0])
def test_no_temperature_changes_a_label(temperature, n_classes):
    rows = hard_rows(n_classes)
    inputs = keras.Input((n_classes,))
    model = keras.Model(inputs, scale_probabilities(inputs, temperature))
    after = np.asarray(model.predict_on_batch(rows))
    np.testing.assert_array_equal(after.argmax(axis=1), rows.argmax(axis=1))
    is_top, was_top = (p == p.max(axis=1, keepdims=True) for p in (after, rows))
    np.testing.assert_array_equal(is_top, was_top)
    np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-5)
    expected = scaled(np.maximum(rows, np.finfo(np.float32).tiny), temperature)
    np.testing.assert_allclose(after, expected, atol=2e-6)


def test_what_is_no_number_stays_none():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, scale_probabilities(inputs, 2.0))
    assert np.isnan(model.predict_on_batch(np.float32([[np.nan, np.nan]]))).all()


def test_half_precision_is_left_before_the_logarithm():
    rows = keras.ops.cast(hard_rows(3), "bfloat16")
    inputs = keras.Input((3,), dtype="bfloat16")
    after = keras.Model(inputs, scale_probabilities(inputs, 1.3)).predict_on_batch(rows)
    clipped = np.maximum(keras.ops.convert_to_numpy(rows).astype(float), 1e-38)
    np.testing.assert_allclose(after, scaled(clipped, 1.3), atol=2e-6)


# The classifier


def test_the_error_of_a_classifier_too_sure_of_itself_is_more_than_halved(sure):
    calibrated = calibrate(sure, *draw_images(400, seed=1))
    X, y = draw_images(1000, seed=2)
    before, after = (
        calibration_error(clf.predict_proba(X), y, clf.classes_) for clf in (sure, calibrated)
    )
    assert before > 0.1
    assert after < before / 2
    np.testing.assert_array_equal(calibrated.predict(X), sure.predict(X))


@pytest.mark.parametrize("factor", [0.2, 2])
def test_scikit_learn_calibrates_the_classifier_likewise(fitted, factor):
    pytest.importorskip("sklearn", "1.8")
    multiply_logits(fitted, factor)
    X, y = draw_images(200, seed=1)
    ours = calibrate(fitted, X, y).predict_proba(X)
    theirs = CalibratedClassifierCV(FrozenEstimator(fitted), method="temperature").fit(X, y)
    np.testing.assert_allclose(ours, theirs.predict_proba(X), atol=2e-3)


def test_the_given_classifier_stays_as_it_is(fitted):
    X, y = draw_images(100, seed=1)
    model, params, before = fitted.model_, str(fitted.get_params()), fitted.predict_proba(X)
    calibrated = calibrate(fitted, X, y)
    assert (fitted.temperature_, type(fitted.temperature_)) == (1.0, float)
    assert (fitted.model_, str(fitted.get_params())) == (model, params)
    np.testing.assert_array_equal(fitted.predict_proba(X), before)
    assert (calibrated.temperature_ != 1, type(calibrated.temperature_)) == (True, float)
    assert str(calibrated.get_params()) == params
    assert calibrated.model_.get_layer("only") is model.get_layer("only")
    calibrated.set_params(head="mlp", head_stage__epochs=1)
    assert str(fitted.get_params()) == params
    assert not hasattr(clone(calibrated), "temperature_")


def test_predictions_with_and_without_a_cache_and_the_graph_agree(sure, tmp_path):
    X, y = draw_images(100, seed=1)
    calibrated = calibrate(sure, X, y)
    probabilities = calibrated.predict_proba(X)
    before = sure.predict_proba(X)
    expected = scaled(before, calibrated.temperature_)
    assert np.abs(expected - before).max() > 0.1
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(calibrated.model_.predict_on_batch(X), probabilities, atol=1e-6)
    calibrated.set_params(cache_dir=tmp_path)
    np.testing.assert_allclose(calibrated.predict_proba(X), probabilities, atol=1e-5)


def test_a_second_calibration_replaces_the_first(fitted):
    first, second = draw_images(100, seed=1), draw_images(100, seed=2)
    twice, once = calibrate(calibrate(fitted, *first), *second), calibrate(fitted, *second)
    assert twice.temperature_ == pytest.approx(once.temperature_, rel=1e-4)
    assert twice.temperature_ != pytest.approx(calibrate(fitted, *first).temperature_, rel=1e-3)
    names = [layer.name for layer in twice.model_.layers]
    assert sum(name.startswith("temperature") for name in names) == 1
    np.testing.assert_array_equal(
        with_temperature(twice, 1.0).predict_proba(first[0]), fitted.predict_proba(first[0])
    )


def test_training_goes_on_from_the_raw_head(fitted):
    X, y = draw_images(100, seed=1)
    uncalibrated, calibrated = with_own_head(fitted), calibrate(fitted, X, y)
    for clf in (uncalibrated, calibrated):
        clf.set_params(warm_start=True, head_stage=Stage(1)).fit(X, y)
    assert calibrated.head_ is fitted.head_
    assert calibrated.temperature_ == 1
    assert "temperature" not in [layer.name for layer in calibrated.model_.layers]
    np.testing.assert_array_equal(calibrated.predict_proba(X), uncalibrated.predict_proba(X))


def test_a_saved_model_keeps_the_temperature(sure, tmp_path):
    X, y = draw_images(100, seed=1)
    calibrated = calibrate(sure, X, y)
    calibrated.model_.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict_on_batch(X), calibrated.predict_proba(X), rtol=1e-5, atol=1e-7
    )
    assert np.abs(loaded.predict_on_batch(X) - sure.predict_proba(X)).max() > 0.1


def test_mixed_precision(make_clf, images):
    def head(feature_map, n_classes):
        x = keras.layers.GlobalMaxPooling2D()(feature_map)
        return keras.layers.Dense(n_classes, activation="softmax")(x)

    X, y = images
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        clf = make_clf(head_stage=Stage(1)).set_params(head=head).fit(X, y)
        columns = clf.predict_proba(X).argmax(axis=1)
        columns[:4] = (columns[:4] + 1) % 3
        calibrated = calibrate(clf, X, clf.classes_[columns])
    finally:
        keras.config.set_dtype_policy(before)
    assert clf.head_.output.dtype == "bfloat16"
    probabilities = calibrated.predict_proba(X)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    raw = np.asarray(clf.model_.predict_on_batch(X))
    np.testing.assert_allclose(probabilities, scaled(raw, calibrated.temperature_), atol=1e-2)


def test_files_and_a_perfect_classifier(make_clf, files):
    paths, y = files
    clf = make_clf(head_stage=QUICK, validation_fraction=0).fit(paths, y)
    with pytest.warns(UserWarning, match="every image of X correctly") as caught:
        assert calibrate(clf, paths, y).temperature_ == 0.01
    assert caught.pop(UserWarning).filename == __file__


# Errors


def test_what_is_not_fitted_or_no_transfer_classifier(trained, images):
    X, y = images
    with pytest.raises(NotFittedError, match="not fitted yet"):
        calibrate(clone(trained), X, y)
    logistic = LogisticRegression().fit(X.reshape(24, -1), y)
    message = r'received LogisticRegression.*CalibratedClassifierCV\(clf, method="temperature"\)'
    with pytest.raises(TypeError, match=message):
        calibrate(logistic, X, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda X, y: (X, np.where(y == "cat", "fox", y)),
            "labels seen in fit: 'cat', 'dog', 'eel'; received 'fox' in 8 of 24",
        ),
        (
            lambda X, y: (X, np.arange(24)),
            "received 0, 1, 2.*9 and 14 more in 24 of 24 images. Drop those",
        ),
        (lambda X, y: (X, y[:5]), "5 labels for 24 images"),
        (lambda X, y: (X[:, :4], y), "8x8 pixels as in fit; received 4x8"),
        (lambda X, y: (X[:0], y[:0]), "at least one image"),
    ],
)
def test_bad_images_and_labels(trained, images, change, message):
    with pytest.raises(ValueError, match=message):
        calibrate(trained, *change(*images))


def test_a_copy_that_is_gone_leaves_nothing_behind():
    X, y = draw_images(24, seed=0)
    clf = fit_small()
    calibrated = calibrate(clf, X, y)
    assert calibrated.temperature_ != 1
    calibrated.predict(X)
    network = weakref.ref(calibrated.model_)
    del calibrated
    gc.collect()
    assert network() is None
