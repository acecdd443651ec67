"""Images of one group are never on both sides, and the same picture on both is told of."""

import io

import numpy as np
import pytest
import sklearn
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict, cross_val_score

from tlclassify.analysis.comparison import compare_backbones
from tlclassify.analysis.duplicates import find_duplicates
from tlclassify.analysis.evaluate import evaluate
from tlclassify.analysis.learning_curve import learning_curve
from tlclassify.datasets import make_shapes
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.inputs.images import open_images
from tlclassify.inputs.splits import split_rows
from tlclassify.persistence.saving import load, save
from tlclassify.training.stages import Stage

PAIRS = np.arange(24) // 6  # four groups, each with two images of every class of `images`


@pytest.fixture
def clf(tiny):
    return TransferClassifier(tiny, weights=None, random_state=0, verbose=0)


def made_up(kind):
    """Groups and classes: of one class each, of all, one huge among small, or any."""
    rng = np.random.default_rng(0)
    if kind == "plants":
        groups = np.repeat(np.arange(40), rng.integers(2, 9, 40))
        return groups, groups % 5
    targets = rng.integers(0, 4, 600)
    if kind == "cameras":
        return rng.integers(0, 12, 600), targets
    if kind == "one huge":
        return np.where(rng.random(600) < 0.7, 0, rng.integers(1, 30, 600)), targets
    groups = np.sort(rng.integers(0, 200, 600))
    # A class that two of two hundred patients have.
    targets[np.isin(groups, np.unique(groups)[[7, 90]])] = 4
    return groups, targets


@pytest.mark.parametrize("kind", ["plants", "cameras", "one huge", "a rare class"])
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.6])
def test_groups_stay_together_and_classes_stand_on_both_sides(kind, fraction):
    groups, targets = made_up(kind)
    n_classes = targets.max() + 1
    for seed in range(5):
        sides = split_rows(targets, np.arange(n_classes), fraction, seed, groups=groups)
        assert np.array_equal(np.sort(np.concatenate(sides)), np.arange(len(targets)))
        assert not set(groups[sides[0]]) & set(groups[sides[1]])
        assert all((np.bincount(targets[x], minlength=n_classes) > 0).all() for x in sides)
        # A plant is a ninth of its class, and a camera a twelfth of all.
        assert abs(len(sides[1]) / len(targets) - fraction) < 0.1 + 0.3 * (kind == "one huge")


def test_the_seed_decides_which_groups_are_held_out():
    groups, targets = made_up("cameras")
    found = [split_rows(targets, np.arange(4), 0.2, seed, groups=groups)[1] for seed in (1, 1, 2)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_too_few_groups_are_counted(clf, images):
    X, y = images
    clf.set_params(validation_fraction=0.25)
    with pytest.raises(ValueError, match="received 3, of which 1 hold 'cat'. Add images of other"):
        clf.fit(X, y, groups=y)
    with pytest.raises(ValueError, match="groups must .*; received 3 labels for 24 images"):
        clf.fit(X, y, groups=y[:3])
    with pytest.raises(ValueError, match="groups must be at least as many as the 5 folds of cv"):
        evaluate(clf, X, y, cv=5, groups=PAIRS)
    with pytest.raises(ValueError, match="groups must be None without cv"):
        evaluate(clf, X, y, groups=PAIRS)


def test_a_fit_holds_out_whole_groups(clf, images):
    X, y = images
    clf.set_params(validation_fraction=0.25).fit(X, y, groups=PAIRS.astype(str))
    is_trained_on = np.isin(open_images(X).marks(), clf.image_marks_)
    by_group = is_trained_on.reshape(4, 6)
    assert by_group.sum() == 18
    assert (by_group.all(axis=1) == by_group.any(axis=1)).all()


def test_a_trial_parts_no_group(clf, images):
    """Where groups leave nothing to try on there is no trial, as with one image a class."""
    X, y = images
    ruinous = Stage(3, unfreeze="all", optimizer="sgd", learning_rate=3.0, batch_size=8)
    clf.set_params(fine_tune_stage=ruinous)
    with pytest.warns(UserWarning, match="in a trial, 6 images that were held out"):
        clf.fit(X, y, groups=PAIRS)
    assert clf.fit(X, y, groups=y).history_[-1]["stage"] == "fine_tune"


def test_scikit_learns_splitters(clf, images):
    X, y = images
    scores = cross_val_score(clf, X, y, groups=PAIRS, cv=GroupKFold(4), error_score="raise")
    assert scores.shape == (4,)
    assert scores.mean() > 0.6


def test_metadata_routing(clf, images):
    """Groups reach the splitter and, as asked, each fit."""
    X, y = images
    clf.set_params(validation_fraction=0.25)
    cv, params = GroupKFold(4), {"groups": PAIRS}
    with sklearn.config_context(enable_metadata_routing=True):
        told = clf.set_fit_request(groups=True)
        p = cross_val_predict(told, X, y, cv=cv, params=params, method="predict_proba")
        ours = evaluate(told, X, y, cv=cv, groups=PAIRS)
        with pytest.raises(ValueError, match="received 3, of which 1 hold 'cat'"):
            cross_val_predict(told, X, y, cv=3, params={"groups": y})
    np.testing.assert_allclose(ours.probabilities, p, atol=1e-6)
    theirs = evaluate(clf, X, y, cv=cv, groups=PAIRS)
    np.testing.assert_allclose(theirs.probabilities, p, atol=1e-6)


def test_a_comparison_parts_no_group(clf, images):
    X, y = images
    compare = {"groups": PAIRS, "random_state": 0, "verbose": 0, "error_score": "raise"}
    held_out = compare_backbones([clf], X, y, **compare).best.report
    assert held_out.support.tolist() == [2, 2, 2]
    folds = compare_backbones([clf], X, y, cv=4, **compare).best.report
    assert folds.n_samples == 24
    with pytest.raises(ValueError, match="split by test_fraction .* received 3, of which 1"):
        compare_backbones([clf], X, y, **compare | {"groups": y})


def test_a_learning_curve_parts_no_group(clf, images):
    X, y = images
    curve = learning_curve(clf, X, y, groups=PAIRS, n_draws=2, random_state=0, verbose=0)
    assert curve.train_sizes.tolist() == [1, 2, 6]
    with pytest.raises(ValueError, match="split by test_fraction .* received 3, of which 1"):
        learning_curve(clf, X, y, groups=y, verbose=0)


@pytest.mark.parametrize("kind", ["images", "files"])
def test_images_that_were_trained_on_are_told_of(kind, clf, request, tmp_path):
    X, y = request.getfixturevalue(kind)
    clf.fit(X[:12], y[:12])
    save(clf, tmp_path / "model.tlc")
    for fitted in (clf, load(tmp_path / "model.tlc", backbone=clf.backbone)):
        with pytest.warns(UserWarning, match="2 of 14 images .* content: rows 0, 1. A classifier"):
            evaluate(fitted, X[10:], y[10:])
        evaluate(fitted, X[12:], y[12:])


def test_a_fit_tells_of_validation_images_that_it_trains_on(clf, images):
    X, y = images
    with pytest.warns(UserWarning, match="1 of 13 images to judge by were trained on"):
        clf.fit(X[:12], y[:12], validation_data=(X[11:], y[11:]))
    with pytest.warns(UserWarning, match="1 of 13 images to judge by were trained on"):
        learning_curve(clf, X[:12], y[:12], X_test=X[11:], y_test=y[11:], n_draws=1, verbose=0)


def test_a_fit_that_goes_on_knows_the_images_before(clf, images):
    X, y = images
    clf.fit(X[:12], y[:12]).set_params(warm_start=True).fit(X[12:], y[12:])
    with pytest.warns(UserWarning, match="24 of 24 images"):
        evaluate(clf, X, y)


def saved_anew(image, *, quality=60, size=None, brightness=1.0):
    """Return an image after a journey through a JPEG."""
    picture = Image.fromarray(np.clip(image * brightness, 0, 255).astype(np.uint8))
    file = io.BytesIO()
    picture.resize(size or picture.size).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize(
    "change", [{}, {"quality": 30}, {"size": (48, 48)}, {"size": (130, 130)}, {"brightness": 0.7}]
)
def test_what_was_saved_anew_is_found(change):
    X, _ = make_shapes(40, image_size=96, noise=0.02, random_state=0)
    others = np.stack([saved_anew(image, **change) for image in X[::4]])
    assert find_duplicates(X, others).tolist() == [[4 * row, row] for row in range(10)]


def test_each_later_copy_is_found_once(files, tmp_path):
    """In files too; a picture that is there three times has two copies to leave out."""
    paths, _ = files
    found = find_duplicates([*paths, paths[3], paths[3], paths[0]])
    assert found[:, 1].tolist() == [24, 25, 26]
    assert found[[0, 2], 0].tolist() == [3, 0]
    assert find_duplicates(paths).shape == (0, 2)


def test_pictures_of_one_colour_are_told_apart_by_it():
    X = np.full((4, 8, 8, 3), [[[[0]]], [[[255]]], [[[0]]], [[[100]]]], dtype=np.uint8)
    assert find_duplicates(X).tolist() == [[0, 2]]
    with pytest.raises(ValueError, match=r"max_distance must be a number in \[0, inf\]"):
        find_duplicates(X, max_distance=-1)


def test_under_routing_groups_go_where_they_are_taken(images):
    X, y = images[0].reshape(24, -1) / 255, images[1]
    plain = evaluate(LogisticRegression(), X, y, cv=GroupKFold(4), groups=PAIRS)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = evaluate(LogisticRegression(), X, y, cv=GroupKFold(4), groups=PAIRS)
    np.testing.assert_array_equal(routed.probabilities, plain.probabilities)
