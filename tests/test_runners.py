"""A network says the same whatever engine runs it, and the engine is opened once."""

import copy
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import util
from threading import Barrier

import keras
import numpy as np
import pytest

from tlclassify.analysis.calibration import with_temperature
from tlclassify.engines import runners
from tlclassify.engines.runners import Runner, check_engine
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.inputs.augmentation import Augmentation
from tlclassify.networks import cuts
from tlclassify.networks.backbones import build_backbone
from tlclassify.training.stages import Stage

HEAD = Stage(2, learning_rate=0.05, batch_size=8)
ENGINES = ["openvino", "onnxruntime"]
needs_engines = pytest.mark.skipif(
    keras.backend.backend() == "torch"
    or (keras.backend.backend() == "jax" and not util.find_spec("jax2onnx")),
    reason="engines take JAX's graphs through jax2onnx",
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

    def counting(network, *, engine):
        compiled.append(engine)
        return original(network, engine=engine)

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
    extractor = FeatureExtractor(tiny, weights=None, random_state=0, engine="openvino", verbose=0)
    expected = extractor.transform(images[0])
    restored = pickle.loads(pickle.dumps(extractor))
    np.testing.assert_allclose(restored.transform(images[0]), expected, atol=1e-5)


@needs_engines
def test_bfloat16_is_asked_for_by_name(tiny, images):
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("the processor has no bfloat16")
    network = build_backbone(tiny, image_shape=(8, 8), weights=None, random_state=0)
    runner = Runner(network, "openvino_bfloat16")
    difference = np.abs(runner.predict_on_batch(images[0]) - network.predict_on_batch(images[0]))
    assert 1e-5 < difference.max() < 0.1
    assert check_engine("auto") != "openvino_bfloat16"


@needs_engines
@pytest.mark.parametrize(
    ("share", "is_cached"),
    [(copy.copy, True), (partial(with_temperature, temperature=2.0), False)],
    ids=["copy, stored", "temperature"],
)
def test_an_engine_follows_who_trains_the_same_layers(make_clf, images, tmp_path, share, is_cached):
    """A warm start trains layers in place, those of copies too."""
    pytest.importorskip("openvino")
    X, y = images
    clf = make_clf(head_stage=HEAD).fit(X, y)
    other = share(clf).set_params(engine="openvino", cache_dir=tmp_path if is_cached else None)
    before = other.predict_proba(X)
    tuned = Stage(2, unfreeze="all", learning_rate=0.01, batch_size=8)
    clf.set_params(warm_start=True, head_stage=None, fine_tune_stage=tuned).fit(X, y)
    found = other.predict_proba(X)
    assert np.abs(found - before).max() > 0.01
    np.testing.assert_allclose(found, other.model_.predict_on_batch(X), atol=1e-5)


@needs_engines
def test_a_callback_predicts_with_the_weights_of_its_epoch(make_clf, images):
    pytest.importorskip("openvino")
    X, y = images
    clf, differences = make_clf(head_stage=HEAD).fit(X, y), []
    other = copy.copy(clf).set_params(engine="openvino")

    class Predict(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            found = other.predict_proba(X)
            differences.append(np.abs(found - other.model_.predict_on_batch(X)).max())

    clf.set_params(warm_start=True, callbacks=[Predict()]).fit(X, y)
    assert len(differences) == 2
    assert max(differences) < 1e-5


@needs_engines
def test_networks_are_fingerprinted_only_after_training(make_clf, images, opened, monkeypatch):
    """That takes longer than an image; and training another network closes no engine."""
    pytest.importorskip("openvino")
    X, y = images
    clf = make_clf(head_stage=HEAD).fit(X, y).set_params(engine="openvino")
    clf.predict_proba(X)
    digests, original = [], cuts.fingerprint_model
    monkeypatch.setattr(
        cuts,
        "fingerprint_model",
        lambda network: digests.append(network) or original(network),
    )
    for _ in range(3):
        clf.set_params(batch_size=8).predict_proba(X)
    assert digests == []
    n_opened = len(opened)
    make_clf(head_stage=HEAD).fit(X, y)
    for _ in range(3):
        clf.predict_proba(X)
    assert digests == [clf.model_]
    assert len(opened) == n_opened


def test_fit_lets_go_of_its_runner_however_it_ends(make_clf, tiny, images):
    """It would keep the last fit's network alive."""
    X, y = images

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert len(clf.predict(X[:2])) == 2
            raise KeyboardInterrupt("now")

    clf = make_clf(head_stage=HEAD).fit(X, y)
    with pytest.raises(KeyboardInterrupt, match="now"):
        clf.set_params(warm_start=True, callbacks=[Stop()]).fit(X, y)
    assert not clf._runners
    extractor = FeatureExtractor(tiny, weights=None, verbose=0)
    extractor.transform(X[:2])
    assert not extractor.fit(X[:2])._runners


@needs_engines
def test_threads_open_an_engine_once(make_clf, images, opened):
    pytest.importorskip("openvino")
    X, y = images
    clf = make_clf(head_stage=HEAD, batch_size=8).fit(X, y)
    expected = clf.predict_proba(X)
    clf.set_params(engine="openvino")
    together = Barrier(4)

    def predict(_):
        together.wait()
        return clf.predict_proba(X)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predict, range(4)))
    assert opened == ["openvino"]
    np.testing.assert_allclose(found, [expected] * 4, atol=1e-5)


@pytest.mark.graphs
@needs_engines
def test_no_advice_comes_of_many_networks(tiny, images):
    """Nor where the user runs a network by Keras alone."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("tensorflow").addHandler(handler)
    try:
        for _ in range(7):
            network = build_backbone(tiny, image_shape=(8, 8), weights=None)
            network.predict(images[0], verbose=0)
    finally:
        logging.getLogger("tensorflow").removeHandler(handler)
    assert [record.getMessage() for record in records] == []


def hide(monkeypatch, *names):
    """Let packages look as if they were not installed."""
    for module in ("runtimes", "converters"):
        monkeypatch.setattr(
            f"tlclassify.engines.{module}.find_spec",
            lambda name: None if name in names else util.find_spec(name),
        )


CONVERTER = "jax2onnx" if keras.backend.backend() == "jax" else "tf2onnx"
AUTO = [
    ((), "openvino"),
    (("openvino",), "onnxruntime"),
    (("openvino", CONVERTER), "keras"),
    (("openvino", "onnx"), "keras"),
    (("openvino", "onnxruntime"), "keras"),
]


@needs_engines
@pytest.mark.parametrize(("missing", "expected"), AUTO)
def test_auto_is_the_first_that_is_whole(monkeypatch, missing, expected):
    for name in ("openvino", "onnxruntime", "onnx", CONVERTER):
        pytest.importorskip(name)
    hide(monkeypatch, *missing)
    assert check_engine("auto") == expected


@pytest.fixture
def odd(tiny):
    """The tiny backbone with a step that no converter knows."""
    return replace(tiny, builder=lambda x: tiny.builder(keras.ops.erfinv(x / 2)))


@needs_engines
def test_auto_turns_to_keras_where_converting_fails(odd, images, tmp_path):
    pytest.importorskip("openvino")
    X, _ = images
    extractor = FeatureExtractor(odd, weights=None, random_state=0, verbose=0)
    expected = extractor.transform(X)
    extractor.set_params(engine="auto", cache_dir=tmp_path)
    with pytest.warns(UserWarning, match=r"engine='auto' runs this network on Keras: .*Erfinv"):
        found = extractor.transform(X)
    np.testing.assert_array_equal(found, expected)
    assert [len(path.name) for path in tmp_path.iterdir()] == [64]
    # It is not tried again.
    np.testing.assert_array_equal(extractor.transform(X[:2]), expected[:2])


@needs_engines
def test_what_keras_ran_for_auto_is_kept_as_keras_s(odd, images, tmp_path):
    pytest.importorskip("openvino")
    clf = TransferClassifier(
        odd,
        weights=None,
        head_stage=HEAD,
        fine_tune_stage=Stage(1, unfreeze=1, batch_size=8),
        engine="auto",
        cache_dir=tmp_path,
        verbose=0,
    )
    with pytest.warns(UserWarning, match="engine='auto' runs this network on Keras"):
        clf.fit(*images)
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 2
    assert not any(name.endswith("openvino") for name in names)


@needs_engines
def test_a_named_engine_says_what_it_cannot_run(odd, images, engine):
    message = f"engine='{engine}' cannot run this network .*Erfinv.*Pass engine='keras'"
    with pytest.raises(ValueError, match=message):
        FeatureExtractor(odd, weights=None, engine=engine, verbose=0).transform(images[0])


@needs_engines
def test_mixed_precision_is_left_to_keras(tiny, images, engine):
    X, _ = images
    extractor = FeatureExtractor(tiny, weights=None, random_state=0, verbose=0)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        expected = extractor.transform(X)
    finally:
        keras.config.set_dtype_policy("float32")
    found = extractor.set_params(engine="auto").transform(X)
    np.testing.assert_array_equal(found, expected)
    message = f"engine='{engine}' cannot run this network .*does not compute in float32.*keras"
    with pytest.raises(ValueError, match=message):
        extractor.set_params(engine=engine).transform(["is not looked at.png"])


BAD_ENGINES = [
    ("openvimo", ValueError, "engine must be one of 'keras', 'auto', .*'openvimo'"),
    ("onnxruntime", ImportError, "engine='onnxruntime' needs tf2onnx. Install it"),
    ("openvino_bfloat16", ValueError, "needs a processor that .*this one has FP32.*='openvino'"),
]


@needs_engines
@pytest.mark.parametrize(("engine", "kind", "message"), BAD_ENGINES)
def test_an_engine_is_checked_before_images_are_read(
    make_clf, tiny, images, monkeypatch, engine, kind, message
):
    for name in ("openvino", "onnxruntime"):
        pytest.importorskip(name)
    clf = make_clf(head_stage=HEAD).fit(*images)
    extractor = FeatureExtractor(tiny, weights=None, verbose=0).fit(images[0])
    hide(monkeypatch, "tf2onnx")
    monkeypatch.setattr("tlclassify.engines.runtimes.list_capabilities", lambda: ("FP32",))
    files = ["is not looked at.png"]
    for estimator in (clf, extractor):
        estimator.set_params(engine=engine)
        with pytest.raises(kind, match=message):
            estimator.fit(files, ["a"])
    with pytest.raises(kind, match=message):
        clf.predict(files)
    with pytest.raises(kind, match=message):
        extractor.transform(files)


def test_an_engine_that_is_not_there(make_clf, images, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "tensorflow")
    hide(monkeypatch, *ENGINES)
    with pytest.raises(ImportError, match="engine='openvino' needs openvino.*pip install"):
        make_clf(engine="openvino").fit(*images)
