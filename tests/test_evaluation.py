"""Every number of a report equals scikit-learn's or SciPy's own on the same predictions."""

import dataclasses
import importlib.metadata
import json
import pickle

import numpy as np
import pytest
import sklearn
from scipy.sparse import csr_matrix
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import tlclassify
from tlclassify.analysis.evaluate import evaluate
from tlclassify.evaluation.text import short_name

NAMES = ["airplane", "cat", "dog", "miscellaneous household appliance", "ship", "truck"]


class Oracle:
    """A fitted classifier that returns the probabilities it was given."""

    def __init__(self, probabilities, classes):
        self.probabilities, self.classes_, self.n_calls = probabilities, np.array(classes), 0

    def predict_proba(self, X):
        self.n_calls += 1
        return self.probabilities


def made_up(n_samples=300, names=NAMES, dtype="float64", n_present=None):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(len(names), 0.4), n_samples).astype(dtype)
    guessed = probabilities.argmax(axis=1) % (n_present or len(names))
    other = rng.integers(0, n_present or len(names), n_samples)
    y = np.array(names)[np.where(rng.random(n_samples) < 0.7, guessed, other)]
    return Oracle(probabilities, names), np.zeros((n_samples, 2)), y


def report_of(probabilities, y, names=("a", "b", "c"), **settings):
    return evaluate(Oracle(np.array(probabilities), names), np.zeros((len(y), 1)), y, **settings)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_is_scikit_learns(dtype):
    clf, X, y = made_up(dtype=dtype)
    report = evaluate(clf, X, y, top_k=(1, 2, 5))
    pred = clf.classes_[clf.probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(report.y_true, y)
    np.testing.assert_array_equal(report.y_pred, pred)
    assert report.accuracy == metrics.accuracy_score(y, pred)
    theirs = metrics.log_loss(y, clf.probabilities, labels=NAMES)
    assert report.log_loss == pytest.approx(theirs, rel=1e-6)
    np.testing.assert_array_equal(report.confusion_matrix, metrics.confusion_matrix(y, pred))
    assert report.confusion_matrix.dtype.kind == "i"
    np.testing.assert_array_equal(
        report.confusion_matrix_normalized, metrics.confusion_matrix(y, pred, normalize="true")
    )
    scores = metrics.precision_recall_fscore_support(y, pred)
    for ours, theirs in zip(
        (report.precision, report.recall, report.f1, report.support), scores, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    for kind in ("macro", "weighted"):
        theirs = metrics.precision_recall_fscore_support(y, pred, average=kind)[:3]
        assert getattr(report, f"{kind}_average") == pytest.approx(theirs, rel=1e-12)
    assert report.top_k_accuracy == {
        k: metrics.top_k_accuracy_score(y, clf.probabilities, k=k, labels=NAMES) for k in (1, 2, 5)
    }


@pytest.mark.parametrize(("n_correct", "n_samples"), [(0, 1), (1, 1), (7, 10), (50, 50)])
def test_interval_is_wilsons(n_correct, n_samples):
    y = ["a"] * n_correct + ["b"] * (n_samples - n_correct)
    report = report_of([[0.7, 0.2, 0.1]] * n_samples, y, confidence_level=0.8)
    theirs = binomtest(n_correct, n_samples).proportion_ci(0.8, method="wilson")
    assert report.accuracy_interval == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert report.confidence_level == 0.8


def test_the_model_runs_once():
    clf, X, y = made_up()
    report = evaluate(clf, X, y)
    str(report), report.to_dict()
    assert clf.n_calls == 1


@pytest.mark.parametrize(
    "clf",
    [LogisticRegression(max_iter=500), make_pipeline(StandardScaler(), LogisticRegression())],
    ids=["estimator", "pipeline"],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_any_scikit_learn_classifier(clf, as_text):
    iris = load_iris()
    y = iris.target_names[iris.target] if as_text else iris.target
    clf.fit(iris.data[::2], y[::2])
    report = evaluate(clf, iris.data[1::2], y[1::2])
    assert report.accuracy == clf.score(iris.data[1::2], y[1::2])
    np.testing.assert_array_equal(report.probabilities, clf.predict_proba(iris.data[1::2]))
    np.testing.assert_array_equal(report.y_pred, clf.predict(iris.data[1::2]))
    assert report.class_names == tuple(str(label) for label in clf.classes_)


TEXTS = ["a red fish", "the blue bird", "red red", "blue sky", "x" * 5000, "zero \0 byte"]


@pytest.mark.parametrize("kind", ["list", "array", "series"])
def test_a_classifier_of_texts(kind):
    pandas = pytest.importorskip("pandas")
    X = {"list": list, "array": np.array, "series": pandas.Series}[kind](TEXTS)
    clf = make_pipeline(CountVectorizer(), MultinomialNB()).fit(X, [0, 1, 0, 1, 0, 1])
    for report in (evaluate(clf, X, [0, 1, 1, 1, 0, 1]), evaluate(clf, X, [0, 1] * 3, cv=2)):
        assert (report.n_samples, report.origin.thumbnails) == (6, {})


@pytest.mark.parametrize("kind", ["sparse", "frame", "rows", "tables"])
def test_a_classifier_of_tables(kind):
    pandas = pytest.importorskip("pandas")
    X, y = load_iris(return_X_y=True)
    X = {
        "sparse": csr_matrix,
        "frame": pandas.DataFrame,
        "rows": np.ndarray.tolist,
        "tables": lambda X: (X - 3).reshape(-1, 2, 2),
    }[kind](X)
    flatten = FunctionTransformer(lambda X: X.reshape(-1, 4) if kind == "tables" else X)
    clf = make_pipeline(flatten, LogisticRegression(max_iter=500)).fit(X, y)
    report = evaluate(clf, X, y)
    assert report.accuracy == clf.score(X, y)
    assert report.origin.thumbnails == {}


@pytest.mark.parametrize(
    "history", [{"loss": [1.0, 0.5], "accuracy": [0.5, 0.6]}, [1.0, 0.5], [{"epoch": 1}], "none"]
)
def test_what_another_library_keeps_as_its_history_does_no_harm(history):
    clf, X, y = made_up()
    clf.history_ = history
    assert evaluate(clf, X, y).origin.history == ()


def test_no_installed_distribution_is_needed(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", missing)
    versions = evaluate(*made_up()).origin.versions
    assert versions["tlclassify"] == tlclassify.__version__
    assert versions["scikit-learn"] == sklearn.__version__


def test_order_of_classes_changes_no_number():
    clf, X, y = made_up()
    order = np.array([3, 0, 5, 1, 4, 2])
    other = evaluate(Oracle(clf.probabilities[:, order], np.array(NAMES)[order]), X, y)
    report = evaluate(clf, X, y)
    assert other.log_loss == pytest.approx(report.log_loss)
    assert other.top_k_accuracy == report.top_k_accuracy
    np.testing.assert_array_equal(other.recall, report.recall[order])


def test_row_order_changes_no_number():
    clf, X, y = made_up()
    back = evaluate(Oracle(clf.probabilities[::-1], NAMES), X, y[::-1]).to_dict()
    forth = evaluate(clf, X, y).to_dict()
    assert back.pop("log_loss") == pytest.approx(forth.pop("log_loss"))
    assert back == forth


def test_absent_class_has_no_support_and_no_part_in_averages():
    clf, X, y = made_up(n_present=4)
    report = evaluate(clf, X, y)
    assert list(report.support[4:]) == [0, 0]
    assert not report.confusion_matrix_normalized[4:].any()
    present = np.unique(y)
    theirs = metrics.precision_recall_fscore_support(
        y, report.y_pred, labels=present, average="macro"
    )
    assert report.macro_average == pytest.approx(theirs[:3])
    row = next(line for line in str(report).splitlines() if line.startswith("truck"))
    assert row.split() == ["truck", "-", "-", "-", "0"]


@pytest.mark.parametrize(("label", "accuracy"), [("a", 1.0), ("b", 0.0)])
def test_a_single_image(label, accuracy):
    report = report_of([[0.7, 0.2, 0.1]], [label])
    assert (report.accuracy, report.n_samples) == (accuracy, 1)
    assert report.accuracy_interval[1] - report.accuracy_interval[0] > 0.7
    assert report.log_loss == pytest.approx(-np.log(0.7 if label == "a" else 0.2))
    assert "n = 1," in str(report)


def test_ties_rank_in_the_order_of_classes():
    report = report_of(np.full((3, 4), 0.25), list("abc"), list("abcd"), top_k=(1, 2, 3))
    assert list(report.y_pred) == ["a", "a", "a"]
    assert report.top_k_accuracy == pytest.approx({1: 1 / 3, 2: 2 / 3, 3: 1})


def test_two_classes_and_k_above_them():
    report = report_of([[0.4, 0.6], [0.8, 0.2]], [1, 1], [0, 1], top_k=(1, 5, 9))
    assert report.top_k_accuracy == {1: 0.5, 2: 1.0}
    assert "top-2" not in str(report)


def test_rows_of_float32_kept_as_float64_do_not_warn():
    clf, X, y = made_up(dtype="float32")
    exact = metrics.log_loss(y, clf.probabilities, labels=NAMES)
    clf.probabilities = clf.probabilities.astype("float64")
    assert evaluate(clf, X, y).log_loss == pytest.approx(exact)


def test_table_is_aligned_and_fits():
    clf, X, y = made_up(names=[*NAMES, "a very long name " * 8])
    lines = str(evaluate(clf, X, y, top_k=(1, 3))).splitlines()
    assert lines[0].startswith("accuracy ")
    assert "95% interval" in lines[0]
    assert "n = 300, 7 classes" in lines[0]
    start = lines.index("") + 1
    assert len({len(line) for line in lines[start:]}) == 1
    assert max(map(len, lines)) <= 100
    assert len(lines[start:]) == 1 + 7 + 2


def test_table_of_a_thousand_classes_shows_the_worst():
    names = [f"class {i:03d}" for i in range(1000)]
    clf, X, y = made_up(2000, names)
    report = evaluate(clf, X, y)
    lines = str(report).splitlines()
    assert len(lines) < 30
    present = report.support > 0
    shown = [names.index(line[:9]) for line in lines if line.startswith("class 0")]
    assert report.f1[shown].max() <= np.sort(report.f1[present])[20]


@pytest.mark.parametrize(
    ("classes", "written"),
    [
        (NAMES, NAMES),
        ([3, 5, 8], [3, 5, 8]),
        ([False, True], [False, True]),
        ([b"cat", b"dog"], ["cat", "dog"]),
        (np.array([np.int64(3), np.int64(5)], dtype=object), [3, 5]),
        (np.array([1, 2], dtype=np.uint8), [1, 2]),
        ([0.0, 1.0], [0.0, 1.0]),
    ],
    ids=str,
)
def test_to_dict_is_json(classes, written):
    clf, X, y = made_up(40, classes, n_present=2)
    report = evaluate(clf, X, y, top_k=np.array([1, 2]), confidence_level=np.float32(0.9))
    numbers = report.to_dict()
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    assert [row["class"] for row in numbers["per_class"]] == written
    assert sum(row["support"] for row in numbers["per_class"]) == 40
    assert report.class_names == tuple(map(str, written))


def test_report_is_a_frozen_record():
    clf, X, y = made_up()
    report = evaluate(clf, X, y)
    with pytest.raises(dataclasses.FrozenInstanceError, match="accuracy"):
        report.accuracy = 1.0
    with pytest.raises(ValueError, match="read-only"):
        report.y_true[0] = "cat"
    y[0], clf.probabilities[0, 0], clf.classes_[0] = "elsewhere", 7, "x"  # still the caller's own
    assert "elsewhere" not in report.y_true
    assert report.probabilities.max() <= 1
    assert report.class_names == tuple(NAMES)
    assert pickle.loads(pickle.dumps(report)).to_dict() == report.to_dict()
    numbers = f"accuracy={report.accuracy:.4f}, n_samples=300, n_classes=6"
    assert repr(report) == f"EvaluationReport({numbers})"


def test_unseen_labels_are_named():
    clf, X, y = made_up()
    y = y.astype(object)
    y[:3], y[5] = "hrose", "truk"
    with pytest.raises(ValueError, match=r"'airplane', .* received 'hrose', 'truk' in 4 of 300"):
        evaluate(clf, X, y)
    assert clf.n_calls == 0
    with pytest.raises(ValueError, match=r"0, 1, .* 9 and 2 more"):
        report_of([[0.5, 0.5]] * 12, list(range(12)), ["0", "1"])


def with_row(row, n_samples=4):
    probabilities = np.full((n_samples, 3), 1 / 3)
    probabilities[1] = row
    return probabilities


@pytest.mark.parametrize(
    "row", [[np.nan, 0, 1], [np.inf, 0, 0], [0.5, 0.2, 0.2], [1.5, -0.5, 0.0]], ids=str
)
def test_bad_probabilities(row):
    with pytest.raises(ValueError, match="1 of 4 rows that are not, the first at row 1"):
        report_of(with_row(row), list("abca"))


@pytest.mark.parametrize("shape", [(4, 2), (3, 3), (4,)])
def test_probabilities_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"shape \(n_samples, n_classes\) = \(4, 3\); received"):
        report_of(np.full(shape, 0.5), list("abca"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": 0}, "top_k must be an integer"),
        ({"top_k": (1, 2.5)}, "top_k must be an integer"),
        ({"top_k": ()}, "top_k must be an integer"),
        ({"confidence_level": 1}, "confidence_level must be a number"),
        ({"top_k": -1, "confidence_level": 95}, "2 parameters are not valid"),
    ],
)
def test_settings_out_of_range(settings, message):
    clf, X, y = made_up()
    with pytest.raises(ValueError, match=message):
        evaluate(clf, X, y, **settings)


def test_lengths_and_emptiness():
    clf, X, y = made_up()
    with pytest.raises(ValueError, match="one label per image; received 299 labels for 300"):
        evaluate(clf, X, y[1:])
    with pytest.raises(ValueError, match="at least one image; received none"):
        evaluate(clf, X[:0], y[:0])


def test_not_a_fitted_classifier():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(NotFittedError, match=r"LogisticRegression\.fit"):
        evaluate(LogisticRegression(), X, y)
    with pytest.raises(TypeError, match="predict_proba and classes_; received RidgeClassifier"):
        evaluate(RidgeClassifier().fit(X, y), X, y)
    with pytest.raises(ValueError, match="two or more classes"):
        report_of([[1.0]], ["a"], ["a"])


@pytest.mark.parametrize("width", [10, 11, 12, 30])
def test_short_name(width):
    name = "category 0001, the left half of it"
    short = short_name(name, width=width)
    assert len(short) == width
    assert (short[0], short[-1]) == ("c", "t")
    assert short_name("a\n cat", width=width) == "a cat"
