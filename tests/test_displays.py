"""Pictures are views: they show the numbers they were given, whole and legible."""

import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse
from PIL import Image
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError

from pictures import LONG, made_report, overlapping, texts_outside
from tlclassify.displays import (
    ConfusionDisplay,
    HeatmapDisplay,
    ImageGridDisplay,
    LearningCurvesDisplay,
    LearningRateDisplay,
    PredictionGridDisplay,
)

pytestmark = pytest.mark.usefixtures("figures")


def made_images(n_samples=200, shape=(8, 8, 3)):
    return np.random.default_rng(0).integers(0, 256, (n_samples, *shape), dtype=np.uint8)


def made_history(*stages, validation=True):
    names = [name for name, n_epochs in stages for _ in range(n_epochs)]
    rows = [
        {"stage": name, "epoch": i, "loss": 2 / (i + 1), "accuracy": 1 - 1 / (i + 2)}
        for i, name in enumerate(names)
    ]
    extra = [{"val_loss": 2.5 / (i + 1), "val_accuracy": 0.5} for i in range(len(rows))]
    none = {"val_loss": None, "val_accuracy": None}
    return [row | (extra[i] if validation else none) for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("names", "normalize"),
    [
        (["cat", "dog"], None),
        (LONG, None),
        (LONG, "true"),
        ([f"household appliance number {i}" for i in range(30)], "true"),
        ([f"category {i:03d}" for i in range(100)], None),
        (["x" * 90, "y"], None),
    ],
    ids=["2", "10-long", "10-long-normalized", "30", "100", "too-long"],
)
def test_confusion_texts_lie_inside_and_apart(names, normalize):
    display = ConfusionDisplay.from_report(made_report(names), normalize=normalize).plot()
    assert texts_outside(display.figure_) == []
    assert overlapping(display.ax_.get_yticklabels()) == []
    sizes = [label.get_fontsize() for label in display.ax_.get_yticklabels()]
    assert min(sizes) >= 6
    values = display.ax_.texts
    assert len(values) == (len(names) ** 2 if len(names) <= 30 else 0)
    for start in range(0, len(values), len(names)):
        assert overlapping(values[start : start + len(names)]) == []


def test_confusion_shows_the_numbers_of_the_report():
    report = made_report()
    for normalize, matrix, form in [
        (None, report.confusion_matrix, "d"),
        ("true", report.confusion_matrix_normalized, ".2f"),
    ]:
        display = ConfusionDisplay.from_report(report, normalize=normalize).plot()
        np.testing.assert_array_equal(display.ax_.images[0].get_array(), matrix)
        shown = [text.get_text() for text in display.ax_.texts]
        assert shown == [format(value, form) if value else "0" for value in matrix.flat]
    names = [label.get_text().replace("\\$", "$") for label in display.ax_.get_yticklabels()]
    assert names == list(report.class_names)


def test_confusion_values_stand_out_from_their_cells():
    report = made_report()
    display = ConfusionDisplay.from_report(report, normalize="true").plot()
    shades = display.ax_.images[0].to_rgba(report.confusion_matrix_normalized)
    for text, (*shade, _) in zip(display.ax_.texts, shades.reshape(-1, 4), strict=True):
        letters = mpl.colors.to_rgb(text.get_color())
        assert abs(np.mean(letters) - np.mean(shade)) > 0.3


def test_confusion_of_many_classes_names_some():
    names = [f"category {i:04d}" for i in range(400)]
    display = ConfusionDisplay(np.eye(400, dtype=int), class_names=names).plot()
    step = int(display.ax_.get_xlabel().split()[-1].rstrip(")"))
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == names[::step]
    assert display.figure_.get_size_inches().max() < 25


def test_confusion_on_small_axes_drops_values_that_do_not_fit():
    figure, axes = plt.subplots(1, 2, figsize=(5, 2.5), layout="constrained")
    display = ConfusionDisplay.from_report(made_report()).plot(axes[0])
    assert display.ax_ is axes[0]
    assert display.figure_ is figure
    assert list(display.ax_.texts) == []


def test_confusion_bad_input():
    with pytest.raises(ValueError, match=r"received shape \(2, 2\) for 3 class names"):
        ConfusionDisplay(np.eye(2), class_names=list("abc"))
    with pytest.raises(ValueError, match="normalize must be one of 'true'; received 'pred'"):
        ConfusionDisplay.from_report(made_report(), normalize="pred")


def test_curves_show_the_history():
    history = made_history(("head", 3), ("top", 4))
    display = LearningCurvesDisplay(history).plot()
    for ax, key in zip(display.ax_, ["loss", "accuracy"], strict=True):
        lines = {line.get_label(): line for line in ax.lines}
        np.testing.assert_array_equal(lines["Training"].get_xdata(), np.arange(1, 8))
        np.testing.assert_array_equal(lines["Training"].get_ydata(), [r[key] for r in history])
        validation = lines["Validation"]
        np.testing.assert_array_equal(validation.get_ydata(), [r[f"val_{key}"] for r in history])
        assert validation.get_linestyle() != lines["Training"].get_linestyle()
        marks = [line.get_xdata()[0] for line in ax.lines if line.get_label().startswith("_")]
        assert marks == [3.5]
        assert [text.get_text() for text in ax.texts] == ["head", "top"]
        assert ax.get_legend() is not None


@pytest.mark.parametrize("validation", [True, False])
def test_curves_without_validation(validation):
    history = made_history(("head", 3), validation=validation)
    if validation:
        history[1]["val_loss"] = None
    else:
        del history[0]["val_loss"]
    loss = LearningCurvesDisplay(history).plot().ax_[0]
    assert ("Validation" in [line.get_label() for line in loss.lines]) == validation


@pytest.mark.parametrize(
    "stages",
    [
        [("head", 1)],
        [("head", 5), ("top", 5)],
        [("head", 60), ("top of the network", 1), ("last two blocks", 2), ("whole", 3)],
    ],
)
def test_curves_texts_lie_inside_and_apart(stages):
    display = LearningCurvesDisplay(made_history(*stages)).plot()
    assert texts_outside(display.figure_) == []
    for ax in display.ax_:
        assert overlapping(ax.texts) == []
        assert all(float(tick).is_integer() for tick in ax.get_xticks())


def test_curves_from_estimator():
    clf = DummyClassifier()
    with pytest.raises(NotFittedError, match="DummyClassifier instance is not fitted"):
        LearningCurvesDisplay.from_estimator(clf)
    clf.history_ = made_history(("head", 2))
    assert LearningCurvesDisplay.from_estimator(clf).history == clf.history_


def test_curves_bad_input():
    with pytest.raises(ValueError, match="each epoch; received no epoch"):
        LearningCurvesDisplay([])
    with pytest.raises(ValueError, match=r"an epoch with \['loss'\]"):
        LearningCurvesDisplay([{"loss": 1, "accuracy": 0}, {"loss": 1}])
    with pytest.raises(ValueError, match="ax must hold 2 Axes for LearningCurvesDisplay; received"):
        LearningCurvesDisplay(made_history(("head", 1))).plot(plt.figure().subplots())


@pytest.mark.parametrize("kind", ["uint8", "255", "1", "gray", "gray1", "paths"])
def test_images_look_the_same_however_they_come(kind, tmp_path):
    color = kind not in {"gray", "gray1"}
    pixels = made_images(3) if color else np.repeat(made_images(3, (8, 8, 1)), 3, axis=3)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    X = {
        "uint8": pixels,
        "255": list(pixels.astype("float32")),
        "1": pixels / 255,
        "gray": pixels[..., 0],
        "gray1": pixels[..., :1],
        "paths": paths,
    }[kind]
    display = ImageGridDisplay.from_images(X, ["a", "b", "c"]).plot()
    for ax, image in zip(display.ax_, pixels, strict=True):
        shown = ax.images[0].get_array()
        top = 255 if shown.dtype == np.uint8 else 1
        np.testing.assert_allclose(shown / top, image / 255, atol=1e-6)
    assert [ax.get_title() for ax in display.ax_] == ["a", "b", "c"]


def test_files_are_shown_as_the_network_sees_them(tmp_path):
    noted = Image.Exif()
    noted[0x0112] = 6  # to be turned by a quarter
    paths = [tmp_path / name for name in ("turned.png", "deep.png", "clear.png")]
    Image.new("L", (8, 4), 128).save(paths[0], exif=noted)
    Image.fromarray(np.full((8, 4), 2**15, dtype=np.uint16)).save(paths[1])
    Image.new("RGBA", (4, 8), (200, 0, 0, 0)).save(paths[2])
    one = {"y_true": list("abc"), "y_pred": list("abc"), "probabilities": np.ones(3)}
    for display in (
        ImageGridDisplay(paths),
        PredictionGridDisplay(paths, **one),
        HeatmapDisplay(paths, heatmaps=np.zeros((3, 2, 2))),
    ):
        for ax, value in zip(display.plot().ax_, [128, 128, 255], strict=True):
            shown = ax.images[0].get_array()
            shown = shown / (255 if shown.dtype == np.uint8 else 1)
            np.testing.assert_allclose(shown, np.full((8, 4, 3), value / 255), atol=0.01)


def test_a_dark_image_of_a_bright_set_stays_dark():
    X = np.zeros((3, 4, 4), dtype="float32")
    X[0], X[1] = 255, 1
    for ax in ImageGridDisplay.from_images(X, select=[1, 2]).plot().ax_:
        shown = ax.images[0].get_array()
        assert shown.max() / (255 if shown.dtype == np.uint8 else 1) < 0.01


@pytest.mark.parametrize(
    ("X", "error", "words"),
    [
        (["a good film"] * 200, OSError, "image file.* cannot be read:\n  - a good film: no such"),
        (scipy.sparse.eye_array(200, format="csr"), TypeError, "X must be.* list of file paths"),
        (np.zeros((200, 4)), ValueError, r"X must have shape \(n, height, width\)"),
        ([{"word": 1}] * 200, TypeError, "X must be an array of pixels, or a list of file paths"),
    ],
    ids=["texts", "sparse", "table", "dicts"],
)
def test_what_is_no_image_is_said(X, error, words):
    with pytest.raises(error, match=words):
        ImageGridDisplay.from_images(X).plot()
    with pytest.raises(error, match=words):
        PredictionGridDisplay.from_report(made_report(), X).plot()


def test_labels_in_bytes_are_text():
    display = ImageGridDisplay(made_images(2), labels=[b"cat", b"dog"]).plot()
    assert [ax.get_title() for ax in display.ax_] == ["cat", "dog"]


def test_image_grid_chooses():
    X, y = made_images(), np.arange(200)
    first = ImageGridDisplay.from_images(X, y, n_rows=2, n_columns=3)
    np.testing.assert_array_equal(first.labels, np.arange(6))
    draws = [
        ImageGridDisplay.from_images(X, y, select="random", random_state=seed) for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0].labels, draws[1].labels)
    assert not np.array_equal(draws[0].labels, draws[2].labels)
    assert len(set(draws[0].labels)) == 18
    for display in (first, *draws):
        np.testing.assert_array_equal(display.images, X[display.labels])


def test_grid_with_more_cells_than_images():
    display = ImageGridDisplay.from_images(made_images(5), n_columns=4).plot()
    assert len(display.ax_) == 5
    assert sum(ax.axison for ax in display.figure_.axes) == 5


def test_prediction_grid_marks_wrong_ones_with_a_word():
    report, X = made_report(), made_images()
    display = PredictionGridDisplay.from_report(report, X).plot()
    wrong = (report.y_true != report.y_pred)[:18]
    assert 0 < wrong.sum() < 18
    assert [[t.get_text() for t in ax.texts] for ax in display.ax_] == [
        ["wrong"] if is_wrong else [] for is_wrong in wrong
    ]
    for i, ax in enumerate(display.ax_):
        caption = " ".join(ax.get_title().replace("\\$", "$").split())
        probability = report.probabilities[i].max()
        said = f"true: {report.y_true[i]} predicted: {report.y_pred[i]}"
        assert caption == f"{said} ({probability:.2f})"


def test_prediction_grid_shows_the_surest_mistakes_first():
    report, X = made_report(), made_images()
    display = PredictionGridDisplay.from_report(report, X, select="wrong", n_rows=2, n_columns=2)
    assert (display.y_true != display.y_pred).all()
    mistakes = report.y_true != report.y_pred
    surest = np.sort(report.probabilities[mistakes].max(axis=1))[::-1]
    np.testing.assert_array_equal(display.probabilities, surest[:4])
    row = np.flatnonzero(report.probabilities.max(axis=1) == surest[0])[0]
    np.testing.assert_array_equal(display.images[0], X[row])


@pytest.mark.parametrize("shape", [(8, 8, 3), (16, 6), (6, 16, 1)])
@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 1), (2, 4)])
def test_grid_texts_lie_inside_and_apart(shape, n_rows, n_columns):
    report, X = made_report(), made_images(shape=shape)
    size = {"n_rows": n_rows, "n_columns": n_columns}
    for display in (
        PredictionGridDisplay.from_report(report, X, **size).plot(),
        ImageGridDisplay.from_images(X, report.y_true, **size).plot(),
    ):
        assert texts_outside(display.figure_) == []
        for start in range(0, n_rows * n_columns, n_columns):
            titles = [ax.title for ax in display.ax_[start : start + n_columns]]
            assert overlapping(titles) == []


def test_grid_on_axes_of_the_caller():
    figure, axes = plt.subplots(2, 2)
    display = ImageGridDisplay(made_images(4)).plot(axes)
    assert list(display.ax_) == list(axes.flat)
    assert display.figure_ is figure


def test_grid_bad_input():
    report, X = made_report(), made_images()
    with pytest.raises(ValueError, match="y_true of the report must have one value per image"):
        PredictionGridDisplay.from_report(report, X[1:])
    with pytest.raises(ValueError, match="y must have one value per image"):
        ImageGridDisplay.from_images(X, report.y_true[1:])
    with pytest.raises(ValueError, match="select must be one of 'first', 'random'"):
        ImageGridDisplay.from_images(X, select="wrong")
    with pytest.raises(ValueError, match="2 parameters are not valid"):
        ImageGridDisplay.from_images(X, n_rows=0, n_columns=1.5)
    with pytest.raises(ValueError, match="ax must hold 18 Axes for ImageGridDisplay; received 1"):
        ImageGridDisplay.from_images(X).plot(plt.figure().subplots())
    with pytest.raises(ValueError, match="n_columns must be an integer"):
        ImageGridDisplay(X, n_columns=0).plot()
    right = made_report(["a", "b"], 1)
    with pytest.raises(ValueError, match="select='wrong' must leave at least one image"):
        PredictionGridDisplay.from_report(right, X[:1], select="wrong")


def test_without_matplotlib_the_way_on_is_named(monkeypatch):
    displays = [
        ConfusionDisplay(np.eye(2), class_names=["a", "b"]),
        LearningCurvesDisplay(made_history(("head", 1))),
        ImageGridDisplay(made_images(1)),
    ]
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for display in displays:
        with pytest.raises(ImportError, match=r'pip install "tlclassify\[plot\]"'):
            display.plot()


def test_a_search_for_a_learning_rate_marks_the_suggestion():
    display = LearningRateDisplay([1e-3, 1e-2, 1e-1], losses=[2, 1, 3], suggestion=1e-3).plot()
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_title() == "suggestion: 1.0e-03"
