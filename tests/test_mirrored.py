"""With `predict_mirrored` all that leaves a classifier is of an image and its mirror image."""

import copy
import pickle

import keras
import numpy as np
import pytest
from scipy.special import softmax

from exports import NAMES, draw_images, fit_small, make_row, needs_tensorflow
from test_export import RUN
from tlclassify.analysis.calibration import calibrate, find_temperature, with_temperature
from tlclassify.analysis.explanation import grad_cam
from tlclassify.persistence.exporting import export
from tlclassify.persistence.saving import load, save

SHAPE = (5, 7)
X = draw_images(24, SHAPE, seed=1)[0]
MIRRORED = X[:, :, ::-1]


@pytest.fixture(scope="module")
def clf():
    """A calibrated classifier of images of 5x7; no test changes it."""
    return with_temperature(fit_small(SHAPE, image_size=12, predict_mirrored=True), 1.7)


def mean_of_both(clf, images):
    one, other = (
        clf.head_.predict_on_batch(clf.backbone_.predict_on_batch(view))
        for view in (images, images[:, :, ::-1])
    )
    return (one + other) / 2


def own_head(feature_map, n_classes):
    x = keras.layers.GlobalMaxPooling2D()(feature_map)
    return keras.layers.Dense(n_classes, activation="softmax")(x)


@pytest.mark.parametrize("head", ["linear", own_head])
def test_probabilities_are_the_mean(head):
    clf = fit_small(SHAPE, head=head, predict_mirrored=True)
    found = clf.predict_proba(X)
    np.testing.assert_allclose(found, mean_of_both(clf, X), atol=1e-6)
    assert (
        np.abs(found - clf.head_.predict_on_batch(clf.backbone_.predict_on_batch(X))).max() > 0.01
    )
    np.testing.assert_allclose(clf.predict_proba(MIRRORED), found, atol=1e-6)
    np.testing.assert_allclose(clf.predict_proba(X[:1]), found[:1], atol=1e-6)


def test_training_is_the_same(clf):
    plain = fit_small(SHAPE, image_size=12)
    for part in ("backbone_", "head_"):
        for one, other in zip(
            getattr(plain, part).get_weights(), getattr(clf, part).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_a_temperature_comes_after_the_mean(clf):
    raw = mean_of_both(clf, X)
    np.testing.assert_allclose(clf.predict_proba(X), softmax(np.log(raw) / 1.7, axis=1), atol=1e-6)
    columns = np.r_[raw[:16].argmax(axis=1), raw[16:].argmin(axis=1)]
    calibrated = calibrate(clf, X, clf.classes_[columns])
    assert calibrated.temperature_ == pytest.approx(find_temperature(raw, columns), rel=1e-4)
    np.testing.assert_allclose(
        calibrated.predict_proba(X),
        softmax(np.log(raw) / calibrated.temperature_, axis=1),
        atol=1e-5,
    )


@pytest.mark.parametrize("keep", ["save", "pickle", "deepcopy", "keras"])
def test_it_is_kept(clf, tmp_path, keep):
    # What was fitted counts, not what a parameter says since.
    changed = copy.copy(clf).set_params(predict_mirrored=False)
    expected = clf.predict_proba(X)
    np.testing.assert_array_equal(changed.predict_proba(X), expected)
    if keep == "keras":
        changed.model_.save(tmp_path / "a.keras")
        found = keras.models.load_model(tmp_path / "a.keras").predict_on_batch(X)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        return
    if keep == "save":
        save(changed, tmp_path / "a.tlc", card=True)
        assert "| image and mirror image |" in (tmp_path / "a.tlc.md").read_text(encoding="utf-8")
        kept = load(tmp_path / "a.tlc", backbone=make_row())
    else:
        kept = pickle.loads(pickle.dumps(changed)) if keep == "pickle" else copy.deepcopy(changed)
    np.testing.assert_array_equal(kept.predict_proba(X), expected)
    np.testing.assert_allclose(
        with_temperature(kept, 1.0).predict_proba(X), mean_of_both(clf, X), atol=1e-6
    )


@needs_tensorflow
@pytest.mark.parametrize("name", NAMES)
def test_exports_have_it(clf, tmp_path, name):
    path = export(clf, tmp_path / NAMES[name])
    for images in (X[:1], X[:5]):
        np.testing.assert_allclose(RUN[name](path, images), clf.predict_proba(images), atol=1e-5)


@needs_tensorflow
@pytest.mark.parametrize("name", ["onnx", "litert"])
def test_exports_in_int8_have_it(clf, tmp_path, name):
    if name not in NAMES:
        pytest.skip("this Keras does not write LiteRT")
    path = export(clf, tmp_path / NAMES[name], precision="int8", calibration_images=X)
    one, other = RUN[name](path, X[:5]), RUN[name](path, np.ascontiguousarray(MIRRORED[:5]))
    np.testing.assert_allclose(one, clf.predict_proba(X[:5]), atol=0.15)
    np.testing.assert_allclose(one, other, atol=1e-5)


@needs_tensorflow
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_engines_have_it(clf, engine):
    found = copy.copy(clf).set_params(engine=engine).predict_proba(X)
    np.testing.assert_allclose(found, clf.predict_proba(X), atol=1e-5)


def test_stored_activations_do_not_change_it(tmp_path, runs):
    plain = fit_small(SHAPE, image_size=12, predict_mirrored=True)
    stored = fit_small(SHAPE, image_size=12, predict_mirrored=True, cache_dir=tmp_path)
    assert sum(runs) == 2 * len(X)
    trained_on = draw_images(shape=SHAPE)[0]
    np.testing.assert_array_equal(stored.predict_proba(trained_on), plain.predict_proba(trained_on))


def test_a_warm_start_takes_it_anew(make_clf, images):
    clf = make_clf(head_stage="exact", validation_fraction=None, warm_start=True).fit(*images)
    plain = clf.predict_proba(images[0])
    clf.set_params(predict_mirrored=True).fit(*images)
    np.testing.assert_allclose(
        clf.predict_proba(images[0]), mean_of_both(clf, images[0]), atol=1e-6
    )
    assert (clf.predict_proba(images[0]) != plain).any()


@pytest.mark.parametrize("labels", [None, "dog"])
def test_an_explanation_is_the_mean_of_both(clf, labels):
    heatmaps = grad_cam(clf, X, labels=labels)
    assert heatmaps.shape == (24, *SHAPE)
    np.testing.assert_allclose(
        grad_cam(clf, MIRRORED, labels=labels)[:, :, ::-1], heatmaps, atol=1e-5
    )
    even = np.concatenate([X[:, :, :4], X[:, :, 2::-1]], axis=2)
    plain = copy.copy(clf)
    plain.blueprint_ = fit_small(SHAPE, image_size=12).blueprint_
    of_one = grad_cam(plain, even, labels=labels)
    both = of_one + of_one[:, :, ::-1]
    highest = np.maximum(both.max(axis=(1, 2), keepdims=True), 1e-9)
    np.testing.assert_allclose(grad_cam(clf, even, labels=labels), both / highest, atol=1e-4)


def test_an_explanation_is_of_the_predicted_label(clf):
    found = grad_cam(clf, X)
    np.testing.assert_array_equal(found, grad_cam(clf, X, labels=clf.predict(X)))


@pytest.mark.parametrize("value", [1, "yes", None])
def test_what_is_neither_true_nor_false(make_clf, images, value):
    with pytest.raises(TypeError, match="predict_mirrored must be True or False; received"):
        make_clf(predict_mirrored=value).fit(*images)
