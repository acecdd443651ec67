import keras
import numpy as np
import pytest
from sklearn.base import clone

from tlclassify.networks.heads import (
    Head,
    build_head,
    build_pooling,
    get_head,
    list_heads,
    measure_features,
)
from tlclassify.training.stages import Stage


def build(head, n_classes, training):
    statistics = measure_features(training) if isinstance(head, Head) else None
    return build_head(head, n_classes, features_shape=training.shape[1:], statistics=statistics)


def features(*shape):
    return np.random.default_rng(0).normal(3, 2, size=(50, *shape)).astype(np.float32)


def layers(model):
    return [type(layer).__name__ for layer in model.layers]


def test_the_article_head_is_the_articles():
    head = get_head("article")
    assert head.pooling == "flatten"
    model = build(head, 10, features(512))
    found = [
        layer.units if isinstance(layer, keras.layers.Dense) else layer.rate
        for layer in model.layers[2:]
    ]
    assert found == [1024, 512, 0.4, 256, 0.3, 128, 0.2, 10]


def test_the_plain_article_head_has_no_dropout():
    model = build(get_head("article_plain"), 10, features(512))
    assert [layer.units for layer in model.layers[2:]] == [1024, 512, 256, 128, 10]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (Head((), dropout=0), ["InputLayer", "Normalization", "Dense"]),
        (Head(()), ["InputLayer", "Normalization", "Dropout", "Dense"]),
        (
            Head((4,), dropout=(0,), batch_norm=True),
            ["InputLayer", "Normalization", "Dense", "BatchNormalization", "Dense"],
        ),
        (
            Head([4, 3], dropout=0.1),
            ["InputLayer", "Normalization", "Dropout", *["Dense", "Dropout"] * 2, "Dense"],
        ),
    ],
)
def test_parameters_decide_the_layers(head, expected):
    assert layers(build(get_head(head), 3, features(6))) == expected


@pytest.mark.parametrize(
    ("pooling", "by_hand"),
    [
        ("avg", lambda x: x.mean((1, 2))),
        ("max", lambda x: x.max((1, 2))),
        ("flatten", lambda x: x.reshape(len(x), -1)),
    ],
)
def test_pooling(pooling, by_hand):
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    inputs = keras.Input((3, 4, 5))
    model = keras.Model(inputs, build_pooling(Head(pooling=pooling), inputs))
    np.testing.assert_allclose(model.predict_on_batch(maps), by_hand(maps), atol=1e-6)


def test_probabilities_sum_to_one():
    model = build(Head((4,), activation="gelu"), 3, features(6))
    probabilities = model.predict_on_batch(np.random.default_rng(0).normal(size=(5, 6)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_roots_of_features_are_standardized_together_by_the_training_images():
    training = features(6)
    training[:, 2] = 7
    training[:, 3] *= -100
    model = build(Head((512,)), 3, training)
    standard = keras.Model(model.input, model.get_layer("root_standardization").output)
    found = np.asarray(standard.predict_on_batch(training))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found.var(axis=0).mean(), 1, atol=1e-3)
    # A root makes values 100 times as large 10 times as large, and keeps their sign.
    assert 6 < found[:, 3].std() / found[:, 4].std() < 14
    assert (np.argsort(found[:, 3]) == np.argsort(training[:, 3])).all()
    assert model.get_layer("root_standardization").trainable_weights == []


def test_a_users_function_gets_the_feature_map():
    def head(feature_map, n_classes):
        x = keras.layers.GlobalMaxPooling2D()(feature_map)
        return keras.layers.Dense(n_classes, activation="softmax")(x)

    inputs = keras.Input((3, 3, 5))
    assert build_pooling(get_head(head), inputs) is inputs
    assert build(head, 4, features(3, 3, 5)).output_shape == (None, 4)


def sequential_head():
    parts = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.5, seed=0)]
    return keras.Sequential([*parts, keras.layers.Dense(4, activation="softmax")], name="own")


def test_a_keras_layer_is_a_head(make_clf, images):
    """It gets the feature map; each fit has a copy, whose weights the seed decides."""
    head = sequential_head()
    head.layers[-1].units = 3
    X, y = images
    first, second = (
        make_clf(head_stage=Stage(1)).set_params(head=head).fit(X, y) for _ in range(2)
    )
    assert head.built is False
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert first.head_.get_weights()[0].shape == (12, 3)
    first.head_.set_weights([weight + 1 for weight in first.head_.get_weights()])
    assert not np.array_equal(first.head_.get_weights()[0], second.head_.get_weights()[0])


class Halved(keras.layers.Layer):
    """A layer of a user's own, which Keras is not told of."""

    def call(self, x):
        return x / 2


def halve(x):
    return x / 2


def test_layers_and_functions_of_ones_own_may_stand_in_a_sequential():
    pooling, dense = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)
    inner = keras.Sequential([Halved(), keras.layers.Dense(5, activation=halve)])
    head = keras.Sequential([pooling, inner, keras.layers.Lambda(halve), dense])
    model = build(keras.Sequential([head, keras.layers.Softmax()]), 4, features(3, 3, 5))
    assert model.output_shape == (None, 4)


@pytest.mark.parametrize(
    "head", [keras.layers.Dense(4, activation="softmax"), keras.layers.Flatten()]
)
def test_a_keras_layer_must_end_in_probabilities(head):
    with pytest.raises(ValueError, match=r"shape \(None, 4\) .*begin with .*Pooling2D"):
        build(head, 4, features(3, 3, 5))


@pytest.mark.parametrize("result", [lambda x, n: x, lambda x, n: None])
def test_a_users_function_must_return_probabilities(result):
    with pytest.raises(ValueError, match=r"shape \(None, 4\) as a KerasTensor; received"):
        build(result, 4, features(3, 3, 5))


def test_presets_are_copies():
    assert list_heads() == ["linear", "mlp", "article", "article_plain"]
    first = get_head("mlp")
    first.set_params(dropout=0.9)
    assert get_head("mlp").dropout == 0.5


def test_clone_keeps_every_parameter():
    head = Head((3,), dropout=(0.1,), activation="tanh", batch_norm=True, pooling="max")
    assert clone(head).get_params() == head.get_params()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("articel", "head must be one of 'linear'.*mean 'article'"),
        (Head((0,)), r"hidden_units must be an integer in \[1, inf\]; received 0"),
        (Head("ab"), "'auto' or a sequence of integers; received 'ab'"),
        (Head(C=0), "C must be"),
        (Head(3), "sequence of integers; received 3"),
        (Head(dropout=1.0), r"dropout must be a number in \[0, 1\)"),
        (Head((4, 4), dropout=(0.1,)), "one number, or 2 for as many"),
        (Head(pooling="mean"), "pooling must be one of"),
        (Head(activation="rleu"), "activation must be one of.*mean 'relu'"),
        (Head((0,), dropout=-1, pooling="x"), "3 parameters are not valid"),
    ],
)
def test_bad_parameters(head, message):
    with pytest.raises(ValueError, match=message):
        get_head(head)


def test_a_head_of_another_kind():
    with pytest.raises(TypeError, match=r"function \(feature_map, n_classes\).*received int"):
        get_head(3)
