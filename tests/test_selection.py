"""Images to label next: typical ones at first, then those of which a classifier is not sure."""

import numpy as np
import pytest

from tlclassify.analysis.selection import select_images
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.networks.backbones import build_backbone


def test_without_labels_each_kind_is_chosen(make_clf, images):
    X, y = images
    clf = make_clf()
    rows = select_images(clf, X, n_images=3)
    assert {*y[rows]} == {"cat", "dog", "eel"}
    assert not hasattr(clf, "model_")
    np.testing.assert_array_equal(select_images(clf, X, n_images=3), rows)


def test_choosing_moves_no_random_state(make_clf, images):
    clf = make_clf().set_params(random_state=np.random.RandomState(0))
    first, second = (select_images(clf, images[0], n_images=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert clf.random_state.randint(2**31) == np.random.RandomState(0).randint(2**31)


def test_a_fitted_classifier_asks_for_those_of_which_it_is_not_sure(make_clf, images):
    X, y = images
    clf = make_clf(head_stage="exact", validation_fraction=None).fit(X[:6], y[:6])
    two_best = np.sort(clf.predict_proba(X), axis=1)[:, -2:]
    margins = two_best[:, 1] - two_best[:, 0]
    # Of 18 that have no label yet.
    least_sure = 6 + np.argsort(margins[6:])[:9]
    rows = select_images(clf, X, n_images=4)
    assert len({*rows}) == 4
    assert {*rows} <= {*least_sure}
    assert rows.tolist() == sorted(rows)
    assert {*select_images(clf, X, n_images=18)} == {*range(6, 24)}
    np.testing.assert_array_equal(select_images(clf, X[6:], n_images=4) + 6, rows)


def test_files_are_chosen_as_their_pixels_are(make_clf, files, images):
    clf = make_clf()
    np.testing.assert_array_equal(
        select_images(clf, files[0], n_images=5), select_images(clf, images[0], n_images=5)
    )


def test_the_pool_is_run_once_in_all_rounds(make_clf, images, runs, tmp_path):
    X, _ = images
    # Random weights are drawn anew by every fit.
    weights = tmp_path / "a.weights.h5"
    build_backbone(make_clf().backbone, image_shape=(8, 8), weights=None).save_weights(weights)
    clf = make_clf(head_stage="exact", cache_dir=tmp_path / "kept")
    clf.set_params(weights=weights, validation_fraction=None)
    for _ in range(2):
        rows = select_images(clf, X, n_images=6)
        clf.fit(X[rows], np.arange(6) % 2)
    assert sum(runs) == 24


@pytest.mark.filterwarnings("ignore")
def test_of_copies_none_is_chosen_twice(make_clf, images):
    rows = select_images(make_clf(), np.repeat(images[0][:1], 8, axis=0), n_images=6)
    assert len({*rows}) == 6


@pytest.mark.parametrize("n_images", [0, 25, 2.5])
def test_no_more_can_be_chosen_than_there_are(make_clf, images, n_images):
    with pytest.raises(ValueError, match=r"n_images must be an integer in \[1, 24\]; received"):
        select_images(make_clf(), images[0], n_images=n_images)


def test_a_pool_without_new_images_is_refused(make_clf, images):
    X, y = images
    clf = make_clf(head_stage="exact", validation_fraction=None).fit(X, y)
    with pytest.raises(ValueError, match="X must hold images that clf was not trained on; all 12 "):
        select_images(clf, X[:12], n_images=2)


def test_what_is_no_classifier_is_refused(images):
    with pytest.raises(TypeError, match="clf must be a TransferClassifier; received"):
        select_images(TransferClassifier, images[0], n_images=2)
