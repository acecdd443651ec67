"""A saved classifier comes back as it was, in this process and in another one."""

import copy
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from conftest import build_tiny
from tlclassify.analysis.calibration import with_temperature
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.inputs.augmentation import Augmentation
from tlclassify.networks import backbones
from tlclassify.networks.heads import Head
from tlclassify.networks.rows import SYMMETRIC, Backbone
from tlclassify.persistence.saving import load, save
from tlclassify.training.stages import Stage

QUICK = Stage(1, learning_rate=0.05, batch_size=8)
TUNE = Stage(1, unfreeze=1, learning_rate=0.01, batch_size=8)
SAVED = Path(__file__).parent / "data"


def own_head(feature_map, n_classes):
    x = keras.layers.GlobalMaxPooling2D()(feature_map)
    return keras.layers.Dense(n_classes, activation="softmax", name="own")(x)


pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture(scope="module")
def trained():
    """A classifier that no test trains further or changes."""
    rng = np.random.default_rng(0)
    row = Backbone("tiny", build_tiny, SYMMETRIC, native_size=8, small_size=8, min_size=4)
    params = {"head": Head((4,)), "head_stage": QUICK, "random_state": 0, "verbose": 0}
    clf = TransferClassifier(row, weights=None, **params)
    return clf.fit(rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8), np.arange(24) % 3)


@pytest.fixture
def again(tmp_path):
    """A function that saves a classifier and loads it."""

    def save_and_load(clf, **options):
        save(clf, tmp_path / "saved.tlc")
        return load(tmp_path / "saved.tlc", **options)

    return save_and_load


def assert_equal_answers(first, second, X):
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


# What comes back


@pytest.mark.parametrize(
    "params",
    [
        {"head": Head((6, 5), dropout=(0.1, 0.2), batch_norm=True, pooling="flatten")},
        {"head": Head((6,), activation="gelu", pooling="max"), "image_size": 12},
        {"fine_tune_stage": TUNE},
        {"fine_tune_stage": Stage(1, unfreeze="all", batch_norm="train"), "augmentation": "flip"},
        {"head_stage": None, "fine_tune_stage": Stage(1, unfreeze="all")},
    ],
)
def test_answers_are_the_same_to_the_bit(make_clf, images, again, params):
    clf = make_clf().set_params(head_stage=QUICK).set_params(**params).fit(*images)
    loaded = again(clf)
    assert_equal_answers(loaded, clf, images[0])
    assert [layer.trainable for layer in loaded.backbone_.layers] == [
        layer.trainable for layer in clf.backbone_.layers
    ]


@pytest.mark.parametrize("temperature", [0.02, 3.0])
def test_a_calibrated_classifier(trained, images, again, temperature, tmp_path):
    calibrated = with_temperature(trained, temperature)
    loaded = again(calibrated)
    assert loaded.temperature_ == temperature
    assert_equal_answers(loaded, calibrated, images[0])
    loaded.set_params(cache_dir=tmp_path)
    expected = calibrated.predict_proba(images[0])
    np.testing.assert_allclose(loaded.predict_proba(images[0]), expected, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_the_policy_of_precision_comes_back(make_clf, images, again, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        clf = make_clf(head_stage=QUICK).fit(*images)
    finally:
        keras.config.set_dtype_policy(before)
    loaded = again(clf)
    assert loaded.backbone_.get_layer("two").dtype_policy.name == policy
    assert keras.config.dtype_policy().name == before.name
    assert_equal_answers(loaded, clf, images[0])


@pytest.mark.parametrize(
    "classes",
    [
        np.array(["ä", "b\n", "c|"], dtype="<U9"),
        np.array([b"a", b"\xff", b"c"]),
        np.array([-1, 0, 1], dtype=np.int8),
        np.array([0, 1, 2**64 - 1], dtype=np.uint64),
        np.array([1, 2, 3], dtype=">i4"),
        np.array([0.0, 1.0, 2.0], dtype=np.float32),
    ],
    ids=lambda classes: classes.dtype.str,
)
def test_labels_keep_their_type(trained, again, classes):
    clf = copy.copy(trained)
    clf.classes_ = classes
    loaded = again(clf).classes_
    assert loaded.dtype == classes.dtype
    np.testing.assert_array_equal(loaded, classes)


def test_what_was_learnt_comes_back(trained, again):
    clf = copy.copy(trained)
    clf.history_ = [*clf.history_, {"stage": "fine_tune", "epoch": 1, "loss": float("nan")}]
    loaded = again(clf)
    names = ("history_", "image_shape_", "n_features_", "pixel_range_", "temperature_")
    for name in names:
        np.testing.assert_equal(getattr(loaded, name), getattr(clf, name))
    assert loaded.blueprint_ == replace(
        clf.blueprint_, backbone="tiny", head=loaded.blueprint_.head
    )
    assert repr(loaded.blueprint_.head) == repr(clf.blueprint_.head)


def test_parameters_come_back(trained, again):
    params = {
        "weights": "w.h5",
        "head": Head((3, 2), dropout=(0.25, 0.5)),
        "augmentation": Augmentation(rotation_degrees=5),
        "fine_tune_stage": "top",
        "class_weight": {0: 2.0, np.int64(1): np.float32(0.5)},
        "random_state": np.int64(7),
        "warm_start": True,
    }
    clf = copy.copy(trained).set_params(**params)
    loaded, expected = again(clf).get_params(), clf.get_params()
    assert loaded.pop("backbone") == "tiny"
    expected.pop("backbone")
    for name in ("head", "augmentation", "head_stage"):
        assert repr(loaded.pop(name)) == repr(expected.pop(name))
    assert loaded == expected


@pytest.mark.parametrize(
    ("name", "value", "loaded"),
    [
        ("cache_dir", "somewhere", None),
        ("callbacks", [keras.callbacks.Callback()], None),
        ("engine", "onnxruntime", "keras"),
        ("random_state", np.random.RandomState(0), None),
    ],
)
def test_parameters_that_no_file_keeps(trained, again, name, value, loaded):
    assert getattr(again(copy.copy(trained).set_params(**{name: value})), name) == loaded


def test_parameters_set_after_the_fit_do_not_build_the_networks(trained, images, again):
    clf = copy.copy(trained).set_params(head=Head((9, 9)), image_size=16, backbone="resnet50")
    loaded = again(clf)
    assert loaded.backbone == "resnet50"
    assert loaded.image_size == 16
    assert_equal_answers(loaded, clf, images[0])


def test_a_warm_start_goes_on(make_clf, images, again):
    clf = make_clf(head_stage=QUICK, warm_start=True).set_params(head=Head((), dropout=0))
    clf.fit(*images)
    loaded, first = again(clf), list(clf.history_)
    for each in (clf, loaded):
        each.set_params(head="mlp").fit(*images)
        assert each.history_[:1] == first
        assert len(each.history_) == 2
    assert_equal_answers(loaded, clf, images[0])
    assert_equal_answers(again(loaded), clf, images[0])


def test_dropout_goes_on_from_the_same_place_after_every_load(trained, images, again):
    answers = []
    for _ in range(2):
        loaded = again(trained).set_params(warm_start=True, validation_fraction=0)
        answers.append(loaded.fit(images[0], np.arange(24) % 3).predict_proba(images[0]))
    np.testing.assert_array_equal(*answers)


def test_a_normalization_inside_the_backbone(tiny, make_clf, images, again, monkeypatch):
    def normalized(x):
        return build_tiny(keras.layers.Normalization(name="own_scaling")(x))

    row = replace(tiny, name="normalized", builder=normalized)
    monkeypatch.setitem(backbones._registry, "normalized", row)
    clf = make_clf(head_stage=QUICK).set_params(backbone=row).fit(*images)
    layer = clf.backbone_.get_layer("own_scaling")
    layer.set_weights([np.float32([0.3, 0.2, 0.1]), np.float32([0.5, 1, 2]), np.array(1)])
    layer.finalize_state()
    assert_equal_answers(again(clf), clf, images[0])


def test_a_fresh_process_agrees(trained, images, tmp_path):
    save(trained, tmp_path / "saved.tlc")
    (tmp_path / "pickled").write_bytes(pickle.dumps(trained))
    np.save(tmp_path / "X.npy", images[0])
    code = """
import pickle
import numpy as np
from tlclassify import Scaling, load, register_backbone
X = np.load("X.npy")
unpickled = pickle.load(open("pickled", "rb")).predict_proba(X)
from conftest import build_tiny
register_backbone(build_tiny, name="tiny", scaling=Scaling(1 / 127.5, -1.0), native_size=8)
np.save("answers.npy", [unpickled, load("saved.tlc").predict_proba(X)])
"""
    tests = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": tests}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    expected = [trained.predict_proba(images[0])] * 2
    np.testing.assert_allclose(np.load(tmp_path / "answers.npy"), expected, atol=1e-6)


# Code of the user's own


def test_a_head_that_a_function_built(make_clf, images, again, tmp_path):
    clf = make_clf(head_stage=QUICK).set_params(head=own_head).fit(*images)
    loaded = again(clf, head=own_head)
    assert loaded.head is own_head
    assert_equal_answers(loaded, clf, images[0])
    with pytest.raises(ValueError, match=r"head must be what the fit .*'test_pers.*own_head'"):
        load(tmp_path / "saved.tlc")


def test_a_model_for_a_backbone_and_a_layer_for_a_head(make_clf, images, again, tmp_path):
    inputs = keras.Input((8, 8, 3))
    # Of this name another one is registered.
    own = {
        "backbone": keras.Model(inputs, build_tiny(inputs), name="resnet50"),
        "head": keras.Sequential(
            [keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(3, activation="softmax")]
        ),
    }
    clf = make_clf(head_stage=QUICK).set_params(**own, weights="pretrained").fit(*images)
    for loaded in (again(clf, **own), pickle.loads(pickle.dumps(clf))):
        assert_equal_answers(loaded, clf, images[0])
    for missing in own:
        given = {name: part for name, part in own.items() if name != missing}
        with pytest.raises(ValueError, match=f"{missing} must be what the fit .*received None"):
            load(tmp_path / "saved.tlc", **given)


@pytest.mark.parametrize("options", [{"head": own_head}, {"backbone": "tiny"}])
def test_code_for_what_is_in_the_file(trained, again, options):
    with pytest.raises(ValueError, match="(head|backbone) must be None, because .* received (f|s)"):
        again(trained, **options)


def test_a_backbone_must_be_registered(trained, again, monkeypatch):
    clf = copy.copy(trained).set_params(backbone="tiny")
    clf.blueprint_ = replace(clf.blueprint_, backbone="tiny")
    monkeypatch.delitem(backbones._registry, "tiny")
    with pytest.raises(ValueError, match=r"'tiny', which is not registered.*register_backbone"):
        again(clf)


@pytest.mark.parametrize("change", [{"scaling": replace(SYMMETRIC, bgr=True)}, {"min_size": 9}])
def test_a_network_that_answers_differently(trained, tiny, monkeypatch, tmp_path, change):
    save(trained, tmp_path / "saved.tlc")
    monkeypatch.setitem(backbones._registry, "tiny", replace(tiny, **change))
    with pytest.raises(ValueError, match="probe image gets prob|image_size must be at least 9"):
        load(tmp_path / "saved.tlc")


# The file


def test_the_file_is_whole_or_not_there(trained, tmp_path, monkeypatch):
    save(trained, tmp_path / "saved.tlc")
    before = (tmp_path / "saved.tlc").read_bytes()

    def interrupt(source, target):
        raise KeyboardInterrupt("now")

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt, match="now"):
        save(trained, tmp_path / "saved.tlc")
    assert [path.name for path in tmp_path.iterdir()] == ["saved.tlc"]
    assert (tmp_path / "saved.tlc").read_bytes() == before


def test_the_same_classifier_makes_the_same_file(trained, again, tmp_path):
    save(again(trained), tmp_path / "again.tlc")
    first, second = ((tmp_path / name).read_bytes() for name in ("saved.tlc", "again.tlc"))
    assert first == second


def test_others_may_read_the_file(trained, tmp_path):
    save(trained, tmp_path / "saved.tlc")
    (tmp_path / "other").touch()
    assert (tmp_path / "saved.tlc").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_safetensors_reads_the_arrays(trained, tmp_path):
    save(trained, tmp_path / "saved.tlc")
    arrays = load_file(tmp_path / "saved.tlc")
    np.testing.assert_array_equal(arrays["head/00000"], trained.head_.get_weights()[0])
    assert arrays["root_standardization/00000"].shape == (12,)


def test_a_file_is_hardly_larger_than_its_weights(images, tmp_path):
    clf = TransferClassifier("mobilenet_micro", head="mlp", head_stage=QUICK, verbose=0)
    clf.fit(*images)
    save(clf, tmp_path / "saved.tlc")
    n_bytes = 4 * (clf.backbone_.count_params() + clf.head_.count_params())
    assert n_bytes < (tmp_path / "saved.tlc").stat().st_size < 1.05 * n_bytes
    assert n_bytes < len(pickle.dumps(clf)) < 1.1 * n_bytes


@pytest.mark.parametrize("version", [4])
def test_files_of_every_format_load(images, again, version):
    """Once a format is released, its file is never written again."""
    clf = load(SAVED / f"saved_format_{version}.tlc")
    assert clf.head == "linear"
    assert clf.temperature_ == 1.5
    assert clf.predict(images[0]).tolist() == images[1].tolist()
    assert_equal_answers(again(clf), clf, images[0])


def test_files_of_the_first_format_are_refused():
    with pytest.raises(ValueError, match="a zip archive, as files of format version 1 were, whic"):
        load(SAVED / "saved_format_1.tlc")


def test_many_epochs_and_classes_fit_into_a_file(trained, again):
    clf = copy.copy(trained)
    clf.history_ = 40_000 * clf.history_
    assert again(clf).history_ == clf.history_


def with_spoilt_weights(clf):
    changed = copy.deepcopy(clf)
    changed.head_.set_weights([np.nan * values for values in clf.head_.get_weights()])
    return changed


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda clf: "clf", TypeError, "clf must be a TransferClassifier; received str"),
        (clone, NotFittedError, "not fitted yet"),
        (
            lambda clf: copy.copy(clf).set_params(verbose=1j),
            TypeError,
            "verbose must be of a type .* received complex",
        ),
        (
            with_spoilt_weights,
            ValueError,
            "clf must fit .*: its probe image has probabilities that are not finite. Correct",
        ),
    ],
)
def test_what_cannot_be_saved(trained, tmp_path, change, error, message):
    (tmp_path / "saved.tlc").write_bytes(b"of before")
    with pytest.raises(error, match=message):
        save(change(trained), tmp_path / "saved.tlc")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"of before"]
