"""Grad-CAM is what its paper says, for every head and layer, and leaves the classifier alone."""

import copy
import random
import tracemalloc

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from tlclassify.analysis.explanation import grad_cam
from tlclassify.datasets import make_shapes
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.networks.cuts import output_at
from tlclassify.networks.heads import Head
from tlclassify.networks.rows import SYMMETRIC, Backbone
from tlclassify.training.stages import Stage

X, Y = make_shapes(24, image_size=10, random_state=0)
X = X[:, 1:9]
HEAD = Stage(2, learning_rate=0.05, batch_size=8)


class Moody(keras.layers.Layer):
    """Another function in training than in inference, unknown to anyone but itself."""

    def call(self, x, training=False):
        return -x if training else x


def restless(x):
    """A backbone of layers that train otherwise than they predict."""
    x = keras.layers.Conv2D(6, 3, strides=2, activation="gelu", name="low")(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.BatchNormalization()(x)
    x = Moody()(keras.layers.GaussianNoise(1.0)(x))
    return keras.layers.Conv2D(8, 3, padding="same", activation="gelu", name="high")(x)


def fitted_on(builder, y=Y, **params):
    row = Backbone(builder.__name__, builder, SYMMETRIC, native_size=8, small_size=8, min_size=4)
    clf = TransferClassifier(
        row, weights=None, head="linear", head_stage=HEAD, random_state=0, verbose=0
    )
    return clf.set_params(validation_fraction=0, **params).fit(X, y)


@pytest.fixture(scope="module")
def clf():
    """Fitted on three labels; its head is linear, with dropout. Not to be changed."""
    return fitted_on(restless)


def run(inputs, output, values):
    return keras.Model(inputs, output)(values, training=False)


def features_at(clf, layer):
    features = run(clf.backbone_.input, output_at(clf.backbone_, layer), X)
    return keras.ops.convert_to_numpy(features).astype(np.float32)


def enlarged(maps):
    """Bring maps to the size of the images and their largest value to 1, with Pillow."""
    big = np.stack([Image.fromarray(m).resize((10, 8), Image.Resampling.BILINEAR) for m in maps])
    highest = big.max(axis=(1, 2), keepdims=True)
    return big / np.where(highest > 0, highest, 1)


def scores_of(head):
    """Return a model of what the last layer's softmax is taken of."""
    last = head.get_layer("probabilities")
    below = keras.Model(head.input, keras.Operation.input.fget(last))
    kernel, bias = last.get_weights()
    return lambda features: (
        keras.ops.convert_to_numpy(below(features, training=False)) @ kernel + bias
    )


def log_probabilities_of(head):
    return lambda features: np.log(keras.ops.convert_to_numpy(head(features, training=False)))


def given_scores(head):
    below = keras.Model(head.input, head.get_layer("scores").output)
    return lambda features: keras.ops.convert_to_numpy(below(features, training=False))


def by_finite_differences(clf, labels, *, layer="high", scores_of=scores_of, step=1e-4):
    """Grad-CAM by moving one channel of the feature map at a time, all of them at once."""
    features, scores = features_at(clf, layer), scores_of(clf.head_)
    n_channels = features.shape[-1]
    shifts = step * np.eye(n_channels, dtype=np.float32)[:, None, None, None]
    moved = np.stack([features + times * shifts for times in (1, -1, 2, -2)])
    moved = moved.reshape(-1, *features.shape[1:])
    if output_at(clf.backbone_, layer) is not clf.backbone_.output:
        moved = run(output_at(clf.backbone_, layer), clf.backbone_.output, moved)
    rows, columns = np.arange(len(X)), np.searchsorted(clf.classes_, labels)
    # Of fourth order: the error of the step is far below that of float32.
    up, down, up_2, down_2 = scores(moved).reshape(4, n_channels, len(X), -1)[..., rows, columns]
    slopes = (8 * (up - down) - (up_2 - down_2)).T / (12 * step)
    return enlarged(np.maximum((features * slopes[:, None, None]).sum(axis=-1), 0))


def class_activation_maps(clf, labels):
    """Of a linear head: maps weighed by kernel and, at each image's features, the root's slope."""
    kernel, _ = clf.head_.get_layer("probabilities").get_weights()
    variance = clf.head_.get_layer("root_standardization").variance
    variance = keras.ops.convert_to_numpy(keras.ops.cast(variance, "float32"))
    maps = features_at(clf, "high")
    sizes = np.abs(maps.mean(axis=(1, 2)))
    slopes = (sizes / 2 + 1e-3) / (sizes + 1e-3) ** 1.5
    weights = kernel[:, np.searchsorted(clf.classes_, labels)].T / np.sqrt(variance) * slopes
    return enlarged(np.maximum((maps * weights[:, None, None]).sum(axis=-1), 0))


def test_with_pooling_and_a_linear_head_it_is_the_class_activation_map(clf):
    for label in clf.classes_:
        expected = class_activation_maps(clf, [label] * 24)
        np.testing.assert_allclose(grad_cam(clf, X, labels=label), expected, atol=1e-4)


def test_slopes_are_those_of_finite_differences():
    """No layer is in training mode: not dropout, not normalisation, not one of a user's own."""
    head = Head((16,), activation="tanh", batch_norm=True, pooling="flatten")
    clf = fitted_on(restless, head=head)
    for layer in ("high", "low", "scaling"):
        heatmaps = grad_cam(clf, X, labels=Y, layer=layer)
        expected = by_finite_differences(clf, Y, layer=layer)
        np.testing.assert_allclose(heatmaps, expected, atol=0.02)
        assert heatmaps.shape == (24, 8, 10)
        assert heatmaps.dtype == np.float32
        assert set(heatmaps.max(axis=(1, 2)).tolist()) <= {0, 1}


def state_of(clf):
    """Return the values of all variables, which of them are trained, and all layers' flags."""
    models = (clf.model_, clf.backbone_, clf.head_)
    values = [keras.ops.convert_to_numpy(v).copy() for model in models for v in model.variables]
    flags = [[layer.trainable for layer in model._flatten_layers()] for model in models]
    compiled = [model.compiled for model in models]
    return values, flags, [len(model.trainable_variables) for model in models], compiled


def test_the_classifier_stays_as_it_is(clf):
    before, probabilities, drawn = state_of(clf), clf.predict_proba(X), random.getstate()
    numpy_drawn = np.random.get_state()[1].copy()  # noqa: NPY002 - the global generator
    grad_cam(clf, X, layer="low")
    after = state_of(clf)
    for one, other in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert before[1:] == after[1:]
    assert random.getstate() == drawn
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_drawn)  # noqa: NPY002
    np.testing.assert_array_equal(clf.predict_proba(X), probabilities)


def test_training_goes_on_as_if_nothing_had_been_explained():
    stage = Stage(2, learning_rate=1e-3, batch_size=8, unfreeze=1)
    explained, other = fitted_on(restless), fitted_on(restless)
    grad_cam(explained, X, layer="low")
    again = {"warm_start": True, "head_stage": None, "fine_tune_stage": stage}
    probabilities = [
        one.set_params(**again).fit(X, Y).predict_proba(X) for one in (explained, other)
    ]
    np.testing.assert_array_equal(*probabilities)
    tuned = grad_cam(explained, X, labels=Y)
    np.testing.assert_allclose(tuned, by_finite_differences(other, Y), atol=0.01)


def test_an_image_is_explained_alike_alone_and_among_others(clf):
    together = grad_cam(clf, X)
    in_fives = copy.copy(clf).set_params(batch_size=5)
    np.testing.assert_allclose(grad_cam(in_fives, X), together, atol=1e-4)
    np.testing.assert_allclose(grad_cam(clf, X[7:8]), together[7:8], atol=1e-4)


def test_labels_name_one_class_or_one_for_each_image(clf):
    guesses = clf.predict(X)
    predicted, each = grad_cam(clf, X), grad_cam(clf, X, labels=Y.tolist())
    for label in ("circle", "square"):
        for_all = grad_cam(clf, X, labels=label)
        np.testing.assert_array_equal(predicted[guesses == label], for_all[guesses == label])
        np.testing.assert_array_equal(each[label == Y], for_all[label == Y])
        assert not np.allclose(each[label != Y], for_all[label != Y])


def test_images_may_come_in_any_form(clf, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(24)]
    for image, path in zip(X, paths, strict=True):
        Image.fromarray(image).save(path)
    expected = grad_cam(clf, X)
    np.testing.assert_array_equal(grad_cam(clf, paths), expected)
    np.testing.assert_array_equal(grad_cam(clf, X.astype("float32")), expected)
    gray = np.repeat(X[..., :1], 3, axis=3)
    np.testing.assert_array_equal(grad_cam(clf, X[..., 0]), grad_cam(clf, gray))


def test_a_map_is_zero_where_nothing_speaks_for_the_class():
    """With labels that are integers, and maps that are larger than the images."""
    numbers = np.unique(Y, return_inverse=True)[1] * 10
    clf = fitted_on(restless, numbers, image_size=48)
    assert output_at(clf.backbone_, "high").shape[1:3] == (23, 23)
    last = clf.head_.get_layer("probabilities")
    kernel, bias = last.get_weights()
    kernel[:, 1] = 0
    last.set_weights([kernel, bias])
    each, twenties = grad_cam(clf, X, labels=numbers), grad_cam(clf, X, labels=20)
    assert each.shape == (24, 8, 10)
    assert (each[numbers == 10] == 0).all()
    assert (each[numbers == 20].max(axis=(1, 2)) == 1).any()
    np.testing.assert_array_equal(each[numbers == 20], twenties[numbers == 20])


def dense_head(feature_map, n_classes):
    x = keras.layers.GlobalAveragePooling2D()(feature_map)
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(8, activation="tanh")(x))
    return keras.layers.Dense(n_classes, activation="softmax", name="probabilities")(x)


def softmax_head(feature_map, n_classes):
    x = keras.layers.GlobalAveragePooling2D()(feature_map)
    x = keras.layers.Dense(n_classes, name="scores")(x)
    return keras.layers.Activation("softmax", dtype="float32")(x)


def other_head(feature_map, n_classes):
    return keras.layers.Identity()(dense_head(feature_map, n_classes))


@pytest.mark.parametrize(
    ("head", "scores_of"),
    [(dense_head, scores_of), (softmax_head, given_scores), (other_head, log_probabilities_of)],
)
def test_a_head_of_the_users_own(head, scores_of):
    clf = fitted_on(restless, head=head)
    expected = by_finite_differences(clf, Y, scores_of=scores_of, step=5e-3)
    np.testing.assert_allclose(grad_cam(clf, X, labels=Y), expected, atol=0.01)


def nested(x):
    inputs = keras.Input((8, 8, 3))
    inner = keras.layers.Conv2D(4, 3, strides=2, activation="gelu", name="inner")(inputs)
    x = keras.Model(inputs, inner, name="deep")(x)
    return keras.layers.Conv2D(6, 1, activation="gelu", name="high")(x)


def test_a_model_inside_a_backbone_is_one_layer():
    clf = fitted_on(nested)
    for layer in ("high", "deep"):
        heatmaps = grad_cam(clf, X, labels=Y, layer=layer)
        np.testing.assert_allclose(heatmaps, by_finite_differences(clf, Y, layer=layer), atol=0.01)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        clf = fitted_on(restless)
        under_policy = grad_cam(clf, X, labels=Y)
    finally:
        keras.config.set_dtype_policy(before)
    assert under_policy.dtype == np.float32
    np.testing.assert_allclose(grad_cam(clf, X, labels=Y), under_policy, atol=0.02)
    np.testing.assert_allclose(under_policy, class_activation_maps(clf, Y), atol=0.1)


def test_a_registered_backbone():
    images, labels = make_shapes(4, n_classes=2, random_state=0)
    clf = TransferClassifier(
        "mobilenet", weights=None, head_stage=Stage(1), random_state=1, verbose=0
    ).set_params(validation_fraction=0)
    heatmaps = grad_cam(clf.fit(images, labels), images)
    assert heatmaps.shape == (4, 32, 32)
    assert heatmaps.max() == 1


def test_there_is_more_heat_on_a_shape_than_beside_it():
    images, labels = make_shapes(160, noise=0, random_state=0)
    stage = Stage(6, learning_rate=1e-2)
    clf = TransferClassifier("mobilenet_micro", head_stage=stage, random_state=0, verbose=0)
    heatmaps = grad_cam(clf.fit(images[:100], labels[:100]), images[100:])
    # A shape covers one corner at most.
    corners = images[100:, [0, 0, -1, -1], [0, -1, 0, -1]]
    background = np.median(corners, axis=1)[:, None, None]
    on = np.abs(images[100:] - background).max(axis=-1) > 1
    pairs = [(heat[m].mean(), heat[~m].mean()) for heat, m in zip(heatmaps, on, strict=True)]
    on_shape, beside = np.mean(pairs, axis=0)
    assert on_shape > 1.2 * beside


def test_many_classes_take_no_square_of_memory(clf):
    many, n_classes = copy.copy(clf), 10_000
    features = keras.Input(clf.head_.input.shape[1:])
    probabilities = keras.layers.Dense(n_classes, activation="softmax")(features)
    many.head_, many.classes_ = keras.Model(features, probabilities), np.arange(n_classes)
    tracemalloc.start()
    try:
        heatmaps = grad_cam(many, X[:2], labels=[n_classes - 1, 0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert heatmaps.shape == (2, 8, 10)
    assert peak < n_classes**2


def test_global_settings_of_keras_change_nothing(clf):
    expected = grad_cam(clf, X[:4])
    before = keras.config.image_data_format(), keras.config.floatx()
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx("float16")
    try:
        found = grad_cam(clf, X[:4])
    finally:
        keras.config.set_image_data_format(before[0])
        keras.config.set_floatx(before[1])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_bad_input(clf):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        grad_cam(TransferClassifier(), X)
    with pytest.raises(TypeError, match="clf must be a TransferClassifier; received Pipeline"):
        grad_cam(make_pipeline(clf), X)
    with pytest.raises(ValueError, match="X must hold images of 8x10 pixels as in fit"):
        grad_cam(clf, X[:, :4])
    with pytest.raises(
        ValueError, match="labels must hold.*'triangle'; received 'ring'.*'triangle'.*one for each"
    ):
        grad_cam(clf, X, labels="ring")
    with pytest.raises(
        ValueError, match="labels must hold.*; received 1, 2 in 24 of 24.*Pass one of"
    ):
        grad_cam(clf, X, labels=[1, 2] * 12)
    with pytest.raises(ValueError, match="labels must have one label per image; received 23"):
        grad_cam(clf, X, labels=Y[1:])
    with pytest.raises(ValueError, match="layer must name.*received 'hihg'.*mean 'high'"):
        grad_cam(clf, X, layer="hihg")
    with pytest.raises(ValueError, match="received 'pooling'.*From the top: 'high', "):
        grad_cam(clf, X, layer="pooling")
    with pytest.raises(ValueError, match="received 3. From the top: 'high', .*, 'low', 'scaling'"):
        grad_cam(clf, X, layer=3)
