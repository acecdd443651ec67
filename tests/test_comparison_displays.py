"""Pictures of a comparison show every row, its own numbers, and names that can be read."""

import itertools
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from pictures import LONG, made_report, overlapping, texts_outside
from tlclassify.displays import (
    AccuracyAgainstTimeDisplay,
    AccuracyBarsDisplay,
    ConfusionMatricesDisplay,
)
from tlclassify.evaluation.comparison import ComparisonRow, compare_reports

pytestmark = pytest.mark.usefixtures("figures")

FAILED = ComparisonRow(
    "a failed one", failure="OSError: no weights at $HOME; " + "pass a path " * 20
)


def made_row(name, right, *, seconds=10.0, n_parameters=1_000_000, classes=LONG):
    report = made_report(classes, right=right)
    return ComparisonRow(
        name,
        report=report,
        fit_seconds=seconds,
        single_image_milliseconds=2 * seconds,
        n_parameters=n_parameters,
    )


def made_comparison(n_rows=4, *failed, classes=LONG):
    rows = [
        made_row(
            ["mobilenet", "resnet50 $", "vgg16 with a <b>very</b> long name that goes on"][i % 3],
            0.9 - 0.1 * i,
            seconds=3.0**i,
            n_parameters=10**i * 20_000,
            classes=classes,
        )
        for i in range(n_rows)
    ]
    return compare_reports([*rows, *failed], confidence_level=0.95)


def box_of(label):
    return Text.get_window_extent(label)  # that of an annotation includes its arrow


def touching(labels):
    boxes = [box_of(label) for label in labels]
    return [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]


@pytest.mark.parametrize("time", ["fit_seconds", "single_image_milliseconds"])
def test_accuracy_against_time_shows_the_numbers_of_the_rows(time):
    comparison = made_comparison(4, FAILED)
    rows = comparison.rows[:4]
    display = AccuracyAgainstTimeDisplay.from_comparison(comparison, time=time).plot()
    intervals, markers = display.ax_.collections[:2]
    points = [(getattr(row, time), row.report.accuracy) for row in rows]
    np.testing.assert_array_equal(markers.get_offsets(), points)
    ends = [segment[:, 1] for segment in intervals.get_segments()]
    np.testing.assert_allclose(ends, [row.report.accuracy_interval for row in rows])
    names = [" ".join(text.get_text().split()) for text in display.ax_.texts]
    assert names[0] == "mobilenet"
    assert names[1] == "resnet50 \\$"
    assert time.split("_")[-1] in display.ax_.get_xlabel()


def test_marker_areas_grow_with_the_parameters():
    display = AccuracyAgainstTimeDisplay.from_comparison(made_comparison(4)).plot()
    areas = display.ax_.collections[1].get_sizes()
    sizes = [row.n_parameters for row in display.rows]
    assert areas[3] / areas[2] == pytest.approx(sizes[3] / sizes[2])
    assert (np.diff(areas) >= 0).all()
    legend = display.ax_.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["20.0 k", "2.0 M", "20.0 M"]
    shown = [handle.get_sizes()[0] for handle in legend.legend_handles]
    np.testing.assert_array_equal(shown, areas[[0, 2, 3]])


def test_the_time_axis_is_logarithmic_where_times_differ_by_more_than_ten():
    for seconds, scale in [((1, 10), "linear"), ((1, 11), "log"), ((0, 11), "linear")]:
        rows = [made_row(f"{s}", 0.5, seconds=float(s)) for s in seconds]
        ax = AccuracyAgainstTimeDisplay(rows).plot().ax_
        assert ax.get_xscale() == scale
        low, high = ax.get_xlim()
        assert low <= seconds[0] < seconds[1] < high


def test_rows_without_a_time_are_left_out():
    report = made_report()
    rows = [ComparisonRow("timed", report=report, fit_seconds=0.0), ComparisonRow("b", report)]
    display = AccuracyAgainstTimeDisplay(rows).plot()
    assert [row.name for row in display.rows] == ["timed"]
    assert display.ax_.get_legend() is None
    with pytest.raises(ValueError, match="rows must know fit_seconds of at least one classifier"):
        AccuracyAgainstTimeDisplay(rows[1:])


@pytest.mark.parametrize("kind", ["crowded", "same", "edge"])
def test_names_lie_inside_and_apart(kind):
    times = {"crowded": np.arange(5, 6, 0.1), "same": [5.0] * 4, "edge": [0.0, 0.0, 100.0]}[kind]
    rows = [made_row(f"classifier {i}", 0.7, seconds=time) for i, time in enumerate(times)]
    before = np.random.get_state()[1].tolist()  # noqa: NPY002 - the global one
    display = AccuracyAgainstTimeDisplay(rows).plot()
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    display.figure_.canvas.draw()
    assert touching(display.ax_.texts) == []
    frame = display.ax_.get_window_extent().padded(0.5)
    points = display.ax_.transData.transform(display.ax_.collections[1].get_offsets())
    for text, point in itertools.product(display.ax_.texts, points):
        box = box_of(text)
        assert frame.contains(box.x0, box.y0)
        assert frame.contains(box.x1, box.y1)
        assert not box.contains(*point)


def test_without_adjust_text_the_way_on_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "adjustText", None)
    with pytest.raises(ImportError, match=r'needs adjustText. Install.* "tlclassify\[plot\]"'):
        AccuracyAgainstTimeDisplay([made_row("one", 0.5)]).plot()


def test_bars_stand_in_order_with_the_failed_ones_below():
    comparison = made_comparison(3, FAILED)
    rows = [comparison.rows[i] for i in (2, 0, 3, 1)]
    display = AccuracyBarsDisplay(rows).plot()
    (points,) = display.ax_.lines
    accuracies = [row.report.accuracy for row in comparison.rows[:3]]
    np.testing.assert_array_equal(points.get_xdata(), accuracies)
    assert accuracies == sorted(accuracies, reverse=True)
    ends = [segment[:, 0] for segment in display.ax_.collections[0].get_segments()]
    intervals = [row.report.accuracy_interval for row in comparison.rows[:3]]
    np.testing.assert_allclose(ends, intervals)
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names[0] == "mobilenet"
    assert names[-1] == FAILED.name
    *values, reason = [text.get_text() for text in display.ax_.texts]
    assert values == [
        f"{accuracy:.3f} ({low:.3f} to {high:.3f})"
        for accuracy, (low, high) in zip(accuracies, intervals, strict=True)
    ]
    assert reason.startswith("failed: OSError: no weights at \\$HOME")
    frame = display.ax_.get_window_extent()
    assert display.ax_.texts[-1].get_window_extent().x1 <= frame.x1
    low, high = sorted(display.ax_.get_ylim())
    assert low < 0 < len(names) - 1 < high


def test_equal_bars_keep_their_order():
    rows = [made_row(name, 0.5) for name in "cab"]
    assert [row.name for row in AccuracyBarsDisplay(rows).rows] == list("cab")


def test_confusion_matrices_are_those_of_the_reports_on_one_scale():
    comparison = made_comparison(3, FAILED)
    display = ConfusionMatricesDisplay.from_comparison(comparison).plot()
    for panel, row in zip(display.ax_, comparison.rows[:3], strict=True):
        (image,) = panel.images
        np.testing.assert_array_equal(image.get_array(), row.report.confusion_matrix_normalized)
        name, accuracy = panel.get_title().split("\n")
        assert name.startswith(row.name[:8])
        assert accuracy == f"accuracy {row.report.accuracy:.3f}"


@pytest.mark.parametrize("n_rows", [1, 2, 3, 5, 7])
def test_confusion_matrices_share_the_names_of_classes(n_rows):
    matrices = np.stack([np.eye(3) / 2] * n_rows)
    names = [f"network {i}" for i in range(n_rows)]
    display = ConfusionMatricesDisplay(matrices, names=names, class_names=LONG[:3]).plot()
    places = [panel.get_subplotspec() for panel in display.ax_]
    rows, columns = zip(*[(p.rowspan.start, p.colspan.start) for p in places], strict=True)
    for panel, row, column in zip(display.ax_, rows, columns, strict=True):
        assert panel.images[0].get_clim() == (0, 1)
        beneath = any(r == row + 1 and c == column for r, c in zip(rows, columns, strict=True))
        assert bool(panel.get_ylabel()) == (column == 0)
        assert bool(panel.get_xlabel()) == (not beneath)
        named = [label.get_text() != "" for label in panel.get_xticklabels()]
        assert named == [not beneath] * 3
    bars = [panel.child_axes for panel in display.ax_]
    assert sum(len(bar) for bar in bars) == 1


@pytest.mark.parametrize(
    ("n_rows", "classes"),
    [(1, LONG), (2, ["cat", "dog"]), (5, LONG), (2, [f"class number {i}" for i in range(30)])],
)
def test_texts_lie_inside_and_apart(n_rows, classes):
    comparison = made_comparison(n_rows, FAILED, classes=classes)
    time = AccuracyAgainstTimeDisplay.from_comparison(comparison).plot()
    bars = AccuracyBarsDisplay.from_comparison(comparison).plot()
    matrices = ConfusionMatricesDisplay.from_comparison(comparison).plot()
    for display in (time, bars, matrices):
        assert texts_outside(display.figure_) == []
    assert touching(time.ax_.texts) == []
    for ax in (time.ax_, bars.ax_, *matrices.ax_):
        upright = [label for label in ax.get_xticklabels() if label.get_rotation() != 45]
        assert overlapping(upright) == []
        assert overlapping(ax.get_yticklabels()) == []
    assert touching([panel.title for panel in matrices.ax_]) == []
    for panel in matrices.ax_:
        assert len(panel.texts) == (len(classes) ** 2 if len(classes) < 30 else 0)
        assert all(text.get_fontsize() > 8 for text in panel.texts)
        frames = [other.get_window_extent() for other in matrices.ax_ if other is not panel]
        labels = [*panel.get_xticklabels(), *panel.get_yticklabels(), panel.title]
        boxes = [label.get_window_extent() for label in labels if label.get_text()]
        assert not [b for b, f in itertools.product(boxes, frames) if b.overlaps(f)]


def test_comparison_displays_on_axes_of_the_caller():
    comparison = made_comparison(2)
    figure, axes = plt.subplots(2, 2, figsize=(12, 10), layout="constrained")
    matrices = ConfusionMatricesDisplay.from_comparison(comparison).plot(axes[0])
    assert matrices.ax_.tolist() == axes[0].tolist()
    assert [bool(panel.get_ylabel()) for panel in matrices.ax_] == [True, True]
    kinds = [AccuracyAgainstTimeDisplay, AccuracyBarsDisplay]
    for kind, ax in zip(kinds, axes[1], strict=True):
        display = kind.from_comparison(comparison).plot(ax)
        assert display.ax_ is ax
        assert display.figure_ is figure


@pytest.mark.parametrize(
    "kind", [AccuracyAgainstTimeDisplay, AccuracyBarsDisplay, ConfusionMatricesDisplay]
)
def test_a_comparison_whose_rows_all_failed_says_why(kind):
    comparison = compare_reports([FAILED], confidence_level=0.95)
    with pytest.raises(ValueError, match=r"did not fail; received a failed one \(OSError: no"):
        kind.from_comparison(comparison)


def test_comparison_displays_bad_input():
    with pytest.raises(ValueError, match="time must be one of 'fit_seconds', 'single_image_milli"):
        AccuracyAgainstTimeDisplay.from_comparison(made_comparison(1), time="fit")
    with pytest.raises(ValueError, match="did not fail; received none"):
        AccuracyBarsDisplay([])
    with pytest.raises(ValueError, match=r"shape \(1, 2, 2\) for 2 names and 2 class names"):
        ConfusionMatricesDisplay([np.eye(2)], names=["a", "b"], class_names=["c", "d"])
    with pytest.raises(ValueError, match="ax must hold 2 Axes for ConfusionMatricesDisplay"):
        ConfusionMatricesDisplay.from_comparison(made_comparison(2)).plot(plt.figure().subplots())
