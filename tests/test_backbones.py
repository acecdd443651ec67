"""Every row is held against the network of ``keras.applications`` that it stands for."""

import importlib
import random
import re
from collections import deque

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
from tlclassify.networks.cuts import cut_points
from tlclassify.networks.rows import BUILT_IN, STANDARDIZED, Backbone, Scaling

MODULES = {
    "mobilenet": "mobilenet",
    "mobilenet_050": "mobilenet",
    "mobilenet_025": "mobilenet",
    "mobilenet_v2": "mobilenet_v2",
    "mobilenet_v3": "mobilenet_v3",
    "resnet": "resnet",
    "vgg16": "vgg16",
    "vgg19": "vgg19",
    "densenet": "densenet",
    "inception_v3": "inception_v3",
    "inception_resnet_v2": "inception_resnet_v2",
    "xception": "xception",
    "nasnet": "nasnet",
    "efficientnet_b": "efficientnet",
    "efficientnet_v2": "efficientnet_v2",
    "convnext": "convnext",
}
FROM_KERAS = [row for row in BUILT_IN if isinstance(row.builder, str)]


def keras_module(row):
    name = row.name
    if name.startswith("resnet") and name.endswith("_v2"):
        return keras.applications.resnet_v2
    longest = max((key for key in MODULES if name.startswith(key)), key=len)
    return importlib.import_module(f"keras.applications.{MODULES[longest]}")


@pytest.mark.parametrize("row", FROM_KERAS, ids=lambda row: row.name)
def test_a_row_agrees_with_keras(row, monkeypatch):
    """Function by name, width, parameter count, scaling and cut points."""
    assert re.sub("_0..$|_", "", row.name) == row.builder.lower()
    build, built = getattr(keras.applications, row.builder), []

    def recording(**options):
        assert options.get("alpha", 1.0) == row.width
        built.append(build(**options))
        return built[-1]

    monkeypatch.setattr(keras.applications, row.builder, recording)
    # Only shapes and graphs are looked at, so no weights are made: the largest have 1.4 GB.
    with keras.StatelessScope(initialize_variables=False):
        ours = build_backbone(row, image_shape=(224, 224), image_size=224, weights=None)
    (theirs,) = built
    assert ours.output_shape[-1] == theirs.output_shape[-1] == row.n_features
    assert ours.count_params() == theirs.count_params() == row.n_parameters
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    assert_scaling_is_theirs(row, keras_module(row))
    assert_cut_points(ours)


def assert_scaling_is_theirs(row, module):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), dtype=np.uint8)
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    model = keras.Model(inputs, backbones._resize_and_scale(inputs, row.scaling, 4))
    expected = module.preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(model.predict_on_batch(pixels), expected, atol=2e-4)


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
        ("mobilenet", 8, 96),
        ("mobilenet", 95, 96),
        ("mobilenet", 96, 96),
        ("mobilenet", 110, 96),
        ("mobilenet", 113, 128),
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
    with pytest.warns(UserWarning, match=r"1x1.*0\.52 at 32 px.*image_size=96"):
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
    with pytest.raises(ValueError, match="only with a function"):
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
