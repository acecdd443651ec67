"""Each format, run by its own runtime, gives the classifier's own probabilities."""

import copy
import json
import re
import zipfile
from dataclasses import replace
from importlib import util

import keras
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from exports import NAMES, draw_images, export_once, fit_once, fit_small, make_row, needs_tensorflow
from test_project import PROJECT
from tlclassify.datasets import load_digits_rgb
from tlclassify.engines import converters
from tlclassify.engines.converters import export_graph, keep_in_float16
from tlclassify.engines.metadata import read_metadata
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.networks.backbones import build_backbone
from tlclassify.networks.rows import SYMMETRIC
from tlclassify.persistence.exporting import export

pytestmark = needs_tensorflow
# Each runtime adds up in another order than Keras.
TOLERANCE = {"float32": 1e-5, "float16": 5e-3, "int8": 0.15}
# In ONNX the head is exact.
LEAST_IN_INT8 = {"onnx": 1e-5, "litert": 1e-3}
SIZES = [((8, 8), 8), ((5, 7), 12), ((40, 21), 8)]


def build_network(shape, size, scaling=SYMMETRIC):
    row = make_row(scaling=scaling)
    return build_backbone(row, image_shape=shape, image_size=size, weights=None, random_state=0)


def run_onnx(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def run_openvino(path, images):
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.compile_model(path, "CPU", options)(images)[0]


def run_litert(path, images):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, images)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def run_saved_model(path, images):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return loaded.serve(images).numpy()


RUN = {
    "onnx": run_onnx,
    "openvino": run_openvino,
    "litert": run_litert,
    "saved_model": run_saved_model,
}


def metadata_of(path, name):
    if name == "onnx":
        import onnx

        properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        return properties["tlclassify"]
    if name == "openvino":
        import openvino

        return openvino.Core().read_model(path).get_rt_info(["tlclassify"]).astype(str)
    if name == "litert":
        return zipfile.ZipFile(path).read("tlclassify.json").decode()
    return (path / "assets.extra" / "tlclassify.json").read_text()


@pytest.fixture
def clf():
    return fit_once()


@pytest.fixture
def exported(tmp_path_factory):
    return export_once(tmp_path_factory)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 5])
def test_its_own_runtime_agrees(exported, clf, name, n):
    images = draw_images(n, (5, 7), seed=1)[0]
    found = RUN[name](exported[name], images)
    np.testing.assert_allclose(found, clf.predict_proba(images), atol=TOLERANCE["float32"])


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_is_inside(exported, clf, name):
    found = read_metadata(metadata_of(exported[name], name), path=name)
    np.testing.assert_array_equal(found.labels, clf.classes_)
    assert found.image_shape == (5, 7, 3)
    assert found.pixel_range == 255
    assert (found.backbone, found.precision) == ("two_layers", "float32")


@pytest.mark.skipif("litert" not in NAMES, reason="this Keras does not write LiteRT")
def test_litert_labels_are_where_others_look(exported):
    assert zipfile.ZipFile(exported["litert"]).read("labels.txt") == b"cat\ndog\neel"


def test_a_network_in_less_than_float32_is_refused(tmp_path):
    network = build_network((5, 7), 12)
    network.get_layer("two").dtype_policy = keras.DTypePolicy("mixed_bfloat16")
    with pytest.raises(ValueError, match="must compute in float32 .* layer 'two'"):
        export_graph(network, tmp_path / "a.onnx", "onnx")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_else_is_left_beside_it(exported, name):
    folder = exported[name].parent
    assert {path.name for path in folder.iterdir()} == {*NAMES.values(), "a.bin"}


def test_a_parameter_set_after_the_fit_changes_nothing(clf, tmp_path):
    changed = copy.copy(clf).set_params(backbone="resnet50", weights="pretrained")
    path = export(changed, tmp_path / "a")
    found = read_metadata(metadata_of(path, "saved_model"), path="")
    assert found.backbone == "two_layers"
    assert found.weights_licence == "none (it began with random weights)"


@pytest.mark.parametrize("name", NAMES)
def test_a_failure_leaves_what_was_there(exported, clf, name, tmp_path, monkeypatch):
    path = tmp_path / NAMES[name]
    if name == "saved_model":
        (path / "assets.extra").mkdir(parents=True)
    before = path / "assets.extra" / "tlclassify.json" if name == "saved_model" else path
    before.write_text("before")

    def fail(network, path, *_):
        path.with_suffix(".bin").write_text("half")
        raise OSError(28, "full")

    rows = [replace(row, packages={"tensorflow": ()}, write=fail) for row in converters.FORMATS]
    monkeypatch.setattr("tlclassify.persistence.exporting.FORMATS", rows)
    with pytest.raises(OSError, match="full"):
        export(clf, path)
    assert before.read_text() == "before"
    assert [item.name for item in tmp_path.iterdir()] == [NAMES[name]]


@pytest.mark.parametrize("name", ["onnx", "saved_model"])
def test_an_older_export_is_replaced(exported, clf, name, tmp_path):
    path = tmp_path / NAMES[name]
    if name == "saved_model":
        (path / "assets.extra").mkdir(parents=True)
        (path / "assets.extra" / "tlclassify.json").write_text("before")
    else:
        path.write_text("before")
    export(clf, path)
    assert json.loads(metadata_of(path, name))["classes"] == ["cat", "dog", "eel"]
    assert [item.name for item in tmp_path.iterdir()] == [NAMES[name]]


def test_a_folder_of_something_else_is_not_replaced(clf, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="which would replace '.*a'"):
        export(clf, tmp_path / "a")
    assert (tmp_path / "a" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "saved_model"])
def test_half_the_bits_are_half_the_weights(exported, clf, name, tmp_path):
    path = export(clf, tmp_path / NAMES[name], precision="float16")
    files = [exported[name], path]
    if name == "openvino":
        files = [file.with_suffix(".bin") for file in files]
    before, after = (file.stat().st_size for file in files)
    assert before - after > 1.5 * clf.model_.count_params()
    images = draw_images(5, (5, 7), seed=1)[0]
    found = RUN[name](path, images)
    np.testing.assert_allclose(found, clf.predict_proba(images), atol=TOLERANCE["float16"])
    assert (found != RUN[name](exported[name], images)).any()
    assert read_metadata(metadata_of(path, name), path="").precision == "float16"


def test_weights_of_no_values_are_kept():
    import onnx

    empty = onnx.numpy_helper.from_array(np.zeros((0, 3), np.float32), "empty")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "none", [], [], [empty]))
    keep_in_float16(model)
    assert onnx.numpy_helper.to_array(model.graph.initializer[0]).shape == (0, 3)
    assert [node.output[0] for node in model.graph.node] == ["empty"]


IN_INT8 = [name for name in NAMES if name in {"onnx", "litert"}]


@pytest.mark.parametrize("name", IN_INT8)
def test_int8_is_near(clf, name, tmp_path, caplog):
    X, _ = draw_images(24, (5, 7))
    path = export(clf, tmp_path / NAMES[name], precision="int8", calibration_images=X)
    images = draw_images(6, (5, 7), seed=1)[0]
    found = RUN[name](path, images)
    np.testing.assert_allclose(found, clf.predict_proba(images), atol=TOLERANCE["int8"])
    assert not caplog.records
    # More than another order of adding up would make of it.
    assert np.abs(found - clf.predict_proba(images)).max() > LEAST_IN_INT8[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_solved_head_agrees_too(name, tmp_path):
    clf, X = fit_small(head="linear", head_stage="exact"), draw_images(6, seed=1)[0]
    expected = clf.predict_proba(X)
    found = RUN[name](export(clf, tmp_path / NAMES[name]), X)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE["float32"])
    if name in IN_INT8:
        small = export(clf, tmp_path / NAMES[name], precision="int8", calibration_images=X)
        np.testing.assert_allclose(RUN[name](small, X), expected, atol=TOLERANCE["int8"])


@pytest.mark.parametrize("name", IN_INT8)
def test_int8_is_near_at_a_usual_size(name, tmp_path):
    """LiteRT is right with some graphs for small matrices only."""
    clf = fit_small((32, 32), image_size=40)
    path = tmp_path / NAMES[name]
    export(clf, path, precision="int8", calibration_images=draw_images(24, (32, 32))[0])
    images = draw_images(6, (32, 32), seed=1)[0]
    expected = clf.predict_proba(images)
    np.testing.assert_allclose(RUN[name](path, images), expected, atol=TOLERANCE["int8"])


def test_int8_of_a_trained_network_answers_alike(tmp_path):
    """Its batch normalisation has channels of very different sizes, and its head small weights."""
    import onnx

    digits = load_digits_rgb()
    X, y = digits.X, digits.y
    clf = TransferClassifier("mobilenet_micro", random_state=0, verbose=0).fit(X[:200], y[:200])
    path = export(clf, tmp_path / "a.onnx", precision="int8", calibration_images=X[:50])
    found = clf.classes_[run_onnx(path, X[200:300]).argmax(axis=1)]
    assert (found == clf.predict(X[200:300])).mean() > 0.9
    # So that sums of products overflow on no processor.
    arrays = map(onnx.numpy_helper.to_array, onnx.load(path).graph.initializer)
    assert max(np.abs(x.astype(int)).max() for x in arrays if x.dtype == np.int8 and x.ndim) <= 64


def test_int8_of_a_network_without_convolutions_is_refused(tmp_path):
    row = replace(make_row(), builder=keras.layers.Dense(4, activation="relu"))
    X, _ = draw_images(6)
    with pytest.raises(ValueError, match="'float32' or 'float16' for a network without convolut"):
        export(fit_small(row=row), tmp_path / "a.onnx", precision="int8", calibration_images=X)
    assert not list(tmp_path.iterdir())


PROBLEMS = [
    ({"path": "a.h5"}, ValueError, r"path must end in .onnx, .xml, .tflite, or .* 'a.h5'"),
    ({"path": "a.xml", "format": "onnx"}, ValueError, "received 'a.xml' for format='onnx'"),
    ({"format": "onyx"}, ValueError, "format must be one of 'onnx'.* Did you mean 'onnx'"),
    ({"precision": "float8"}, ValueError, "precision must be one of .*; received 'float8'"),
    ({"path": "a", "precision": "int8"}, ValueError, "precision must be one of 'float32'; "),
    ({"precision": "int8"}, ValueError, "calibration_images must be .* received NoneType for prec"),
    (
        {"precision": "int8", "calibration_images": np.zeros((2, 9, 9), np.uint8)},
        ValueError,
        "calibration_images must hold images of 5x7 pixels",
    ),
    (
        {"calibration_images": np.zeros((2, 5, 7), np.uint8)},
        ValueError,
        "calibration_images must be .*None for any other; received ndarray for precision='float32'",
    ),
]


@pytest.mark.parametrize(("options", "kind", "message"), PROBLEMS)
def test_problems_are_named(clf, tmp_path, monkeypatch, options, kind, message):
    monkeypatch.chdir(tmp_path)
    options = {"path": "a.onnx", **options}
    with pytest.raises(kind, match=message):
        export(clf, options.pop("path"), **options)
    assert not list(tmp_path.iterdir())


def test_only_a_fitted_transfer_classifier_is_exported(clf, tmp_path):
    with pytest.raises(NotFittedError, match="not fitted"):
        export(TransferClassifier(), tmp_path / "a.onnx")
    with pytest.raises(TypeError, match="clf must be a TransferClassifier; received Functional"):
        export(clf.model_, tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("name", "package"), [("onnx", "tf2onnx"), ("onnx", "onnx"), ("openvino", "openvino")]
)
def test_a_missing_package_is_named(clf, tmp_path, monkeypatch, name, package):
    monkeypatch.setattr(
        converters, "find_spec", lambda n: None if n == package else util.find_spec(n)
    )
    message = rf"format=.{name}. needs {package}\. Install it with: pip install {package}"
    with pytest.raises(ImportError, match=message) as raised:
        export(clf, tmp_path / NAMES[name])
    assert raised.value.name == package
    assert not list(tmp_path.iterdir())


def test_the_extra_brings_whatever_a_format_asks_for():
    asked = {package for row in converters.FORMATS for package in row.packages["tensorflow"]} | {
        "onnxruntime"
    }
    extra = PROJECT["project"]["optional-dependencies"]["export"]
    assert asked == {re.match(r"[\w-]+", requirement)[0] for requirement in extra}


def test_a_keras_that_is_too_old_is_named(clf, tmp_path, monkeypatch):
    monkeypatch.setattr(keras, "__version__", "3.12.1")
    message = r"format='litert' needs Keras 3\.13 or later; received 3\.12\.1\. .* \"keras>=3\.13\""
    with pytest.raises(ImportError, match=message) as raised:
        export(clf, tmp_path / "a.tflite")
    assert raised.value.name == "keras"
    assert not list(tmp_path.iterdir())
