"""A network says the same whatever engine runs it, and the engine is opened once."""

import pickle

import keras
import numpy as np
import pytest

from tlclassify import runners
from tlclassify.augmentation import Augmentation
from tlclassify.backbones import build_backbone
from tlclassify.features import FeatureExtractor
from tlclassify.runners import Runner, check_engine
from tlclassify.stages import Stage

HEAD = Stage(3, learning_rate=0.05, batch_size=8)
ENGINES = ["openvino", "onnxruntime"]
needs_engines = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="engines take TensorFlow's graphs"
)


@pytest.fixture(params=ENGINES)
def engine(request):
    """An engine that is installed."""
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def opened(monkeypatch):
    """Which networks an engine was opened for."""
    compiled = []
    original = runners.compile_network

    def counting(network, *, engine, precision):
        compiled.append(engine)
        return original(network, engine=engine, precision=precision)

    monkeypatch.setattr(runners, "compile_network", counting)
    return compiled


@needs_engines
def test_a_network_says_the_same_on_every_engine(tiny, images, engine):
    network = build_backbone(tiny, image_shape=(8, 8), weights=None, random_state=0)
    np.testing.assert_allclose(
        Runner(network, engine).predict_on_batch(images[0]),
        network.predict_on_batch(images[0]),
        atol=1e-5,
    )


@needs_engines
def test_embeddings_are_the_same_and_the_engine_is_opened_once(tiny, images, engine, opened):
    params = {"weights": None, "random_state": 0, "verbose": 0}
    expected = FeatureExtractor(tiny, **params).transform(images[0])
    assert opened == []
    extractor = FeatureExtractor(tiny, engine=engine, **params)
    for _ in range(2):
        np.testing.assert_allclose(extractor.transform(images[0]), expected, atol=1e-5)
    assert opened == [engine]
    assert extractor.set_params(engine="keras").transform(images[0]).shape == expected.shape
    assert opened == [engine]


@needs_engines
@pytest.mark.parametrize("augmentation", [None, Augmentation(horizontal_flip=True)])
def test_fit_and_predict_are_the_same(make_clf, images, engine, opened, augmentation):
    X, y = images
    params = {"head_stage": HEAD, "validation_fraction": 0.2, "augmentation": augmentation}
    expected = make_clf(**params).fit(X, y).predict_proba(X)
    found = make_clf(**params, engine=engine).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # The frozen part, and then the whole model.
    assert opened == [engine, engine]


@needs_engines
def test_predictions_follow_a_new_fit(make_clf, images, tmp_path):
    pytest.importorskip("openvino")
    X, y = images
    clf = make_clf(head_stage=HEAD, engine="openvino").fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(head_stage=Stage(1, learning_rate=1e-4)).fit(X, y)
    assert np.abs(clf.predict_proba(X) - before).max() > 0.01
    np.testing.assert_allclose(
        clf.predict_proba(X), clf.set_params(engine="keras").predict_proba(X), atol=1e-5
    )


@needs_engines
def test_engines_do_not_mix_in_a_cache(tiny, images, tmp_path, runs):
    pytest.importorskip("openvino")
    params = {"weights": None, "random_state": 0, "verbose": 0, "cache_dir": tmp_path}
    for engine, n_runs in (("keras", 24), ("openvino", 48), ("openvino", 48), ("keras", 48)):
        FeatureExtractor(tiny, engine=engine, **params).transform(images[0])
        assert sum(runs) == n_runs
    assert sorted(len(path.name) for path in tmp_path.iterdir()) == [64, 64 + len("-openvino")]


@needs_engines
def test_what_is_run_on_from_another_engines_outputs_is_kept_apart(make_clf, images, tmp_path):
    pytest.importorskip("openvino")
    X, y = images
    stages = {"head_stage": HEAD, "fine_tune_stage": Stage(1, unfreeze=1, batch_size=8)}
    for engine in ("keras", "openvino"):
        make_clf(**stages, cache_dir=tmp_path, engine=engine).fit(X, y)
    names = [path.name for path in tmp_path.iterdir()]
    assert sum("-from-" in name for name in names) == 2
    assert sum(name.endswith("-openvino") for name in names) == 2


@needs_engines
def test_an_extractor_with_an_open_engine_is_pickled(tiny, images):
    pytest.importorskip("openvino")
    extractor = FeatureExtractor("mobilenet_micro", engine="openvino", verbose=0)
    expected = extractor.transform(images[0])
    restored = pickle.loads(pickle.dumps(extractor))
    np.testing.assert_allclose(restored.transform(images[0]), expected, atol=1e-5)


@needs_engines
def test_bfloat16_is_asked_for_by_name(tiny, images):
    openvino = pytest.importorskip("openvino")
    network = build_backbone(tiny, image_shape=(8, 8), weights=None, random_state=0)
    runner = Runner(network, "openvino_bfloat16")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(ValueError, match="precision='bfloat16' needs a processor"):
            runner.predict_on_batch(images[0])
        return
    difference = np.abs(runner.predict_on_batch(images[0]) - network.predict_on_batch(images[0]))
    assert 1e-5 < difference.max() < 0.1
    assert check_engine("auto") != "openvino_bfloat16"


@needs_engines
def test_auto_is_the_fastest_that_is_installed(monkeypatch):
    monkeypatch.setattr(runners, "list_engines", list)
    assert check_engine("auto") == "keras"
    monkeypatch.setattr(runners, "list_engines", lambda: ["onnxruntime"])
    monkeypatch.setattr("tlclassify.engines.list_engines", lambda: ["onnxruntime"])
    assert check_engine("auto") == "onnxruntime"


def test_an_engine_that_is_not_there(make_clf, images, monkeypatch):
    with pytest.raises(ValueError, match="engine must be one of 'keras', 'auto', .*'openvimo'"):
        make_clf(engine="openvimo").fit(*images)
    monkeypatch.setattr("keras.backend.backend", lambda: "tensorflow")
    monkeypatch.setattr("tlclassify.engines.list_engines", list)
    with pytest.raises(ImportError, match="engine='openvino' needs openvino.*pip install"):
        make_clf(engine="openvino").fit(*images)
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    assert check_engine("auto") == "keras"
    with pytest.raises(RuntimeError, match="engine='openvino' needs Keras on TensorFlow"):
        check_engine("openvino")
