"""Backbones that end in tokens or in a vector, a vision transformer among them."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from tlclassify.analysis.explanation import grad_cam
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.networks import backbones
from tlclassify.networks.heads import Head
from tlclassify.networks.rows import SYMMETRIC, Backbone
from tlclassify.persistence.saving import load, save
from tlclassify.training.stages import Stage


def as_tokens(images):
    x = keras.layers.Conv2D(6, 4, strides=4, name="patches")(images)
    return keras.layers.Reshape((4, 6))(x)


@pytest.fixture
def encoder():
    """A backbone from 8 pixels to 4 tokens of 6 numbers."""
    return Backbone("tokens", as_tokens, SYMMETRIC, native_size=8, small_size=8, min_size=8)


def pooled(row, X, pooling="avg"):
    return FeatureExtractor(
        row, weights=None, pooling=pooling, random_state=0, verbose=0
    ).transform(X)


def test_each_way_from_tokens_to_a_vector(encoder, images):
    X, _ = images
    tokens = pooled(encoder, X, "flatten").reshape(24, 4, 6)
    expected = {
        "avg": tokens.mean(axis=1),
        "max": tokens.max(axis=1),
        "first": tokens[:, 0],
        "first_avg": np.hstack([tokens[:, 0], tokens.mean(axis=1)]),
    }
    for pooling, features in expected.items():
        np.testing.assert_allclose(pooled(encoder, X, pooling), features, atol=1e-5)


def by_an_operation(images):
    return keras.ops.mean(as_tokens(images), axis=1)


def by_a_layer(images):
    return keras.layers.GlobalAveragePooling1D()(as_tokens(images))


@pytest.mark.parametrize("builder", [by_an_operation, by_a_layer])
def test_a_vector_is_taken_as_it_is(builder, encoder, images):
    X, y = images
    row = replace(encoder, builder=builder)
    np.testing.assert_allclose(pooled(row, X), pooled(encoder, X), atol=1e-5)
    clf = TransferClassifier(row, weights=None, random_state=0, verbose=0).fit(X, y)
    assert clf.n_features_ == 6
    assert clf.score(X, y) > 0.9


@pytest.mark.parametrize(
    ("builder", "pooling"), [(by_a_layer, "max"), (lambda x: x, "first"), (by_a_layer, "first")]
)
def test_a_pooling_must_suit_what_the_backbone_gives(builder, pooling, encoder, images):
    with pytest.raises(ValueError, match=f"pooling must be one of 'avg'.*received '{pooling}'"):
        pooled(replace(encoder, builder=builder), images[0], pooling)


def test_heat_maps_need_a_feature_map(encoder, images):
    X, y = images
    row = replace(encoder, builder=keras.layers.Reshape((4, 48)))
    clf = TransferClassifier(row, weights=None, random_state=0, verbose=0).fit(X, y)
    with pytest.raises(ValueError, match="clf must have a backbone with a feature map"):
        grad_cam(clf, X)


def build_vit(images):
    """A tiny vision transformer of keras-hub, its blocks laid out one after the other."""
    keras_hub = pytest.importorskip("keras_hub")
    model = keras_hub.models.ViTBackbone(
        image_shape=images.shape[1:],
        patch_size=4,
        num_layers=3,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
    )
    x = model.get_layer("vit_patching_and_embedding")(images)
    encoder = model.get_layer("vit_encoder")
    for block in encoder.encoder_layers:
        x = block(x)
    return encoder.layer_norm(x)


@pytest.fixture
def vit(monkeypatch):
    row = Backbone("tiny_vit", build_vit, SYMMETRIC, native_size=8, small_size=8, min_size=8)
    monkeypatch.setitem(backbones._registry, "tiny_vit", row)
    return TransferClassifier(
        "tiny_vit",
        weights=None,
        head=Head((), pooling="first_avg"),
        fine_tune_stage=Stage(2, unfreeze=1, learning_rate=1e-3, batch_size=8),
        random_state=0,
        verbose=0,
    )


def test_a_vision_transformer_is_fine_tuned_by_blocks_and_saved(vit, images, tmp_path):
    X, y = images
    random_one = FeatureExtractor("tiny_vit", weights=None, random_state=0, verbose=0)
    random_one.transform(X)
    vit.fit(X, y, validation_data=(X // 2, y))
    assert vit.n_features_ == 16
    assert vit.history_[-1]["stage"] == "fine_tune"
    frozen = TransferClassifier(**vit.get_params(deep=False)).set_params(fine_tune_stage=None)
    before = frozen.fit(X, y).backbone_
    changed = [
        layer.name
        for layer in vit.backbone_.layers
        if any(
            not np.array_equal(one, other)
            for one, other in zip(
                layer.get_weights(), before.get_layer(layer.name).get_weights(), strict=True
            )
        )
    ]
    # The last of three blocks, and what stands above it.
    assert changed == [layer.name for layer in vit.backbone_.layers if layer.weights][-2:]
    save(vit, tmp_path / "vit.tlc")
    loaded = load(tmp_path / "vit.tlc")
    np.testing.assert_array_equal(loaded.predict_proba(X), vit.predict_proba(X))


def test_a_transformer_of_keras_hub_is_a_backbone_as_it_is(images):
    """It ends in tokens; of two blocks, the embedding and the encoder, either may be trained."""
    keras_hub = pytest.importorskip("keras_hub")
    X, y = images
    settings = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 16}
    model = keras_hub.models.ViTBackbone(image_shape=(8, 8, 3), patch_size=4, **settings)
    clf = TransferClassifier(model, head=Head((), pooling="first"), random_state=0, verbose=0)
    clf.fit(X, y)
    expected = model.predict(X.astype("float32"), verbose=0)[:, 0]
    np.testing.assert_allclose(clf.backbone_.predict(X, verbose=0), expected, atol=1e-4)
