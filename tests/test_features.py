import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.inputs.splits import draw_seeds
from tlclassify.networks.backbones import build_backbone


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
