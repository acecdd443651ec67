"""Several backbones as one: each in its own size and scaling, their features side by side."""

import pickle
from dataclasses import replace

import keras
import numpy as np
import pytest

from exports import NAMES, draw_images, fit_small, make_row, needs_tensorflow
from test_export import RUN
from tlclassify.activations import run as activations
from tlclassify.analysis.comparison import compare_backbones
from tlclassify.analysis.explanation import grad_cam
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.networks import backbones
from tlclassify.networks.backbones import get_backbone
from tlclassify.persistence.exporting import export
from tlclassify.persistence.saving import load, save
from tlclassify.training.stages import Stage

SHAPE = (10, 7)
X, Y = draw_images(24, SHAPE)


def build_one(x):
    return keras.layers.Conv2D(5, 3, strides=2, activation="relu", name="one")(x)


ROWS = [
    replace(make_row("two_layers"), native_size=16, small_size=16),
    replace(make_row("one_layer"), builder=build_one, native_size=8, small_size=8),
]


@pytest.fixture
def known(monkeypatch):
    """Both rows, registered for one test."""
    for row in ROWS:
        monkeypatch.setitem(backbones._registry, row.name, row)
    return [row.name for row in ROWS]


def fit(backbone=ROWS, **params):
    params = {"head": "linear", "random_state": 0, "weights": None, "verbose": 0} | params
    return TransferClassifier(backbone, **params).fit(X, Y)


def test_features_are_those_of_each_side_by_side():
    options = {"weights": None, "random_state": 0, "verbose": 0}
    alone = [FeatureExtractor(row, **options).fit_transform(X) for row in ROWS]
    both = FeatureExtractor(ROWS, **options).fit(X)
    np.testing.assert_allclose(both.transform(X), np.hstack(alone), atol=1e-6)
    assert both.n_features_ == 12 + 5
    assert np.array(both.model_(X)).shape == (24, 17)


def test_each_has_a_size_of_its_own():
    assert tuple(fit().blueprint_.image_sizes) == (16, 8)
    assert tuple(fit(image_size=9).blueprint_.image_sizes) == (9, 9)


def test_files_are_read_at_the_largest_size(tmp_path):
    from PIL import Image

    paths = [tmp_path / f"{number}.png" for number in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    clf = TransferClassifier(ROWS, weights=None, random_state=0, verbose=0).fit(paths, Y)
    assert clf.image_shape_ == (16, 16, 3)
    assert clf.score(paths, Y) > 0.9


def test_activations_are_stored_for_each_alone(tmp_path, runs):
    fit(ROWS[0], cache_dir=tmp_path)
    runs.clear()
    clf = fit(cache_dir=tmp_path)
    assert sum(runs) == len(X)  # by the second backbone alone
    runs.clear()
    stored = clf.predict_proba(X)
    assert not runs
    np.testing.assert_allclose(stored, clf.set_params(cache_dir=None).predict_proba(X), atol=1e-6)


def test_predictions_from_stored_activations_come_in_parts(tmp_path, monkeypatch):
    clf = fit(cache_dir=tmp_path)
    monkeypatch.setattr("tlclassify.estimators.classifier.PART_ROWS", 10)
    monkeypatch.setattr(activations, "PART_ROWS", 10)
    parts = clf.predict_proba(X)
    np.testing.assert_allclose(parts, clf.set_params(cache_dir=None).predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("augmentation", [None, "flip"])
def test_it_learns_with_views_and_by_epochs(augmentation):
    assert fit(augmentation=augmentation).score(X, Y) == 1
    stage = Stage(6, learning_rate=0.02, batch_size=8)
    by_epochs = fit(augmentation=augmentation, head="mlp", head_stage=stage)
    assert by_epochs.score(X, Y) == 1


@pytest.mark.parametrize("mirrored", [False, True])
def test_it_is_kept(known, tmp_path, mirrored):
    clf = fit(known, predict_mirrored=mirrored)
    expected = clf.predict_proba(X)
    save(clf, tmp_path / "a.tlc", card=True)
    card = (tmp_path / "a.tlc.md").read_text(encoding="utf-8")
    assert "| 16 x 16 pixels, 8 x 8 pixels" in card
    assert "two_layers: CC0-1.0; one_layer: CC0-1.0" not in card  # it began with random weights
    loaded = load(tmp_path / "a.tlc")
    assert list(loaded.backbone) == known
    for kept in (loaded, pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(kept.predict_proba(X), expected)


def test_a_file_of_rows_that_are_not_registered_asks_for_them(tmp_path):
    clf = fit()
    save(clf, tmp_path / "a.tlc")
    with pytest.raises(ValueError, match="backbone must be what the fit was given"):
        load(tmp_path / "a.tlc")
    loaded = load(tmp_path / "a.tlc", backbone=ROWS)
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


def test_a_file_of_names_that_are_not_registered_says_which(known, tmp_path, monkeypatch):
    save(fit(known), tmp_path / "a.tlc")
    monkeypatch.delitem(backbones._registry, known[1])
    with pytest.raises(ValueError, match="'one_layer', which is not registered"):
        load(tmp_path / "a.tlc")


@needs_tensorflow
@pytest.mark.parametrize("name", NAMES)
def test_exports(tmp_path, name):
    clf = fit_small(SHAPE, row=ROWS)
    path = export(clf, tmp_path / NAMES[name])
    np.testing.assert_allclose(RUN[name](path, X[:5]), clf.predict_proba(X[:5]), atol=1e-5)


@needs_tensorflow
def test_resizing_stays_exact_in_int8(tmp_path):
    clf = fit_small(SHAPE, row=ROWS)
    path = export(clf, tmp_path / "a.onnx", precision="int8", calibration_images=X)
    np.testing.assert_allclose(RUN["onnx"](path, X[:5]), clf.predict_proba(X[:5]), atol=0.1)
    onnx = pytest.importorskip("onnx")
    products = [node for node in onnx.load(path).graph.node if node.op_type == "MatMul"]
    weights = {weight.name for weight in onnx.load(path).graph.initializer}
    exact = [node for node in products if weights & set(node.input)]
    assert len(exact) >= 4  # rows and columns of each


@needs_tensorflow
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_engines(tmp_path, engine):
    pytest.importorskip(engine)
    expected = fit().predict_proba(X)
    clf = fit(engine=engine, cache_dir=tmp_path)
    np.testing.assert_allclose(clf.predict_proba(X), expected, atol=1e-5)
    np.testing.assert_allclose(clf.predict_proba(X[:3]), expected[:3], atol=1e-5)


def test_a_comparison_takes_it_beside_one():
    found = compare_backbones([ROWS[0], ROWS], X, Y, classifier=fit(), random_state=0, verbose=0)
    assert {row.name for row in found.rows} == {"two_layers", "two_layers_and_one_layer"}
    assert not any(row.failure for row in found.rows)


def test_what_cannot_be_says_so(tmp_path):
    clf = fit()
    with pytest.raises(ValueError, match="must have one backbone; received 'two_layers_and"):
        grad_cam(clf, X[:2])
    with pytest.raises(ValueError, match="must unfreeze nothing of several backbones"):
        fit(fine_tune_stage="top")
    with pytest.raises(ValueError, match="must be a single one with a head or weights"):
        fit(head=lambda x, n: keras.layers.Dense(n, "softmax")(keras.layers.Flatten()(x)))
    with pytest.raises(ValueError, match="must be a single one with a head or weights"):
        fit(weights=tmp_path / "a.weights.h5")
    for wrong in ([], [ROWS[0], ROWS[0]], [ROWS[0], ROWS]):
        with pytest.raises(ValueError, match="must be a list of different backbones"):
            get_backbone(wrong)
    assert get_backbone([ROWS[0]]) is ROWS[0]
