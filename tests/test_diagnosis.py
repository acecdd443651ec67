"""What a report tells of its mistakes equals scikit-learn's and SciPy's own numbers."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from tlclassify.analysis.evaluate import evaluate

NAMES = np.array(["ant", "bee", "cat", "dog"])


class Oracle:
    """A fitted classifier that returns the probabilities it was given."""

    def __init__(self, probabilities, classes=NAMES):
        self.probabilities, self.classes_ = np.asarray(probabilities), np.asarray(classes)

    def predict_proba(self, X):
        return self.probabilities


def report_of(probabilities, y, classes=NAMES, X=None, **settings):
    X = np.zeros((len(y), 1)) if X is None else X
    return evaluate(Oracle(probabilities, classes), X, y, **settings)


@pytest.fixture
def report():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(4, 0.5), 400)
    guessed = probabilities.argmax(axis=1)
    y = NAMES[np.where(rng.random(400) < 0.6, guessed, rng.integers(0, 4, 400))]
    return report_of(probabilities, y)


def test_intervals_of_a_class_are_wilsons(report):
    for i in range(4):
        right = report.confusion_matrix[i, i]
        for ends, total in (
            (report.recall_intervals[i], report.confusion_matrix[i].sum()),
            (report.precision_intervals[i], report.confusion_matrix[:, i].sum()),
        ):
            theirs = binomtest(int(right), int(total)).proportion_ci(0.95, method="wilson")
            assert tuple(ends) == pytest.approx((theirs.low, theirs.high))


def test_a_class_without_images_has_no_interval():
    report = report_of(np.full((2, 4), 0.25), ["ant", "bee"])
    assert np.isnan(report.recall_intervals[2:]).all()
    assert np.isnan(report.precision_intervals[1:]).all()
    rows = json.loads(json.dumps(report.to_dict(), allow_nan=False))["per_class"]
    assert rows[2]["recall_interval"] is None
    assert rows[0]["recall_interval"] == pytest.approx(report.recall_intervals[0])


def test_confused_pairs_are_the_largest_cells_off_the_diagonal(report):
    pairs = report.confused_pairs(12)
    assert [pair.n_images for pair in pairs] == sorted(
        (report.confusion_matrix[~np.eye(4, dtype=bool)]), reverse=True
    )
    for pair in pairs:
        mine = (report.y_true == pair.true) & (report.y_pred == pair.predicted)
        assert pair.n_images == mine.sum()
        assert pair.fraction == mine.sum() / (report.y_true == pair.true).sum()
    assert report.confused_pairs(3) == pairs[:3]


def test_nothing_is_confused_where_all_is_right():
    assert report_of(np.eye(4), NAMES).confused_pairs() == []
    with pytest.raises(ValueError, match="n_pairs must be an integer in"):
        report_of(np.eye(4), NAMES).confused_pairs(0)


def test_images_are_ranked():
    probabilities = [[0.4, 0.6], [0.1, 0.9], [0.5, 0.5], [0.0, 1.0], [0.3, 0.7]]
    report = report_of(probabilities, ["a", "a", "a", "b", "a"], ["a", "b"])
    assert report.ranked_images("wrong").tolist() == [1, 4, 0]
    assert report.ranked_images("unlikely").tolist() == [1, 4, 0, 2, 3]
    assert report.ranked_images("uncertain").tolist() == [2, 0, 4, 1, 3]
    with pytest.raises(ValueError, match="order must be one of 'wrong'.*Did you mean 'wrong'"):
        report.ranked_images("wron")


def test_reliability_is_scikit_learns(report):
    confidence, correct = report.probabilities.max(axis=1), report.y_true == report.y_pred
    for n_bins in (1, 10, 15):
        found = report.reliability(n_bins)
        shares, means = calibration_curve(correct, confidence, n_bins=n_bins)
        filled = found.n_images > 0
        np.testing.assert_allclose(found.accuracy[filled], shares)
        np.testing.assert_allclose(found.confidence[filled], means)
        assert np.isnan(found.accuracy[~filled]).all()
        weights = found.n_images[filled] / len(correct)
        assert found.error == pytest.approx((weights * np.abs(shares - means)).sum())
        low, high = binomtest(
            int(found.accuracy[-1] * found.n_images[-1] + 0.5), int(found.n_images[-1])
        ).proportion_ci(method="wilson")
        assert tuple(found.accuracy_intervals[-1]) == pytest.approx((low, high))
    assert report.calibration_error == report.reliability(15).error


def test_a_report_of_one_image():
    report = report_of([[0.7, 0.1, 0.1, 0.1]], ["ant"])
    assert report.calibration_error == pytest.approx(0.3)
    assert report.coverage_curve().accuracy.tolist() == [1.0]
    with pytest.raises(ValueError, match="images of its own and of other classes among the 1"):
        report.roc_curve("ant")
    with pytest.raises(ValueError, match="two classes or more for label errors"):
        report.label_errors()


@pytest.mark.parametrize("label", NAMES)
def test_curves_of_a_class_are_scikit_learns(report, label):
    positive, scores = report.y_true == label, report.probabilities[:, list(NAMES).index(label)]
    roc = report.roc_curve(label)
    for ours, theirs in zip(roc, metrics.roc_curve(positive, scores), strict=False):
        np.testing.assert_array_equal(ours, theirs)
    assert roc.area == pytest.approx(metrics.roc_auc_score(positive, scores))
    curve = report.precision_recall_curve(label)
    precision, recall, thresholds = metrics.precision_recall_curve(positive, scores)
    np.testing.assert_array_equal(curve.x, recall)
    np.testing.assert_array_equal(curve.y, precision)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    assert curve.area == pytest.approx(metrics.average_precision_score(positive, scores))


def test_a_curve_of_an_unknown_class(report):
    with pytest.raises(ValueError, match="received 'dgo'. Did you mean 'dog'"):
        report.roc_curve("dgo")


def test_coverage_is_the_accuracy_of_the_surest():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.4, 0.6], [0.5, 0.5]])
    curve = report_of(probabilities, list("abbbb"), ["a", "b"]).coverage_curve()
    np.testing.assert_allclose(curve.thresholds, [0.9, 0.8, 0.6, 0.5])
    np.testing.assert_allclose(curve.coverage, [0.2, 0.4, 0.8, 1])
    np.testing.assert_allclose(curve.accuracy, [1, 1, 0.75, 0.6])


def test_coverage_ends_at_the_accuracy(report):
    curve = report.coverage_curve()
    assert curve.coverage[-1] == 1
    assert curve.accuracy[-1] == pytest.approx(report.accuracy)
    assert (np.diff(curve.thresholds) < 0).all()


def test_folds_are_scikit_learns():
    X, y = load_iris(return_X_y=True)
    clf = LogisticRegression(max_iter=500)
    report = evaluate(clf, X, y, cv=StratifiedKFold(3))
    theirs = cross_val_predict(clf, X, y, cv=StratifiedKFold(3), method="predict_proba")
    np.testing.assert_array_equal(report.probabilities, theirs)
    assert not hasattr(clf, "classes_")
    assert report.n_samples == len(y)


def test_flipped_labels_are_found():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 1000)
    centers = rng.normal(size=(4, 8)) * 1.5
    X = centers[true] + rng.normal(size=(1000, 8))
    flipped = rng.choice(1000, 20, replace=False)
    given = true.copy()
    given[flipped] = (given[flipped] + rng.integers(1, 4, 20)) % 4
    report = evaluate(LogisticRegression(max_iter=500), X, NAMES[given], cv=5)
    errors = report.label_errors()
    assert np.isin([error.row for error in errors[:40]], flipped).sum() >= 10
    for error in errors:
        assert error.label == report.y_true[error.row]
        assert error.suggested == report.y_pred[error.row] != error.label
        assert error.suggested_probability == report.probabilities[error.row].max()
    found = [error.label_probability for error in errors]
    assert found == sorted(found)


def test_label_errors_where_a_class_has_no_images():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, 200) * 2
    probabilities = np.full((200, 4), 0.04)
    probabilities[np.arange(200), true] = 0.88
    given = true.copy()
    given[[3, 50]] = 2 - given[[3, 50]]
    rows = [error.row for error in report_of(probabilities, NAMES[given]).label_errors()]
    assert sorted(rows) == [3, 50]


def test_label_errors_without_cleanlab(report, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cleanlab.filter", None)
    with pytest.raises(ImportError, match=r'pip install "tlclassify\[labels\]"'):
        report.label_errors()


def test_the_origin_is_kept():
    X, y = load_iris(return_X_y=True)
    clf = LogisticRegression(C=0.5, max_iter=500).fit(X, y)
    clf.history_ = [{"loss": 1.0, "accuracy": 0.5}]
    origin = evaluate(clf, X, y).origin
    assert origin.settings["classifier"] == "LogisticRegression"
    assert origin.settings["C"] == "0.5"
    assert origin.history == ({"loss": 1.0, "accuracy": 0.5},)
    assert {"python", "numpy", "scikit-learn", "tlclassify"} <= set(origin.versions)
    assert origin.thumbnails == {}


@pytest.mark.parametrize("kind", ["uint8", "float", "unit", "gray", "list", "files"])
def test_thumbnails_are_of_the_mistakes(kind, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 200, 100, 3), dtype=np.uint8)
    X = {
        "uint8": pixels,
        "float": pixels.astype(np.float32),
        "unit": pixels / 255,
        "gray": pixels[..., 0],
        "list": list(pixels),
        "files": [tmp_path / f"{i}.png" for i in range(6)],
    }[kind]
    if kind == "files":
        for path, image in zip(X, pixels, strict=True):
            Image.fromarray(image).save(path)
        X[0].unlink()  # what cannot be read has no picture, and the others have theirs
    probabilities = np.tile([0.9, 0.1], (6, 1))
    thumbnails = report_of(probabilities, list("abbaba"), ["a", "b"], X=X).origin.thumbnails
    assert set(thumbnails) == set(range(kind == "files", 6))
    assert all(t.dtype == np.uint8 and t.shape == (128, 64, 3) for t in thumbnails.values())
    mean = pixels[1, ..., 0].mean() if kind == "gray" else pixels[1].mean()
    assert thumbnails[1].mean() == pytest.approx(mean, abs=1)


def test_thumbnails_are_what_the_model_saw(tmp_path):
    """Turned as a camera says, of 16 bits, transparent: as files are read for `predict`."""
    halves = np.zeros((8, 16), dtype=np.uint8)
    halves[:, 8:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    clear = np.dstack([halves] * 3 + [np.zeros_like(halves)])
    paths = [tmp_path / name for name in ("turned.png", "deep.png", "clear.png")]
    Image.fromarray(halves).save(paths[0], exif=exif)
    Image.fromarray(halves.astype(np.uint16) * 128).save(paths[1])
    Image.fromarray(clear).save(paths[2])
    turned, deep, white = report_of(
        np.tile([0.4, 0.6], (3, 1)), list("aaa"), ["a", "b"], X=paths
    ).origin.thumbnails.values()
    assert turned.shape == (16, 8, 3)
    assert (turned[:8].max(), turned[8:].min()) == (0, 255)
    assert deep.max() == pytest.approx(127, abs=1)
    assert (white == 255).all()


def test_thumbnails_have_the_range_that_fit_decided():
    dark = np.full((2, 8, 8, 3), 1.0)
    clf = Oracle(np.tile([0.4, 0.6], (2, 1)), ["a", "b"])
    clf.pixel_range_ = 255
    thumbnails = evaluate(clf, dark, ["a", "b"]).origin.thumbnails
    assert thumbnails[0].max() == 1
