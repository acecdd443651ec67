"""Runtimes give the same numbers, are chosen by name or by speed, and say what is wrong."""

from concurrent.futures import ThreadPoolExecutor
from importlib import util

import keras
import numpy as np
import pytest

from exports import draw_images, fit_small, needs_tensorflow
from tlclassify.engines import runtimes as engines
from tlclassify.engines.converters import compile_network
from tlclassify.engines.runners import check_engine, run_batches
from tlclassify.engines.runtimes import OpenVino, choose_engine, list_engines, open_engine
from tlclassify.inputs.images import open_images
from tlclassify.persistence.exporting import export

BOTH = ["openvino", "onnxruntime"]
FILES = [("openvino", "a.xml"), ("openvino", "a.onnx"), ("onnxruntime", "a.onnx")]


@pytest.fixture(scope="module")
def clf():
    return fit_small((5, 7), image_size=12)


@pytest.fixture(scope="module")
def folder(clf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    for name in ("a.xml", "a.onnx"):
        export(clf, folder / name)
    return folder


def hide(monkeypatch, *names):
    monkeypatch.setattr(
        engines, "find_spec", lambda name: None if name in names else util.find_spec(name)
    )


def test_openvino_comes_first():
    assert list_engines() == BOTH
    assert choose_engine("auto").name == "openvino"


def test_auto_takes_what_is_installed(monkeypatch):
    hide(monkeypatch, "openvino")
    assert list_engines() == ["onnxruntime"]
    assert choose_engine("auto").name == "onnxruntime"


PROBLEMS = [
    ({"name": "openvno"}, "engine must be one of 'auto', .* Did you mean 'openvino'"),
    ({"name": "onnxruntime", "suffix": ".xml"}, "'openvino_bfloat16' for a .xml file; .*'onnxru"),
]


@pytest.mark.parametrize(("options", "message"), PROBLEMS)
def test_what_no_engine_does_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        choose_engine(**options)


MISSING = [
    (
        "openvino",
        ".onnx",
        "openvino, which is not installed. Install it with: pip install openvino",
    ),
    ("openvino_bfloat16", ".xml", "='openvino_bfloat16' needs openvino, which is not installed"),
    ("auto", ".xml", "openvino, which is not installed. Install it with: pip install openvino"),
    (
        "auto",
        ".onnx",
        "openvino or onnxruntime, which is not installed. Install it with: pip install openvino",
    ),
]


@pytest.mark.parametrize(("name", "suffix", "message"), MISSING)
def test_a_missing_engine_is_named(monkeypatch, name, suffix, message):
    hide(monkeypatch, *BOTH)
    with pytest.raises(ImportError, match=message) as raised:
        choose_engine(name, suffix=suffix)
    assert raised.value.name == "openvino"


@needs_tensorflow
@pytest.mark.parametrize(("name", "file"), FILES)
def test_an_engine_gives_the_same_numbers(clf, folder, name, file):
    engine = open_engine(folder / file, engine=name, n_threads=1)
    images = draw_images(9, (5, 7), seed=1)[0]
    found = engine.predict_on_batch(images)
    np.testing.assert_allclose(found, clf.predict_proba(images), atol=1e-5)
    assert (engine.name, found.dtype) == (name, np.float32)
    assert engine.inputs == [(None, 5, 7, 3)]
    assert engine.outputs == [(None, 3)]


@needs_tensorflow
@pytest.mark.parametrize(("name", "file"), FILES)
def test_a_batch_is_not_written_over_by_the_next(folder, name, file):
    engine = open_engine(folder / file, engine=name)
    images = draw_images(8, (5, 7), seed=1)[0]
    first = engine.predict_on_batch(images[:4])
    before = first.copy()
    engine.predict_on_batch(images[4:])
    np.testing.assert_array_equal(first, before)


@needs_tensorflow
@pytest.mark.parametrize("n_threads", [None, 1])
@pytest.mark.parametrize("n_images", [2, 63, 64, 65, 200])
def test_any_number_of_images_comes_out_in_order(clf, folder, n_images, n_threads):
    engine = open_engine(folder / "a.xml", engine="openvino", n_threads=n_threads)
    images = draw_images(n_images, (5, 7), seed=1)[0]
    found = engine.predict_on_batch(images)
    np.testing.assert_allclose(found, clf.predict_proba(images), atol=1e-5)


@needs_tensorflow
def test_wide_layers_run_on_one_image_at_once():
    inputs = keras.Input((96, 96, 3), dtype="uint8")
    x = keras.layers.Conv2D(256, 1)(keras.ops.cast(inputs, "float32") / 255)
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    engine = compile_network(network, engine="openvino")
    images = draw_images(5, (96, 96), seed=1)[0]
    found = engine.predict_on_batch(images)
    np.testing.assert_allclose(found, network.predict_on_batch(images), atol=1e-4)
    assert engine.n_rows == 1


@needs_tensorflow
@pytest.mark.parametrize(("name", "file"), FILES)
def test_threads_may_share_an_engine(folder, name, file):
    engine = open_engine(folder / file, engine=name)
    batches = [draw_images(8, (5, 7), seed=seed)[0] for seed in range(20)]
    expected = [engine.predict_on_batch(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine.predict_on_batch, batches))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@needs_tensorflow
@pytest.mark.parametrize(("name", "file"), FILES)
def test_an_engine_stands_where_a_model_stood(clf, folder, name, file):
    engine = open_engine(folder / file, engine=name)
    images = draw_images(11, (5, 7), seed=1)[0]
    found = np.concatenate(list(run_batches(engine, open_images(images), batch_size=4)))
    np.testing.assert_allclose(found, clf.predict_proba(images), atol=1e-5)


@needs_tensorflow
def test_bfloat16_is_near_where_the_processor_has_it(clf):
    if "BF16" not in engines.list_capabilities():
        pytest.skip("the processor has no bfloat16")
    images = draw_images(9, (5, 7), seed=1)[0]
    engine = compile_network(clf.backbone_, engine="openvino_bfloat16")
    narrow, expected = engine.predict_on_batch(images), clf.backbone_.predict_on_batch(images)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(narrow, expected, atol=0.05 * scale)
    assert np.abs(narrow - expected).max() > 1e-4 * scale
    assert engine.name == "openvino_bfloat16"


def test_bfloat16_needs_a_processor_that_has_it(monkeypatch):
    monkeypatch.setattr(engines, "list_capabilities", lambda: ("FP32", "INT8"))
    message = "='openvino_bfloat16' needs a processor .*has FP32, INT8. Pass engine='openvino'"
    with pytest.raises(ValueError, match=message):
        choose_engine("openvino_bfloat16")
    assert choose_engine("openvino").name == "openvino"


@needs_tensorflow
def test_float32_is_computed_unless_another_is_asked_for(clf, folder):
    """OpenVINO would choose bfloat16 by itself where the processor has it."""
    images = draw_images(9, (5, 7), seed=1)[0]
    found = open_engine(folder / "a.xml").predict_on_batch(images)
    np.testing.assert_allclose(found, clf.predict_proba(images), atol=1e-5)


@pytest.mark.parametrize(("name", "file"), FILES)
def test_what_is_no_graph_is_named(tmp_path, name, file):
    (tmp_path / file).write_bytes(b"not a graph")
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=f"path must name a graph .*{file}' cannot be read"):
        open_engine(tmp_path / file, engine=name)


@pytest.mark.parametrize("name", BOTH)
def test_a_graph_of_something_else_is_named(tmp_path, name):
    from onnx import TensorProto, helper, save

    ports = [
        helper.make_tensor_value_info(port, TensorProto.FLOAT, ["n", 4]) for port in ("x", "y")
    ]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    save(model, tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"cannot be read as one .*it has inputs \[\(None, 4\)\]"):
        open_engine(tmp_path / "a.onnx", engine=name)


@needs_tensorflow
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("part", ["backbone_", "map"])
def test_a_network_is_compiled_in_place(clf, name, part):
    """The features, and a feature map, as a fit runs them."""
    network = clf.backbone_
    if part == "map":
        network = keras.Model(network.input, network.get_layer("two").output)
    engine = compile_network(network, engine=name)
    images = draw_images(9, (5, 7), seed=1)[0]
    expected = network.predict_on_batch(images)
    found = engine.predict_on_batch(images)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert (engine.name, engine.metadata) == (name, None)
    assert engine.outputs == [network.output_shape]


MISSING_CONVERTERS = [
    ("tensorflow", "onnxruntime", "tf2onnx"),
    ("jax", "onnxruntime", "jax2onnx"),
    ("jax", "openvino", "jax2onnx"),
]


@pytest.mark.parametrize(("backend", "engine", "package"), MISSING_CONVERTERS)
def test_a_missing_converter_is_named(monkeypatch, backend, engine, package):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(
        "tlclassify.engines.converters.find_spec", lambda name: None if name == package else name
    )
    with pytest.raises(ImportError, match=f"engine='{engine}' needs {package}.*pip install"):
        check_engine(engine)


def test_a_backend_that_has_no_converter_is_named(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ImportError, match="needs Keras on tensorflow or jax; received .*'torch'"):
        check_engine("openvino")
    assert check_engine("auto") == "keras"


@needs_tensorflow
@pytest.mark.parametrize("name", BOTH)
def test_what_keras_standardizes_comes_out(name):
    """The converter to ONNX loses the numbers of such a layer where Keras keeps them."""
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    adapted = keras.layers.Normalization()
    adapted.build((None, 4, 4, 3))
    adapted.set_weights([np.array([1.0, 2, 3]), np.array([4.0, 5, 6]), np.array(1)])
    adapted.finalize_state()
    x = keras.layers.Normalization(mean=[7.0, 8, 9], variance=[1.0, 2, 3])(
        keras.ops.cast(inputs, "float32")
    )
    network = keras.Model(inputs, keras.layers.Conv2D(2, 1)(adapted(x)))
    images = draw_images(3, (4, 4))[0]
    found = compile_network(network, engine=name).predict_on_batch(images)
    np.testing.assert_allclose(found, network.predict_on_batch(images), rtol=1e-4, atol=1e-4)


@needs_tensorflow
@pytest.mark.parametrize(("n_images", "compiled"), [(3, 1), (128, 1), (129, 2)])
def test_a_graph_is_compiled_only_for_what_comes(folder, monkeypatch, n_images, compiled):
    hints, original = [], OpenVino._compile
    monkeypatch.setattr(
        OpenVino, "_compile", lambda *given: hints.append(given) or original(*given)
    )
    engine = open_engine(folder / "a.xml", engine="openvino", n_threads=1)
    for _ in range(2):
        engine.predict_on_batch(draw_images(n_images, (5, 7))[0])
    assert len(hints) == compiled
