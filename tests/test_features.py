import pickle
from dataclasses import replace

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.inputs.splits import draw_seeds
from tlclassify.networks.backbones import build_backbone
from tlclassify.training.stages import Stage


@pytest.fixture
def extractor(tiny):
    return FeatureExtractor(tiny, weights=None, random_state=0, verbose=0)


def test_embeddings_are_the_pooled_feature_map(extractor, tiny, images):
    X, _ = images
    found = extractor.transform(X)
    backbone = build_backbone(
        tiny, image_shape=(8, 8), weights=None, random_state=draw_seeds(0, 1)[0]
    )
    expected = np.asarray(backbone.predict_on_batch(X)).mean(axis=(1, 2))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found.shape, found.dtype) == ((24, 12), np.float32)
    assert extractor.n_features_ == 12
    assert extractor.image_shape_ == (8, 8, 3)


def test_fit_is_not_needed_and_changes_nothing(extractor, images):
    X, y = images
    before = X.copy()
    fitted = clone(extractor).fit(X, y)
    np.testing.assert_array_equal(fitted.transform(X), extractor.transform(X))
    np.testing.assert_array_equal(X, before)
    assert fitted.get_params() == extractor.get_params()


@pytest.mark.parametrize(("pooling", "width"), [("max", 12), ("flatten", 192)])
def test_pooling(tiny, images, pooling, width):
    extractor = FeatureExtractor(tiny, weights=None, pooling=pooling, verbose=0)
    assert extractor.transform(images[0]).shape == (24, width)


def test_batch_size_and_order_change_nothing(extractor, images):
    X, _ = images
    all_at_once = extractor.transform(X)
    rows = np.random.default_rng(0).permutation(len(X))
    extractor.set_params(batch_size=5)
    np.testing.assert_allclose(extractor.transform(X[rows]), all_at_once[rows], atol=1e-5)


def test_files_and_arrays_agree(extractor, files, images):
    from_files = clone(extractor).transform(files[0])
    np.testing.assert_allclose(from_files, extractor.transform(images[0]), atol=1e-5)


def test_it_works_in_a_pipeline(extractor, images):
    X, y = images
    pipeline = make_pipeline(extractor, LogisticRegression()).fit(X, y)
    assert pipeline.score(X, y) > 0.8
    assert list(pipeline[:-1].get_feature_names_out())[:2] == [
        "featureextractor0",
        "featureextractor1",
    ]


def test_later_images_are_held_to_those_of_fit(extractor, images):
    X, _ = images
    extractor.fit(X)
    with pytest.raises(ValueError, match="8x8 pixels as in fit; received 4x8"):
        extractor.transform(X[:, :4])
    with pytest.warns(UserWarning, match=r"scaled to \[0, 1\], pass X \* 255"):
        extractor.transform(X / 255)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"pooling": "mean"}, "pooling must be one of"),
        ({"batch_size": 0, "image_size": "x"}, "2 parameters are not valid"),
        ({"image_size": 3}, "image_size must be at least 4 for 'tiny'; received 3"),
    ],
)
def test_bad_parameters(extractor, images, params, message):
    with pytest.raises(ValueError, match=message):
        extractor.set_params(**params).fit(images[0])


def test_verbose_is_a_number(extractor, images):
    with pytest.raises(TypeError, match="verbose must be 0 or 1; received 'yes'"):
        extractor.set_params(verbose="yes").fit(images[0])


@pytest.fixture
def tuned(tiny, images):
    """A classifier whose whole network was trained on."""
    stage = Stage(2, unfreeze="all", learning_rate=1e-3, batch_size=8)
    clf = TransferClassifier(tiny, weights=None, fine_tune_stage=stage, random_state=0, verbose=0)
    return clf.fit(*images)


def test_the_features_of_a_fine_tuned_classifier(tuned, tiny, images):
    """They are what its head reads, whatever becomes of the classifier and of the extractor."""
    X, y = images
    extractor = FeatureExtractor.from_classifier(tuned)
    expected = tuned.backbone_.predict(X, verbose=0)
    np.testing.assert_allclose(extractor.transform(X), expected, atol=1e-5)
    before = FeatureExtractor(tiny, weights=None, random_state=0, verbose=0).transform(X)
    assert not np.allclose(before, expected, atol=1e-3)
    tuned.set_params(warm_start=True, head_stage=None).fit(X, y)
    pipeline = make_pipeline(clone(extractor), LogisticRegression(max_iter=500)).fit(X, y)
    for other in (pipeline[0], pickle.loads(pickle.dumps(extractor)), extractor):
        np.testing.assert_allclose(other.transform(X), expected, atol=1e-5)


def test_an_extractor_takes_images_as_its_classifier_does(tuned, images):
    X, y = images
    scaled = clone(tuned).set_params(fine_tune_stage=None).fit(X / 255, y)
    extractor = FeatureExtractor.from_classifier(scaled)
    assert (extractor.image_shape_, extractor.pixel_range_) == ((8, 8, 3), 1)
    expected = scaled.backbone_.predict(X, verbose=0)
    np.testing.assert_allclose(extractor.transform(X / 255), expected, atol=1e-5)
    # Fitted anew, it takes others.
    assert (
        extractor.fit(np.tile(X, (1, 2, 2, 1))).transform(np.tile(X, (1, 2, 2, 1))).shape[1] == 12
    )
    with pytest.raises(TypeError, match="clf must be a TransferClassifier; received LogisticRegr"):
        FeatureExtractor.from_classifier(LogisticRegression())


def test_features_below_a_head_of_ones_own_are_pooled(tuned, images):
    def head(feature_map, n_classes):
        x = keras.layers.Flatten()(feature_map)
        return keras.layers.Dense(n_classes, activation="softmax")(x)

    clf = clone(tuned).set_params(head=head, head_stage=Stage(1), fine_tune_stage=None)
    extractor = FeatureExtractor.from_classifier(clf.fit(*images))
    expected = clf.backbone_.predict(images[0], verbose=0).mean(axis=(1, 2))
    np.testing.assert_allclose(extractor.transform(images[0]), expected, atol=1e-5)


def test_the_features_of_several_backbones(tiny, images):
    X, y = images
    other = replace(tiny, name="other")
    clf = TransferClassifier([tiny, other], weights=None, random_state=0, verbose=0).fit(X, y)
    expected = clf.backbone_.predict(X, verbose=0)
    found = FeatureExtractor.from_classifier(clf).transform(X)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == (24, 24)
