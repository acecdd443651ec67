import copy
import gc
import random
import weakref
from concurrent.futures import ThreadPoolExecutor

import joblib
import keras
import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from exports import fit_small
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.networks import backbones
from tlclassify.networks.heads import Head
from tlclassify.training.stages import Stage

QUICK = Stage(epochs=6, learning_rate=0.05, batch_size=8)


@pytest.fixture
def clf(make_clf):
    """Trained for as long as it takes where it need not be good."""
    return make_clf(head_stage=Stage(2, learning_rate=0.05, batch_size=8), validation_fraction=0.2)


@pytest.fixture(scope="module")
def trained():
    return fit_small(head="linear", head_stage=QUICK, validation_fraction=0.2)


@pytest.fixture
def fitted(trained):
    """A copy of what was trained once, for tests that train it no further."""
    return copy.copy(trained)


def test_it_learns(fitted, images):
    X, y = images
    assert fitted.score(X, y) >= 0.9
    assert list(fitted.classes_) == ["cat", "dog", "eel"]
    assert fitted.image_shape_ == (8, 8, 3)
    assert fitted.n_features_ == 12
    assert fitted.pixel_range_ == 255
    assert fitted.history_[0]["stage"] == "head"
    assert is_classifier(fitted)


def test_probabilities_sum_to_one_and_predict_is_their_maximum(fitted, images):
    X, _ = images
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (24, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[probabilities.argmax(1)])


def test_the_model_is_whole(fitted, images):
    X, _ = images
    assert fitted.model_.input.dtype == "uint8"
    np.testing.assert_allclose(
        fitted.model_.predict_on_batch(X), fitted.predict_proba(X), atol=1e-6
    )


def test_the_backbone_is_not_trained(fitted, images):
    other = clone(fitted).set_params(head_stage__epochs=1).fit(*images)
    for name in ("one", "one_bn", "two"):
        pairs = zip(
            fitted.model_.get_layer(name).get_weights(),
            other.model_.get_layer(name).get_weights(),
            strict=True,
        )
        assert all(np.array_equal(a, b) for a, b in pairs)
        assert not fitted.model_.get_layer(name).trainable


def test_same_seed_same_predictions(clf, images):
    X, y = images
    first, again = (clone(clf).fit(X, y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(again, first)
    other = clone(clf).set_params(random_state=1).fit(X, y).predict_proba(X)
    assert not np.array_equal(other, again)


def test_dropout_is_seeded_too(clf, images):
    X, y = images
    clf.set_params(head=Head((8,), dropout=0.5))
    first, second = (clone(clf).fit(X, y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_global_generators_are_left_alone(clf, images):
    before = (random.getstate(), np.random.get_state()[1].copy())  # noqa: NPY002
    clf.fit(*images)
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_fit_changes_neither_parameters_nor_input(clf, images):
    X, y = images
    before_X, before_y, before = X.copy(), y.copy(), str(clf.get_params())
    clf.fit(X, y)
    np.testing.assert_array_equal(X, before_X)
    np.testing.assert_array_equal(y, before_y)
    assert str(clf.get_params()) == before


def test_clone_keeps_every_parameter(clf):
    params = clf.get_params(deep=False) | {
        "class_weight": {"cat": 2.0},
        "cache_dir": "somewhere",
        "head": Head((3,)),
        "image_size": 16,
    }
    copy = clone(TransferClassifier(**params))
    assert str(copy.get_params()) == str(TransferClassifier(**params).get_params())


def test_shared_defaults_are_never_written_to():
    first, second = TransferClassifier(), TransferClassifier()
    first.set_params(head__dropout=0.1, head_stage__epochs=3)
    assert (first.head.dropout, first.head_stage.epochs) == (0.1, 3)
    assert (second.head.dropout, second.head_stage) == (0.5, "auto")
    assert TransferClassifier().head.dropout == 0.5


def test_a_preset_can_be_reached_into():
    clf = TransferClassifier(head="mlp").set_params(head__dropout=0.1)
    assert (clf.head.hidden_units, clf.head.dropout) == ((512,), 0.1)
    clf.set_params(head="article", head__activation="gelu")
    assert (clf.head.pooling, clf.head.activation) == ("flatten", "gelu")


@pytest.mark.parametrize("batch_size", [1, 7, 24])
def test_batch_size_and_row_order_change_nothing(fitted, images, batch_size):
    X, _ = images
    expected = fitted.predict_proba(X)
    rows = np.random.default_rng(0).permutation(24)
    fitted.set_params(batch_size=batch_size)
    np.testing.assert_allclose(fitted.predict_proba(X[rows]), expected[rows], atol=1e-5)


@pytest.mark.parametrize("cached", [False, True])
def test_a_batch_size_that_is_none_is_seen_in_predictions_too(fitted, images, cached, tmp_path):
    """Where it was set after the fit, some images would go without an answer."""
    fitted.set_params(batch_size=-1, cache_dir=tmp_path if cached else None)
    with pytest.raises(ValueError, match=r"batch_size must be an integer in \[1, inf\]"):
        fitted.predict_proba(images[0])


def test_a_cache_changes_no_result(clf, images, tmp_path):
    X, y = images
    fitted = clone(clf).fit(X, y)
    cached = clone(clf).set_params(cache_dir=tmp_path).fit(X, y)
    np.testing.assert_allclose(cached.predict_proba(X), fitted.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(
        cached.model_.predict_on_batch(X), cached.predict_proba(X), atol=1e-5
    )


def test_a_grid_runs_every_image_once(clf, images, runs, tmp_path):
    X, y = images
    clf.set_params(cache_dir=tmp_path, head_stage__epochs=2)
    grid = {"head__dropout": [0.0, 0.2], "head__pooling": ["avg"]}
    search = GridSearchCV(clf, grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_estimator_.predict(X[:2]).dtype == y.dtype
    assert sum(runs) == 24


def test_integer_labels_come_back_as_they_came(clf, images):
    X, y = images
    labels = np.array([7, -2, 100])[np.unique(y, return_inverse=True)[1]]
    predicted = clf.fit(X, labels).predict(X)
    assert predicted.dtype == labels.dtype
    assert set(predicted) <= {7, -2, 100}


def test_files(clf, files, images):
    paths, y = files
    clf.fit([str(path) for path in paths], y)
    np.testing.assert_allclose(clf.predict_proba(paths), clf.predict_proba(images[0]), atol=1e-5)


def test_grayscale(clf, images):
    X, y = images
    gray = X.mean(axis=3).astype(np.uint8)
    assert clf.fit(gray, y).predict(gray[..., None]).shape == (24,)


def test_validation_data(clf, images):
    X, y = images
    clf.fit(X[:15], y[:15], validation_data=(X[15:], y[15:]))
    assert "val_loss" in clf.history_[0]
    with pytest.raises(ValueError, match=r"validation_data\[1\] must hold labels seen.*'fox'"):
        clf.fit(X[:15], y[:15], validation_data=(X[15:17], ["fox", "cat"]))
    with pytest.raises(ValueError, match=r"validation_data\[0\] must hold images of 8x8"):
        clf.fit(X[:15], y[:15], validation_data=(X[15:, :4], y[15:]))


def test_without_validation(clf, images):
    clf.set_params(validation_fraction=0).fit(*images)
    assert "val_loss" not in clf.history_[0]


def test_weights_reach_the_training(clf, images):
    X, y = images
    clf.set_params(head_stage=Stage(3, learning_rate=0.05, batch_size=8))
    plain = clone(clf).fit(X, y).predict_proba(X)
    ones = clone(clf).fit(X, y, sample_weight=np.ones(24)).predict_proba(X)
    np.testing.assert_allclose(ones, plain, atol=1e-6)
    skewed = clone(clf).set_params(class_weight={"cat": 50.0}).fit(X, y).predict_proba(X)
    assert skewed[:, 0].mean() > plain[:, 0].mean()
    by_sample = clone(clf).fit(X, y, sample_weight=np.where(y == "cat", 50.0, 1.0))
    np.testing.assert_allclose(by_sample.predict_proba(X), skewed, atol=1e-6)


def test_a_users_head_function(clf, images):
    def head(feature_map, n_classes):
        x = keras.layers.GlobalMaxPooling2D()(feature_map)
        x = keras.layers.Dense(4, name="features")(x)  # as our own input of a head once was
        return keras.layers.Dense(n_classes, activation="softmax")(x)

    clf.set_params(head=head).fit(*images)
    assert clf.predict_proba(images[0]).shape == (24, 3)


def test_fitting_again_leaves_no_memory_behind(clf, images):
    clf.fit(*images).predict(images[0])
    old = weakref.ref(clf.model_)
    clf.fit(*images)
    gc.collect()
    assert old() is None


def test_a_failed_fit_leaves_the_last_one_whole(fitted, images):
    X, _ = images
    expected = fitted.predict(X)
    with pytest.raises(ValueError, match="at least two classes"):
        fitted.fit(X, ["one"] * 24)
    np.testing.assert_array_equal(fitted.predict(X), expected)


def test_unfitted(clf, images):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        clf.predict(images[0])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"backbone": "mobilnet"}, "mean 'mobilenet'"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be a number in \[0, 1\)"),
        ({"batch_size": 0, "image_size": 0}, "2 parameters are not valid"),
        ({"class_weight": "balance"}, "None, 'balanced' or a dict"),
        ({"class_weight": {"fox": 1}}, "received {'fox': 1}. The labels are 'cat', 'dog'"),
        ({"head": "linar"}, "mean 'linear'"),
        ({"weights": "gone.h5"}, "gone.h5"),
    ],
)
def test_bad_parameters(clf, images, params, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        clf.set_params(**params).fit(*images)


def test_bad_labels_and_weights(clf, images):
    X, y = images
    with pytest.raises(ValueError, match="23 labels for 24 images"):
        clf.fit(X, y[:23])
    with pytest.raises(TypeError, match="mix of int and str"):
        clf.fit(X, [1, *y[1:]])
    lonely = y.copy()
    lonely[0] = "fox"
    with pytest.raises(ValueError, match="one of 'fox'. Add images, or pass validation_data"):
        clf.fit(X, lonely)
    clf.set_params(validation_fraction=0).fit(X, lonely)
    with pytest.raises(ValueError, match=r"24 finite numbers, one per image, .*; received.*\(3,\)"):
        clf.fit(X, y, sample_weight=[1, 2, 3])
    with pytest.raises(ValueError, match="zero or more"):
        clf.fit(X, y, sample_weight=-np.ones(24))


@pytest.mark.parametrize(
    "params", [{"verbose": "yes"}, {"warm_start": "no"}, {"warm_start": 1}, {"verbose": None}]
)
def test_settings_of_another_type(clf, params):
    (name,) = params
    with pytest.raises(TypeError, match=f"{name} must be .*; received {params[name]!r}"):
        clf.set_params(**params).fit(["nowhere.png"] * 4, [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("haed__dropout", r"(?s)Invalid parameter 'haed' .*\['aspect', 'augmentation', 'backbone'"),
        ("head__dropuot", r"Invalid parameter 'dropuot' .*\['C', 'activation', 'batch_norm'"),
        ("head_stage__epoch", r"Invalid parameter 'epoch' .*\['batch_norm', 'batch_size'"),
        ("augmentation__n_views", "augmentation must be an object with parameters.*received None"),
        ("backbone__width", "backbone must be an object with parameters.* where backbone__width"),
    ],
)
def test_a_wrong_nested_name_is_answered_with_the_valid_ones(clf, images, name, message):
    with pytest.raises(ValueError, match=message):
        clf.set_params(**{name: 0.3})
    with pytest.raises(ValueError, match=message):
        GridSearchCV(clf, {name: [0.3]}, cv=2).fit(*images)


def test_validation_data_is_a_pair(clf, images):
    X, y = images
    with pytest.raises(ValueError, match="validation_data must be a pair.*received a tuple of 3"):
        clf.fit(X, y, validation_data=(X, y, y))
    with pytest.raises(ValueError, match="validation_data must be a pair.*received a ndarray"):
        clf.fit(X, y, validation_data=X)
    clf.set_params(head_stage=Stage(1)).fit(X[:15], y[:15], validation_data=[X[15:], y[15:]])
    assert "val_loss" in clf.history_[0]


@pytest.mark.parametrize("backend", ["threads", "threading", "loky"])
def test_fits_beside_one_another_equal_the_fit_alone(clf, images, backend):
    """With dropout and a hidden layer, whose seeds Keras draws from Python's generator."""
    X, y = images
    clf.set_params(head=Head((8,), dropout=0.5), head_stage=Stage(2, batch_size=8))
    alone = clone(clf).fit(X, y).predict_proba(X)
    before = (random.getstate(), np.random.get_state()[1].copy())  # noqa: NPY002
    clones = [clone(clf) for _ in range(4)]
    if backend == "threads":
        with ThreadPoolExecutor(4) as pool:
            fitted = list(pool.map(lambda each: each.fit(X, y), clones))
    else:
        # A worker process takes ten seconds to begin.
        n_fits = 1 if backend == "loky" else 4
        work = [joblib.delayed(TransferClassifier.fit)(each, X, y) for each in clones[:n_fits]]
        fitted = joblib.Parallel(2, backend=backend)(work)
    for each in fitted:
        np.testing.assert_allclose(each.predict_proba(X), alone, atol=1e-5)
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_the_unit_of_weights_changes_no_training_by_epochs(clf, images):
    X, y = images
    plain = clone(clf).fit(X, y)
    small = clone(clf).fit(X, y, sample_weight=np.full(24, 1e-4))
    np.testing.assert_allclose(small.predict_proba(X), plain.predict_proba(X), atol=1e-5)
    assert small.history_[0]["loss"] == pytest.approx(plain.history_[0]["loss"], abs=1e-5)


@pytest.mark.parametrize("stage", ["exact", Stage(1)], ids=["exact", "epochs"])
def test_weights_that_leave_nothing_are_an_error(clf, images, stage):
    X, y = images
    clf.set_params(head_stage=stage, class_weight={"cat": 0})
    with pytest.raises(ValueError, match="must leave images to train on; received a product of 0"):
        clf.fit(X, y, sample_weight=y == "cat")


def test_a_class_that_is_absent_has_no_part_in_class_weights(clf, images):
    X, y = images
    clf.fit(X, y).set_params(warm_start=True, class_weight={"cat": 2.0, "eel": 3.0})
    assert clf.fit(X[y != "eel"], y[y != "eel"]).classes_.tolist() == ["cat", "dog", "eel"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"class_weight": np.ones(3)}, "class_weight must be None, 'balanced' or a dict"),
        ({"head": Head(hidden_units=np.array([8, 4]))}, "hidden_units must be 'auto' or"),
        ({"random_state": -1}, "random_state must be an integer from 0"),
        ({"random_state": np.random.default_rng(0)}, "random_state must be .* received Generator"),
    ],
)
def test_a_parameter_of_another_kind_is_named(clf, images, params, message):
    with pytest.raises(ValueError, match=message):
        clf.set_params(**params).fit(*images)


def test_numbers_among_objects_are_scored_as_they_are_learnt(clf, images):
    X, y = images
    numbers = np.unique(y, return_inverse=True)[1].astype(object)
    clf.fit(X, numbers)
    assert clf.score(X, numbers) == np.mean(clf.predict(X) == numbers)


def test_a_function_without_a_name_is_a_backbone(images):
    options = {"weights": None, "image_size": 8, "random_state": 0, "verbose": 0}
    clf = TransferClassifier(lambda x: keras.ops.relu(keras.layers.Conv2D(4, 3)(x)), **options)
    assert clf.fit(*images).backbone_.name == "lambda"  # TensorFlow runs none called "<lambda>"


def test_a_fit_goes_on_where_its_backbone_is_no_longer_registered(registered, images, monkeypatch):
    clf = TransferClassifier("tiny", weights=None, random_state=0, verbose=0).fit(*images)
    monkeypatch.delitem(backbones._registry, "tiny")
    assert clf.set_params(warm_start=True).fit(*images).score(*images) > 0.5
