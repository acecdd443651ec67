"""A network is cut where one output carries everything, and trained above that."""

import re

import keras
import numpy as np
import pytest

from tlclassify.networks.backbones import build_backbone
from tlclassify.networks.cuts import (
    block_starts,
    cut_points,
    find_cut,
    layers_above,
    rate_factors,
    unfreeze_above,
    unfreeze_problem,
)
from tlclassify.networks.rows import RAW, Backbone


def build(backbone, size, **options):
    model = build_backbone(
        backbone, image_shape=(size, size), weights=None, random_state=0, **options
    )
    pooled = keras.layers.GlobalAveragePooling2D(name="pooling")(model.output)
    return keras.Model(model.input, pooled, name=model.name)


def of_function(function):
    return Backbone(function.__name__, function, RAW, native_size=8, small_size=8, min_size=4)


@pytest.fixture
def network(tiny):
    return build(tiny, 8)


@pytest.fixture(scope="module")
def mobilenet():
    return build("mobilenet", 96)


@pytest.fixture(scope="module")
def resnet50():
    return build("resnet50", 96)


@pytest.fixture
def micro():
    return build("mobilenet_micro", 32)


class Composite(keras.layers.Layer):
    """A convolution and a normalisation of which the graph knows nothing."""

    def build(self, shape):
        self.convolution = keras.layers.Conv2D(4, 1)
        self.convolution.build(shape)
        self.norm = keras.layers.BatchNormalization()
        self.norm.build((*shape[:-1], 4))

    def call(self, x):
        return self.norm(self.convolution(x))


def composite(x):
    x = Composite(name="composite")(x)
    parts = [keras.layers.Conv2D(6, 1), keras.layers.BatchNormalization()]
    return keras.Sequential(parts, name="sequence")(x)


def residual(x):
    x = keras.layers.Conv2D(4, 1, name="stem")(x)
    y = keras.layers.Conv2D(4, 3, padding="same", name="first")(x)
    y = keras.layers.Conv2D(4, 3, padding="same", name="second")(y)
    return keras.layers.Add(name="add")([x, y])


def norms(network):
    return [
        part
        for part in network._flatten_layers()
        if isinstance(part, keras.layers.BatchNormalization)
    ]


def test_a_cut_point_needs_nothing_from_beside_it():
    network = build(of_function(residual), 8)
    assert cut_points(network) == ["images", "scaling", "stem", "add", "pooling"]
    assert block_starts(network) == ["scaling", "stem"]


@pytest.mark.parametrize("function", [residual, composite])
def test_below_a_cut_and_above_it_are_the_network(function, images):
    network = build(of_function(function), 8)
    whole = network.predict_on_batch(images[0])
    for point in cut_points(network)[:-1]:
        middle = network.get_layer(point).output
        below, above = keras.Model(network.input, middle), keras.Model(middle, network.output)
        joined = above.predict_on_batch(below.predict_on_batch(images[0]))
        np.testing.assert_allclose(joined, whole, rtol=1e-5)


def test_a_block_is_a_convolution_with_what_follows_it(network):
    assert block_starts(network) == ["scaling", "one_relu"]


def test_a_depthwise_convolution_and_the_pointwise_one_are_one_block(mobilenet):
    pointwise = [f"conv_pw_{number}_relu" for number in range(1, 13)]
    assert block_starts(mobilenet) == ["scaling", "conv1_relu", *pointwise]


def test_a_residual_block_is_one_block(resnet50):
    starts = block_starts(resnet50)
    assert len(starts) == 1 + 16
    assert starts[:2] == ["scaling", "pool1_pool"]
    assert starts[2:] == [
        f"conv{stage}_block{block}_out"
        for stage, n in ((2, 3), (3, 4), (4, 6), (5, 2))
        for block in range(1, n + 1)
    ]


def test_a_convolution_of_vgg16_is_a_block():
    network = build("vgg16", 32)
    starts = block_starts(network)
    assert len(starts) == 13
    assert starts[-3:] == ["block4_pool", "block5_conv1", "block5_conv2"]
    assert set(starts) <= set(cut_points(network))


@pytest.mark.parametrize("name", ["mobilenet", "resnet50", "network", "micro"])
def test_every_start_is_a_cut_point_and_each_higher_than_the_last(name, request):
    network = request.getfixturevalue(name)
    points = cut_points(network)
    heights = [points.index(start) for start in block_starts(network)]
    assert heights == sorted(set(heights))


def test_padding_is_above_the_cut(mobilenet):
    """What is stored is the smaller output."""
    assert "conv_pad_2" in cut_points(mobilenet)
    assert "conv_pad_2" not in block_starts(mobilenet)


@pytest.mark.parametrize(
    ("unfreeze", "cut"),
    [
        (0, "pooling"),
        (0.0, "pooling"),
        (1, "conv_pw_12_relu"),
        (2, "conv_pw_11_relu"),
        (13, "conv1_relu"),
        (14, "scaling"),
        (0.5, "conv_pw_6_relu"),
        (0.11, "conv_pw_11_relu"),
        (0.1, "conv_pw_12_relu"),
        (1e-9, "conv_pw_12_relu"),
        (0.999, "scaling"),
        ("all", "images"),
        (np.int64(1), "conv_pw_12_relu"),
        (np.uint8(1), "conv_pw_12_relu"),
        (np.float32(0.5), "conv_pw_6_relu"),
        ("conv_dw_13", "conv_dw_13"),
        ("pooling", "pooling"),
        ("images", "images"),
    ],
)
def test_unfreeze_is_a_number_of_blocks_a_fraction_or_a_name(mobilenet, unfreeze, cut):
    assert find_cut(mobilenet, unfreeze) == cut


@pytest.mark.parametrize("unfreeze", [1.0, np.float64(1), np.float32(1)])
def test_a_one_that_could_mean_a_block_or_everything_is_refused(unfreeze):
    problem = unfreeze_problem("x", unfreeze)
    assert re.match("x must be 'all' for .* or the integer 1 for .*both", problem)


def test_an_unknown_name_is_answered_with_the_possible_ones(mobilenet):
    with pytest.raises(ValueError, match="top_stage__unfreeze must name a layer") as caught:
        find_cut(mobilenet, "conv_pw_12_rel", name="top_stage__unfreeze")
    message = str(caught.value)
    assert "'mobilenet' can be cut; received 'conv_pw_12_rel'." in message
    assert "Did you mean 'conv_pw_12_relu'?" in message
    assert "from the top: 'pooling', 'conv_pw_13_relu', 'conv_pw_13_bn'" in message
    assert re.search(rf"and {len(cut_points(mobilenet)) - 10} more\.$", message)


def test_inside_a_residual_block_is_no_cut(resnet50):
    assert resnet50.get_layer("conv5_block3_2_relu") is not None
    with pytest.raises(ValueError, match=r"received 'conv5_block3_2_relu'.*'conv5_block3_out'"):
        find_cut(resnet50, "conv5_block3_2_relu")


def test_too_many_blocks_are_answered_with_how_many_there_are(mobilenet):
    message = r"unfreeze must be at most 14, .*'mobilenet'; received 15.*'conv_pw_12_relu'.*'all'"
    with pytest.raises(ValueError, match=message):
        find_cut(mobilenet, 15)


@pytest.mark.parametrize("cut", ["images", "scaling", "one", "one_relu", "two", "pooling"])
@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_exactly_what_is_above_the_cut_is_trainable(network, cut, batch_norm):
    unfreeze_above(network, "images", batch_norm="train")
    unfreeze_above(network, cut, batch_norm=batch_norm)
    names = [layer.name for layer in network.layers]
    above = set(names[names.index(cut) + 1 :]) - ({"one_bn"} if batch_norm == "frozen" else set())
    assert {layer.name for layer in network.layers if layer.trainable} == above


def test_layers_above_go_from_the_lowest_to_the_highest(network):
    names = [layer.name for layer in layers_above(network, "one_bn")]
    assert names == ["one_relu", "two", "pooling"]


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
@pytest.mark.parametrize("function", ["tiny", composite])
def test_batch_norm_follows_the_images_only_where_asked(function, batch_norm, tiny, images):
    """Inside composite layers too."""
    network = build(tiny if function == "tiny" else of_function(function), 8)
    unfreeze_above(network, "scaling", batch_norm=batch_norm)
    before = [np.array(norm.moving_mean) for norm in norms(network)]
    # As `fit` runs it: a model that is itself trainable.
    keras.Model(network.input, network.output)(images[0], training=True)
    after = [np.array(norm.moving_mean) for norm in norms(network)]
    assert len(before) == len(norms(network)) == (1 if function == "tiny" else 2)
    for norm, mean, then in zip(norms(network), before, after, strict=True):
        assert np.array_equal(mean, then) == (batch_norm == "frozen")
        assert bool(norm.trainable_variables) == (batch_norm == "train")


def test_the_rest_of_a_composite_layer_is_trained(images):
    network = build(of_function(composite), 8)
    unfreeze_above(network, "scaling", batch_norm="frozen")
    trained = keras.Model(network.input, network.output).trainable_variables
    assert [tuple(variable.shape) for variable in trained] == [
        (1, 1, 3, 4),
        (4,),
        (1, 1, 4, 6),
        (6,),
    ]


def test_composite_layers_below_the_cut_stay_as_they_are():
    network = build(of_function(composite), 8)
    unfreeze_above(network, "composite", batch_norm="train")
    assert not network.get_layer("composite").trainable_variables
    assert len(network.get_layer("sequence").trainable_variables) == 4


def test_each_block_learns_slower_than_the_one_above(micro):
    unfreeze_above(micro, "images", batch_norm="train")
    head = keras.layers.Dense(3, name="head")
    model = keras.Model(micro.input, head(micro.output))
    factors = rate_factors(micro, model.trainable_variables, 0.5)
    assert len(factors) == len(model.trainable_variables)
    paths = [variable.path for variable in model.trainable_variables]
    for path, factor in zip(paths, factors, strict=True):
        layer = path.split("/")[0]
        if layer == "head":
            power = 0
        elif layer.startswith("conv1"):
            power = 14
        else:
            power = 14 - int(re.match(r"conv_[dp]w_(\d+)", layer)[1])
        assert factor == 0.5**power, path


def test_the_factors_do_not_depend_on_what_is_frozen(micro):
    unfreeze_above(micro, find_cut(micro, 2), batch_norm="frozen")
    model = keras.Model(micro.input, keras.layers.Dense(3, name="head")(micro.output))
    factors = rate_factors(micro, model.trainable_variables, 0.1)
    kernels = [
        factor
        for factor, variable in zip(factors, model.trainable_variables, strict=True)
        if len(variable.shape) > 1
    ]
    np.testing.assert_allclose(kernels, [0.01, 0.01, 0.1, 0.1, 1])
