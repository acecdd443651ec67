"""Every row is held against the network of ``keras.applications`` that it stands for."""

import importlib
import pickle
import random
import re
from collections import deque
from dataclasses import replace

import keras
import numpy as np
import pytest

from tlclassify.inputs.splits import seeded
from tlclassify.networks import backbones
from tlclassify.networks.backbones import (
    build_backbone,
    choose_image_size,
    get_backbone,
    list_backbones,
    register_backbone,
)
from tlclassify.networks.cuts import cut_points, fingerprint_model
from tlclassify.networks.rows import BUILT_IN, STANDARDIZED, Backbone, Scaling
from tlclassify.training.stages import Stage

FROM_KERAS = [row for row in BUILT_IN if isinstance(row.builder, str)]
OF_A_FAMILY = {
    "mobilenet_025",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet50",
    "resnet50_v2",
    "vgg16",
    "densenet121",
    "inception_v3",
    "xception",
    "nasnet_mobile",
    "efficientnet_b0",
    "efficientnet_v2_b0",
    "convnext_tiny",
}
ROWS = [
    pytest.param(row, id=row.name, marks=[] if row.name in OF_A_FAMILY else pytest.mark.slow)
    for row in FROM_KERAS
]
PIXELS = np.random.default_rng(0).integers(0, 256, (1, 160, 160, 3), dtype=np.uint8)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_agrees_with_keras(row):
    """Function by name, width, weights, cut points, and what becomes of raw RGB."""
    assert re.sub("_0..$|_", "", row.name) == row.builder.lower()
    build = getattr(keras.applications, row.builder)
    if row.builder == "NASNetMobile" and keras.backend.backend() == "torch":
        pytest.skip("Keras has no NASNetMobile on PyTorch")
    options = {} if row.width == 1 else {"alpha": row.width}
    # Only shapes, graphs and scaling are looked at: the largest have 1.4 GB of weights.
    with keras.StatelessScope(initialize_variables=False):
        ours = build_backbone(row, image_shape=(160, 160), image_size=160, weights=None)
        theirs = build(include_top=False, weights=None, input_shape=(160, 160, 3), **options)
    assert ours.output_shape == theirs.output_shape
    assert ours.output_shape[-1] == row.n_features
    assert ours.count_params() == theirs.count_params() == row.n_parameters
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]
    module = importlib.import_module(getattr(keras.applications, row.builder).__module__)
    expected = below_weights(theirs)(module.preprocess_input(PIXELS.astype(np.float32)))
    np.testing.assert_allclose(below_weights(ours)(PIXELS), expected, atol=2e-4)
    assert_cut_points(ours)


def below_weights(model):
    """What comes out below the first layer with weights."""
    first = next(item for item in model.operations if getattr(item, "weights", None))
    return keras.Model(model.input, first.input)


def assert_cut_points(model):
    """Breadth-first search: without a cut point's layer nothing reaches the output."""
    found = set(cut_points(model))
    producers = {
        id(tensor): operation
        for operation in model.operations
        for tensor in keras.tree.flatten(operation.output)
    }
    below = {
        operation.name: [producers[id(t)].name for t in keras.tree.flatten(operation.input)]
        for operation in model.operations
        if not isinstance(operation, keras.layers.InputLayer)
    }
    last = model.operations[-1].name
    names = [op.name for op in model.operations if isinstance(op, keras.layers.Layer)]
    sample = names[:: max(1, len(names) // 60)]
    for name in {*sample, *list(found)[::5]} - {last, "images"}:
        assert (name in found) is not reaches_input(below, last, without=name), name


def reaches_input(below, start, without):
    queue, seen = deque([start]), {start, without}
    while queue:
        name = queue.popleft()
        if name == "images":
            return True
        for lower in below[name]:
            if lower not in seen:
                seen.add(lower)
                queue.append(lower)
    return False


def test_every_classifier_of_keras_has_a_row():
    offered = {name for name in dir(keras.applications) if name[0].isupper()}
    assert offered == {row.builder for row in FROM_KERAS}
    assert len(list_backbones()) == len(set(list_backbones())) >= len(BUILT_IN)


@pytest.mark.parametrize("name", ["mobilenet_micro", "alexnet"])
def test_networks_built_here_are_as_their_rows_say(name):
    row = get_backbone(name)
    model = build_backbone(row, image_shape=(8, 8), weights=None)
    assert model.output_shape[-1] == row.n_features
    assert model.count_params() == row.n_parameters
    assert_cut_points(model)


def test_alexnet_has_the_maps_of_the_paper():
    assert build_backbone("alexnet", image_shape=(227, 227), weights=None).output_shape[1:3] == (
        6,
        6,
    )


def test_untrained_features_neither_vanish_nor_explode():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    model = build_backbone("mobilenet_micro", image_shape=(32, 32), weights=None, random_state=0)
    assert 1e-3 < model.predict_on_batch(images).std() < 1e3


@pytest.mark.parametrize("shape", [(8, 8), (6, 8), (8, 5), (5, 7), (40, 21), (300, 140), (9, 200)])
def test_images_are_resized_as_by_keras(tiny, shape):
    """Enlarged, shrunk, along one side only; with large images in several products."""
    images = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    model = build_backbone(tiny, image_shape=shape, weights=None)
    resized = keras.Model(model.input, model.get_layer("scaling").input)(images)
    layer = keras.layers.Resizing(8, 8, interpolation="bicubic", antialias=max(shape) > 8)
    np.testing.assert_allclose(resized, layer(images.astype(np.float32)), atol=1e-3)


def test_raw_rgb_is_resized_and_scaled_inside(tiny):
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3), dtype=np.uint8)
    model = build_backbone(tiny, image_shape=(6, 5), weights=None)
    by_hand = (
        keras.layers.Resizing(8, 8, interpolation="bicubic")(images.astype(np.float32)) / 127.5 - 1
    )
    one = keras.Model(model.get_layer("scaling").output, model.output)
    np.testing.assert_allclose(
        model.predict_on_batch(images), one.predict_on_batch(by_hand), atol=1e-5
    )
    assert model.input.dtype == "uint8"


def test_shrinking_does_not_skip_pixels(tiny):
    model = build_backbone(tiny, image_shape=(64, 64), weights=None)
    images = np.zeros((1, 64, 64, 3), np.uint8)
    images[:, ::8] = 255
    scaled = keras.Model(model.input, model.get_layer("scaling").output).predict_on_batch(images)
    assert abs(scaled.mean() - (255 / 8 / 127.5 - 1)) < 0.05
    assert scaled.std() < 0.3


@pytest.mark.parametrize(
    ("name", "side", "size"),
    [
        ("mobilenet", 8, 128),
        ("mobilenet", 32, 128),
        ("mobilenet", 85, 128),
        ("mobilenet", 86, 160),
        ("mobilenet", 128, 192),
        ("mobilenet", 150, 224),
        ("mobilenet", 4000, 224),
        ("inception_v3", 32, 160),
        ("inception_v3", 290, 288),
        ("inception_v3", 4000, 299),
        ("mobilenet_micro", 8, 32),
        ("mobilenet_micro", 500, 32),
        ("alexnet", 32, 128),
    ],
)
def test_the_size_policy(name, side, size):
    assert choose_image_size(get_backbone(name), side) == size


def test_a_small_feature_map_warns_with_its_cost():
    with pytest.warns(UserWarning, match=r"1x1.*0\.52 at 32 px.*image_size=128"):
        build_backbone("mobilenet_025", image_shape=(32, 32), image_size=32, weights=None)


def test_too_small_a_size_is_an_error():
    with pytest.raises(ValueError, match="at least 75 for 'inception_v3'; received 32"):
        build_backbone("inception_v3", image_shape=(32, 32), image_size=32, weights=None)


def test_an_unknown_name_gets_the_closest_match():
    with pytest.raises(ValueError, match="received 'mobilnet'.*mean 'mobilenet'"):
        get_backbone("mobilnet")


def test_seeds_decide_random_weights_and_touch_nothing_else(tiny):
    state = random.getstate()
    first, second, other = (
        build_backbone(tiny, image_shape=(8, 8), weights=None, random_state=seed).get_weights()
        for seed in (1, 1, 2)
    )
    assert random.getstate() == state
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])
    with seeded(None):
        pass
    assert random.getstate() == state


@pytest.fixture
def own():
    """A model with weights of its own, on images of 8 pixels in [0, 1]."""
    inputs = keras.Input((8, 8, 3), name="own_images")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    y = keras.layers.Conv2D(4, 3, padding="same", name="first")(x)
    y = keras.layers.BatchNormalization(name="norm")(y)
    return keras.Model(inputs, keras.layers.ReLU(name="relu")(y * 2), name="own")


@pytest.mark.parametrize("kind", ["functional", "sequential", "row"])
def test_a_model_is_a_backbone(own, kind):
    """On raw RGB, laid out in one graph, with its own weights, as a copy."""
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    scaling = Scaling(0.5, 3.0, bgr=True) if kind == "row" else Scaling()
    if kind == "sequential":
        parts = [keras.layers.Conv2D(4, 3, name="first"), keras.layers.ReLU(name="relu")]
        own = keras.Sequential([keras.Input((None, None, 3)), *parts])
    backbone = replace(get_backbone(own), scaling=scaling, native_size=8, small_size=8)
    network = build_backbone(backbone, image_shape=(16, 16))
    pixels = keras.layers.Resizing(8, 8, interpolation="bicubic", antialias=True)(
        images.astype(np.float32)
    )
    if kind == "row":
        pixels = (keras.ops.convert_to_numpy(pixels) * 0.5 + 3.0)[..., ::-1].copy()
    expected = own.predict_on_batch(pixels)
    np.testing.assert_allclose(network.predict_on_batch(images), expected, rtol=1e-4, atol=1e-4)
    assert "first" in cut_points(network)
    network.get_layer("first").set_weights(
        [2 * weight for weight in network.get_layer("first").get_weights()]
    )
    np.testing.assert_array_equal(own.predict_on_batch(pixels), expected)


def test_the_weights_of_a_model_are_its_pretrained_ones(own, tmp_path):
    random_one = build_backbone(own, image_shape=(8, 8), weights=None, random_state=0)
    assert get_backbone(own).native_size == 8
    kernel = own.get_layer("first").get_weights()[0]
    assert not np.array_equal(random_one.get_layer("first").get_weights()[0], kernel)
    random_one.save_weights(tmp_path / "a.weights.h5")
    loaded = build_backbone(own, image_shape=(8, 8), weights=tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(loaded.get_weights()[0], random_one.get_weights()[0])


UNFIT = [
    (lambda: keras.Sequential([keras.layers.Conv2D(4, 3)], name="unbuilt"), r"'unbuilt' from \[\]"),
    (
        lambda: keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Reshape((2, 4, 8, 3))]),
        r"\(None, 2, 4, 8, 3\)",
    ),
    (
        lambda: keras.applications.MobileNet(weights=None, alpha=0.25, classes=5),
        r"\(None, 5\)",
    ),
    (lambda: keras.Sequential([keras.Input((8, 6, 3)), keras.layers.ReLU()]), r"\(None, 8, 6, 3\)"),
    (lambda: keras.Sequential([keras.Input((8, 8, 1)), keras.layers.ReLU()]), r"\(None, 8, 8, 1\)"),
]


@pytest.mark.parametrize(("make", "message"), UNFIT)
def test_a_model_that_is_no_backbone_is_refused(make, message):
    with pytest.raises(ValueError, match=f"to a feature map .*received .*{message}.*Cut off"):
        get_backbone(make())


class Scaled(keras.layers.Layer):
    """A layer that Keras cannot make again from what it says of itself."""

    def __init__(self, factor):
        super().__init__(name="scaled")
        self.factor = factor

    def call(self, x):
        return x * self.factor


@pytest.mark.parametrize("parameter", ["backbone", "head", "augmentation"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Scaled(2.0), "'scaled', .*unexpected keyword"),
        (lambda: Scaled(np.ones(3, np.float32)), "'scaled', .*get_config"),
        (lambda: keras.layers.Lambda(lambda x: x, name="mine"), "'mine', .*Python lambda"),
    ],
)
def test_a_layer_that_keras_cannot_copy_is_named(make_clf, images, runs, parameter, make, reason):
    """Before any image is run."""
    layer = make()
    inputs = keras.Input((8, 8, 3))
    own = keras.Model(inputs, keras.layers.Conv2D(4, 3)(layer(inputs)))
    value = {"backbone": own, "head": layer, "augmentation": [layer]}[parameter]
    clf = make_clf(fine_tune_stage=Stage(1, unfreeze="all")).set_params(**{parameter: value})
    with pytest.raises(ValueError, match=f"{parameter} must have layers .*{reason}.*Give the"):
        clf.fit(*images)
    assert not runs


def test_a_function_is_a_backbone(tiny):
    assert build_backbone(tiny.builder, image_shape=(8, 8), weights=None).output_shape[-1] == 12
    with pytest.raises(TypeError, match="a function or a list of them; received int"):
        get_backbone(3)


@pytest.mark.parametrize("builder", [keras.ops.mean, lambda x: None])
def test_a_backbone_ends_in_features(tiny, builder):
    with pytest.raises(ValueError, match="'tiny' must end in a feature map .* or in features"):
        build_backbone(replace(tiny, builder=builder), image_shape=(8, 8), weights=None)


@pytest.mark.parametrize(
    ("setting", "value", "before"),
    [("image_data_format", "channels_first", "channels_last"), ("floatx", "float16", "float32")],
)
def test_settings_of_keras_that_change_networks_are_named(tiny, setting, value, before):
    change = getattr(keras.config, f"set_{setting}")
    change(value)
    try:
        with pytest.raises(
            ValueError, match=rf"{setting}.* '{value}'. Call .*set_{setting}\('{before}"
        ):
            build_backbone(tiny, image_shape=(8, 8), weights=None)
    finally:
        change(before)


def two_inside(number):
    """A network with a graph inside, whose layers have names that Keras has numbered."""
    for _ in range(number):
        keras.layers.Dense(1)
    inner = keras.Input((8, 8, 3))
    inside = keras.Model(inner, keras.layers.Dense(2)(keras.layers.Dense(3)(inner)))
    inputs = keras.Input((8, 8, 3))
    x = keras.ops.matmul(keras.ops.take(inputs, [2, 1, 0], axis=-1), np.eye(3, dtype=np.float32))
    model = keras.Model(inputs, inside(x * 0.5)[:, 1:5])
    model.set_weights([np.full(weight.shape, 0.25) for weight in model.weights])
    return model


def test_equal_functions_have_equal_fingerprints(tmp_path):
    """Whatever Keras has named their layers, and after saving and pickling."""
    model = two_inside(0)
    expected = fingerprint_model(model)
    model.save(tmp_path / "a.keras")
    assert fingerprint_model(two_inside(3)) == expected
    assert fingerprint_model(keras.models.load_model(tmp_path / "a.keras")) == expected
    assert fingerprint_model(pickle.loads(pickle.dumps(model))) == expected
    model.set_weights([2 * weight for weight in model.get_weights()])
    assert fingerprint_model(model) != expected


def test_a_fingerprint_knows_constants_and_precision(tiny):
    inputs = keras.Input((8, 8, 3))

    def fingerprint(operate):
        return fingerprint_model(keras.Model(inputs, operate(inputs)))

    found = {
        fingerprint(lambda x: x * 2),
        fingerprint(lambda x: x * 3),
        fingerprint(lambda x: keras.ops.take(x, [2, 1, 0], axis=-1)),
        fingerprint(lambda x: keras.ops.take(x, [1, 2, 0], axis=-1)),
        fingerprint(lambda x: keras.ops.matmul(x, np.eye(3, dtype=np.float32))),
        fingerprint(lambda x: keras.ops.matmul(x, 2 * np.eye(3, dtype=np.float32))),
        fingerprint(keras.layers.ReLU()),
        fingerprint(keras.layers.ReLU(dtype="mixed_bfloat16")),
    }
    assert len(found) == 8


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(backbones, "_registry", dict(backbones._registry))


@pytest.mark.usefixtures("registry")
def test_a_user_registers_a_row_or_a_function(tiny):
    assert register_backbone(tiny) is get_backbone("tiny")
    row = register_backbone(tiny.builder, name="mine", scaling=STANDARDIZED, native_size=64)
    assert row == Backbone(
        "mine", tiny.builder, STANDARDIZED, native_size=64, small_size=64, min_size=1
    )
    assert build_backbone("mine", image_shape=(8, 8), weights=None).output_shape == (
        None,
        32,
        32,
        12,
    )
    assert list_backbones()[-2:] == ["tiny", "mine"]


@pytest.mark.usefixtures("registry")
def test_bad_registrations(tiny):
    register_backbone(tiny)
    with pytest.raises(ValueError, match="'tiny' is already registered"):
        register_backbone(tiny)
    with pytest.raises(ValueError, match="only with a function or model"):
        register_backbone(tiny, scaling=Scaling())
    with pytest.raises(ValueError, match=r"Python identifier; received '<lambda>'"):
        register_backbone(lambda x: x)
    with pytest.raises(TypeError, match="received int"):
        register_backbone(3)


def test_weights_from_a_file(tiny, tmp_path):
    source = build_backbone(tiny, image_shape=(8, 8), weights=None, random_state=0)
    source.save_weights(tmp_path / "w.weights.h5")
    np.savez(tmp_path / "w.npz", **{f"w{i:03d}": w for i, w in enumerate(source.get_weights())})
    for name in ("w.weights.h5", "w.npz"):
        loaded = build_backbone(tiny, image_shape=(8, 8), weights=tmp_path / name)
        for a, b in zip(loaded.get_weights(), source.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_bad_weights(tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file '.*gone\.h5'.*'pretrained' or None"):
        build_backbone(tiny, image_shape=(8, 8), weights=tmp_path / "gone.h5")
    with pytest.raises(ValueError, match="'tiny', which has no public weights"):
        build_backbone(tiny, image_shape=(8, 8))
    other = build_backbone("mobilenet_025", image_shape=(96, 96), weights=None)
    other.save_weights(tmp_path / "other.weights.h5")
    np.savez(tmp_path / "other.npz", w=np.zeros(3))
    np.savez(tmp_path / "object.npz", w=np.array([object()]))
    (tmp_path / "text.h5").write_text("not a weights file")
    (tmp_path / "text.npz").write_text("not a weights file")
    for name in ("other.weights.h5", "other.npz", "object.npz", "text.h5", "text.npz"):
        with pytest.raises(ValueError, match=f"{name}' does not hold the weights of 'tiny'"):
            build_backbone(tiny, image_shape=(8, 8), weights=tmp_path / name)


def test_without_a_network_the_three_ways_on_are_named():
    with pytest.raises(ConnectionError, match=r"'vgg16' are neither in.*mobilenet_micro.*None"):
        build_backbone("vgg16", image_shape=(32, 32), image_size=96)


def test_a_layer_that_is_called_as_ours_is_named():
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="scaling")]
    with pytest.raises(ValueError, match="must have no layer called 'scaling', as ours is"):
        build_backbone(keras.Sequential(layers), image_shape=(8, 8))
