"""Several backbones on one task: rows, tests between them, failures, and what is kept."""

import json
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline

from tlclassify import Stage, TransferClassifier, get_backbone, register_backbone
from tlclassify._checks import parameters
from tlclassify.analysis import comparison
from tlclassify.analysis.comparison import compare_backbones
from tlclassify.analysis.evaluate import evaluate, trace_origin
from tlclassify.datasets import make_shapes
from tlclassify.evaluation.comparison import ComparisonRow, adjust_holm, compare_reports, mcnemar
from tlclassify.evaluation.report import build_report
from tlclassify.networks import backbones

FAST = {"weights": None, "head": "linear", "head_stage": Stage(2), "random_state": 0, "verbose": 0}


class Oracle:
    """A fitted classifier that is right on the images it is told."""

    def __init__(self, right):
        self.right, self.classes_ = np.asarray(right, dtype=bool), np.array(["a", "b"])

    def predict_proba(self, X):
        return np.where(self.right, 0.8, 0.3)[:, None] * [1, -1] + [0, 1.0]


def report_of(right):
    return evaluate(Oracle(right), np.zeros((len(right), 1)), ["a"] * len(right))


@pytest.fixture(autouse=True)
def _short_timing(monkeypatch):
    monkeypatch.setattr(comparison, "_TIMED_SECONDS", 0.01)


@pytest.fixture
def shapes():
    return make_shapes(60, image_size=16, random_state=0)


@pytest.fixture
def make(tiny, monkeypatch):
    """A function that makes a classifier on a tiny backbone that counts as the library's own."""
    register_backbone(replace(tiny, name="tiny_row"))
    monkeypatch.setattr(comparison, "BUILT_IN", (get_backbone("tiny_row"),))

    def make(**params):
        return TransferClassifier("tiny_row", **FAST | params)

    yield make
    backbones._registry.pop("tiny_row")


@pytest.mark.parametrize(("n_first", "n_second"), [(0, 0), (3, 3), (7, 1), (0, 12), (40, 20)])
def test_mcnemar_is_the_binomial_test(n_first, n_second):
    both = [True] * 30 + [False] * 5
    right = np.arange(n_first + n_second) < n_first
    first, second = (report_of([*right, *both]), report_of([*~right, *both]))
    expected = binomtest(n_first, n_first + n_second).pvalue if n_first + n_second else 1
    assert mcnemar(first, second) == pytest.approx(expected)
    assert mcnemar(second, first) == pytest.approx(expected)


def test_holm_by_hand():
    adjusted = adjust_holm(np.array([0.04, 0.01, 0.03]))
    assert adjusted == pytest.approx([0.06, 0.03, 0.06])  # never below one that was smaller
    assert adjust_holm(np.array([0.9])) == 0.9
    assert adjust_holm(np.full(3, 0.7)).max() == 1


def test_a_failed_row_has_no_test_and_counts_in_no_correction():
    rows = [
        ComparisonRow("good", report_of([True] * 40)),
        ComparisonRow("bad", report_of([True] * 30 + [False] * 10)),
        ComparisonRow("failed", failure="no"),
    ]
    found = compare_reports(rows, confidence_level=0.95)
    for p in (found.p_values, found.adjusted_p_values):
        assert p[0, 1] == p[1, 0] == binomtest(0, 10).pvalue
        assert p[0, 0] == p[1, 1] == 1
        assert np.isnan(p[2]).all()
        assert np.isnan(p[:, 2]).all()


@pytest.fixture
def three():
    rng = np.random.default_rng(0)
    good = rng.random(300) < 0.9
    near = good ^ (rng.random(300) < 0.02)
    bad = rng.random(300) < 0.5
    rows = [
        ComparisonRow("bad", report_of(bad), fit_seconds=1.0),
        ComparisonRow("gone", failure="OSError: no <b>weights</b> | here"),
        ComparisonRow("near", report_of(near), fit_seconds=2.0, n_parameters=5),
        ComparisonRow("good", report_of(good), fit_seconds=3.0),
    ]
    return compare_reports(rows, confidence_level=0.95)


def test_rows_are_in_order_of_accuracy(three):
    assert [row.name for row in three.rows] == ["good", "near", "bad", "gone"]
    assert three.best.name == "good"
    assert three["near"].n_parameters == 5
    with pytest.raises(KeyError, match="'nix' is none of the rows"):
        three["nix"]


def test_what_is_not_distinguishable_is_said(three):
    assert not three.distinguishable("near")
    assert three.distinguishable("good", other="bad")
    assert not three.distinguishable("gone")
    text = str(three)
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert "not distinguishable, p = " in text
    assert "worse, p < 0.001" in text
    assert lines["gone"] == "gone failed: OSError: no <b>weights</b> | here"
    assert max(map(len, text.splitlines())) <= 100


def test_a_comparison_as_json(three):
    found = json.loads(json.dumps(three.to_dict(), allow_nan=False))
    assert [row["name"] for row in found["rows"]] == ["good", "near", "bad", "gone"]
    assert found["rows"][0]["report"] == three.rows[0].report.to_dict()
    assert found["rows"][3]["report"] is None
    assert found["rows"][3]["fit_seconds"] is None
    assert found["adjusted_p_values"][0][1] == three.adjusted_p_values[0, 1]
    assert found["p_values"][3] == [None] * 4


def test_a_comparison_as_markdown(three):
    lines = three.to_markdown().splitlines()
    n_cells = lines[0].replace(r"\|", "").count("|")
    assert all(line.replace(r"\|", "").count("|") == n_cells for line in lines)
    assert len(lines) == 6
    assert r"no <b>weights</b> \| here" in lines[-1]


def test_one_call(shapes, make):
    X, y = shapes
    before = X.copy()
    found = compare_backbones(
        {"one": make(), "two": make(head_stage=Stage(1))}, X, y, random_state=0, verbose=0
    )
    assert {row.name for row in found.rows} == {"one", "two"}
    np.testing.assert_array_equal(X, before)
    for row in found.rows:
        assert row.report.n_samples == 12
        assert row.fit_seconds > 0
        assert row.extraction_images_per_second > 0
        assert row.prediction_images_per_second > 0
        assert row.single_image_milliseconds > 0
        assert row.file_bytes > 4 * row.n_parameters
    truths = [row.report.y_true for row in found.rows]
    np.testing.assert_array_equal(*truths)
    assert sorted(truths[0].tolist()) == sorted(["circle", "square", "triangle"] * 4)


def test_a_row_is_what_the_classifier_gives_alone(shapes, make):
    X, y = shapes
    found = compare_backbones(
        [make()], X[:40], y[:40], X_test=X[40:], y_test=y[40:], confidence_level=0.8, verbose=0
    )
    alone = evaluate(make().fit(X[:40], y[:40]), X[40:], y[40:], confidence_level=0.8)
    assert str(found.rows[0].report) == str(alone)
    assert found.rows[0].n_parameters == make().fit(X[:40], y[:40]).model_.count_params()


def test_names_take_the_templates_settings(shapes, make):
    X, y = shapes
    found = compare_backbones(
        ["tiny_row", make(head_stage=Stage(3)), make()],
        *(X, y),
        classifier=make(head_stage=Stage(1)),
        verbose=0,
    )
    epochs = {row.name: len(row.report.origin.history) for row in found.rows}
    assert epochs == {"tiny_row": 1, "tiny_row #2": 3, "tiny_row #3": 2}


def test_with_folds_every_image_is_judged_by_another_fold(shapes, make):
    X, y = shapes
    clf = make(head_stage=Stage(1))
    folds = list(StratifiedKFold(2).split(X, y))
    found = compare_backbones({"one": clf, "two": clf}, X, y, cv=iter(folds), verbose=0)
    theirs = evaluate(clf, X, y, cv=folds)
    for row in found.rows:
        assert row.report.n_samples == len(X)
        np.testing.assert_allclose(row.report.probabilities, theirs.probabilities, atol=1e-5)


def test_what_fails_becomes_a_row(shapes, make, tmp_path):
    X, y = shapes
    broken = make(weights=tmp_path / "none.h5")
    found = compare_backbones([broken, make()], X, y, cache_dir=tmp_path, verbose=0)
    assert found.rows[0].failure is None
    assert found.rows[1].failure.startswith("FileNotFoundError: weights: there is no file")
    assert found.rows[1].report is None
    assert "failed: FileNotFoundError" in str(found)


def test_a_row_without_memory(shapes, make, monkeypatch):
    def out_of_memory(*_, **__):
        raise MemoryError("700 GiB")

    monkeypatch.setattr(TransferClassifier, "fit", out_of_memory)
    found = compare_backbones([make()], *shapes, verbose=0)
    assert found.rows[0].failure == "MemoryError: 700 GiB"
    assert found.best is None
    assert str(found) == "tiny_row failed: MemoryError: 700 GiB"
    assert json.dumps(found.to_dict(), allow_nan=False)


def fail_with(error):
    def fit(*_, **__):
        raise error

    return fit


def test_error_score_raise_lets_everything_through(shapes, make, monkeypatch):
    monkeypatch.setattr(TransferClassifier, "fit", fail_with(MemoryError("700 GiB")))
    with pytest.raises(MemoryError, match="700 GiB"):
        compare_backbones([make()], *shapes, error_score="raise", verbose=0)


class ResourceExhaustedError(Exception):
    """As TensorFlow's, which is no MemoryError."""


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("no network"),
        ResourceExhaustedError("of memory"),
        RuntimeError("RESOURCE_EXHAUSTED: of memory"),
        FloatingPointError("diverged"),
        ValueError("images are too small"),
        ImportError("openvino is missing"),
    ],
    ids=repr,
)
def test_what_can_be_expected_becomes_a_row(shapes, make, monkeypatch, error):
    monkeypatch.setattr(TransferClassifier, "fit", fail_with(error))
    found = compare_backbones([make()], *shapes, verbose=0)
    assert found.rows[0].failure == f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(
    "error", [TypeError("bug"), AttributeError("bug"), IndexError("bug"), RuntimeError("bug")]
)
def test_a_bug_is_not_swallowed(shapes, make, monkeypatch, error):
    monkeypatch.setattr(TransferClassifier, "fit", fail_with(error))
    with pytest.raises(type(error), match="bug"):
        compare_backbones([make()], *shapes, verbose=0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="engines take its graphs")
def test_what_is_timed_runs_on_the_classifiers_engine(shapes, make, monkeypatch):
    pytest.importorskip("openvino")
    on_keras = []

    def predict(model, images):
        on_keras.append(model.name)
        return model(images)

    monkeypatch.setattr(keras.Model, "predict_on_batch", predict)
    found = compare_backbones([make(engine="openvino")], *shapes, error_score="raise", verbose=0)
    assert found.rows[0].single_image_milliseconds > 0
    assert not on_keras


def test_an_interrupt_is_no_failure(shapes, make, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt("stop")

    monkeypatch.setattr(TransferClassifier, "fit", interrupt)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        compare_backbones([make()], *shapes, verbose=0)


@pytest.fixture
def fits(monkeypatch):
    """The rows measured so far; their fits are left out and their probabilities made up."""
    counted = []

    def measure(name, clf, task, **options):
        counted.append(name)
        true = np.searchsorted(task.classes, task.labels_test)
        made_up = np.random.default_rng(0).dirichlet(np.ones(len(task.classes)), len(true))
        clf.history_ = [{"stage": "head", "epoch": 1, "loss": 0.5, "accuracy": 0.5}]
        report = build_report(true, made_up.astype(np.float32), task.classes)
        report = replace(report, origin=trace_origin(clf, task.X_test, report))
        if name == "killed":
            raise KeyboardInterrupt("stop")
        return ComparisonRow(name, report, fit_seconds=1.5, n_parameters=7)

    monkeypatch.setattr(comparison, "_measure_row", measure)
    return counted


@pytest.mark.parametrize("dtype", [str, bytes])
def test_a_finished_row_is_kept(shapes, make, fits, tmp_path, dtype):
    X, y = shapes[0], shapes[1].astype(dtype)
    options = {"random_state": 0, "cache_dir": tmp_path, "verbose": 0}
    first = compare_backbones([make()], X, y, **options)
    second = compare_backbones([make()], X, y, **options)
    assert len(fits) == 1
    assert second.to_dict() == first.to_dict()
    assert second.rows[0].report.origin.history == first.rows[0].report.origin.history
    assert second.rows[0].report.origin.created == first.rows[0].report.origin.created
    assert set(second.rows[0].report.origin.thumbnails) == set(
        first.rows[0].report.origin.thumbnails
    )


def test_a_killed_comparison_goes_on(shapes, make, fits, tmp_path):
    X, y = shapes
    options = {"random_state": 0, "cache_dir": tmp_path, "verbose": 0}
    two = make(head_stage=Stage(3))
    with pytest.raises(KeyboardInterrupt, match="stop"):
        compare_backbones({"one": make(), "killed": two}, X, y, **options)
    found = compare_backbones({"one": make(), "two": two}, X, y, **options)
    assert fits == ["one", "killed", "two"]
    assert all(row.failure is None for row in found.rows)


@pytest.mark.parametrize("change", ["pixel", "label", "setting", "split", "test label"])
def test_a_row_of_something_else_is_not_taken(shapes, make, fits, tmp_path, change):
    X, y = shapes
    options = {"random_state": 0, "cache_dir": tmp_path, "verbose": 0}
    if change == "test label":
        options |= {"X_test": X, "y_test": y}
    compare_backbones([make()], X, y, **options)
    X, y, clf = X.copy(), y.copy(), make()
    if change == "pixel":
        X[0, 0, 0, 0] ^= 1
    elif change == "label":
        y[0] = "square" if y[0] != "square" else "circle"
    elif change == "setting":
        clf.set_params(head__dropout=0.1)
    elif change == "split":
        options["random_state"] = 1
    else:
        options["y_test"] = np.roll(y, 1)
    compare_backbones([clf], X, y, **options)
    assert len(fits) == 2


@pytest.mark.parametrize("damage", ["cut", "text", "flip", "empty"])
def test_a_damaged_file_counts_as_absent(shapes, make, fits, tmp_path, damage):
    X, y = shapes
    options = {"random_state": 0, "cache_dir": tmp_path, "verbose": 0}
    first = compare_backbones([make()], X, y, **options)
    (path,) = (tmp_path / "comparisons").rglob("*.row")
    content = bytearray(path.read_bytes())
    content[900] ^= 255
    path.write_bytes(
        {"cut": content[:300], "text": b"hello", "flip": bytes(content), "empty": b""}[damage]
    )
    second = compare_backbones([make()], X, y, **options)
    assert len(fits) == 2
    np.testing.assert_allclose(
        second.rows[0].report.probabilities, first.rows[0].report.probabilities, atol=1e-5
    )


def test_what_has_no_lasting_name_is_not_kept(shapes, tiny, fits, tmp_path):
    X, y = shapes
    clf = TransferClassifier(tiny, **FAST)
    for _ in range(2):
        compare_backbones([clf], X, y, random_state=0, cache_dir=tmp_path, verbose=0)
    assert len(fits) == 2
    assert not (tmp_path / "comparisons").exists()


def test_a_keras_model_is_a_backbone(shapes, fits, tmp_path):
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs), name="mine")
    template = TransferClassifier(**FAST)
    found = compare_backbones(model, *shapes, classifier=template, cache_dir=tmp_path, verbose=0)
    assert [row.name for row in found.rows] == fits == ["mine"]
    assert not (tmp_path / "comparisons").exists()


def test_a_row_that_cannot_be_kept_is_not_lost(shapes, make, fits, tmp_path):
    (tmp_path / "comparisons").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be kept"):
        found = compare_backbones([make()], *shapes, cache_dir=tmp_path, verbose=0)
    assert found.rows[0].failure is None


def test_progress_is_over_the_whole(shapes, make, capsys, monkeypatch):
    monkeypatch.setattr(parameters, "_PROGRESS_DELAY_SECONDS", 0)
    compare_backbones([make(head_stage=Stage(1))], *shapes, verbose=1)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "tiny_row: evaluate" in shown
    compare_backbones([make(weights="none.h5")], *shapes, verbose=0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": []}, "names must hold at least one backbone"),
        ({"names": ["mobilnet"]}, "received 'mobilnet'. Did you mean 'mobilenet'"),
        ({"test_fraction": 1.0}, r"test_fraction must be a number in \(0, 1\); received 1.0"),
        ({"confidence_level": 2}, "confidence_level must be"),
        ({"error_score": 0}, "error_score must be 'raise' or np.nan; received 0"),
        ({"X_test": np.zeros((2, 16, 16, 3), np.uint8)}, "X_test and y_test must come together"),
        ({"y": ["a"] * 60}, "y must hold at least two classes"),
        ({"y": ["a"] * 59 + ["b"]}, "a split by test_fraction.*pass X_test and y_test"),
        (
            {"X_test": np.zeros((1, 16, 16, 3), np.uint8), "y_test": ["hexagon"]},
            "y_test must hold labels seen in fit: .*received 'hexagon'",
        ),
        (
            {"X_test": np.zeros((1, 16, 16, 3), np.uint8), "y_test": ["circle"], "cv": 3},
            "cv must be None where X_test is given",
        ),
    ],
)
def test_bad_input_ends_it_at_once(shapes, fits, change, message):
    X, y = shapes
    options = {"names": ["mobilenet_micro"], "X": X, "y": y, "verbose": 0} | change
    with pytest.raises(ValueError, match=message), warnings.catch_warnings():
        compare_backbones(**options)
    assert not fits


def test_a_pipeline_is_no_classifier(shapes, fits):
    pipeline = make_pipeline(DummyClassifier())
    with pytest.raises(TypeError, match="classifier must be a TransferClassifier, or None"):
        compare_backbones(["mobilenet_micro"], *shapes, classifier=pipeline, verbose=0)
    assert not fits
