"""Pictures of a report show its own numbers, and stay legible whatever the report holds."""

import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from pictures import LONG, made_report, overlapping, texts_outside
from tlclassify.displays import (
    ClassCurvesDisplay,
    CoverageDisplay,
    PredictionGridDisplay,
    ReliabilityDisplay,
)

pytestmark = pytest.mark.usefixtures("figures")

MANY = [f"category {i:04d}" for i in range(60)]
ODD = ["_hidden", "$x", "<b>bold</b>", "x" * 90, "two\nlines", "a b"]


def points_of(line):
    return np.column_stack([line.get_xdata(), line.get_ydata()])


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("n_bins", [1, 15])
def test_reliability_shows_the_numbers_of_the_report(n_bins):
    report = made_report()
    numbers = report.reliability(n_bins)
    above, below = ReliabilityDisplay.from_report(report, n_bins=n_bins).plot().ax_
    line, _, (bars,) = above.containers[0]
    full = numbers.n_images > 0
    assert n_bins == 1 or not full.all()
    expected = np.column_stack([numbers.confidence, numbers.accuracy])[full]
    np.testing.assert_array_equal(points_of(line), expected)
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, numbers.accuracy_intervals[full])
    for steps in below.patches:
        np.testing.assert_array_equal(steps.get_data().values, numbers.n_images)
        np.testing.assert_array_equal(steps.get_data().edges, numbers.edges)
    assert [text.get_text() for text in below.texts] == [f"{n}" for n in numbers.n_images[full]]
    assert legend_of(above) == [f"{numbers.error:.3f}"]


def test_reliabilities_of_two_reports_differ_by_more_than_colour():
    reports = {"before": made_report(right=0.3), "after $": made_report(right=0.9)}
    above, below = ReliabilityDisplay.from_reports(reports, n_bins=5).plot().ax_
    lines = [container[0] for container in above.containers]
    for line, report in zip(lines, reports.values(), strict=True):
        accuracy = report.reliability(5).accuracy
        np.testing.assert_array_equal(line.get_ydata(), accuracy[~np.isnan(accuracy)])
    for look in ("get_color", "get_linestyle", "get_marker"):
        assert len({getattr(line, look)() for line in lines}) == 2
    errors = [f"{report.reliability(5).error:.3f}" for report in reports.values()]
    assert legend_of(above) == [f"{errors[0]}  before", f"{errors[1]}  after \\$"]
    assert list(below.texts) == []


@pytest.mark.parametrize("kind", ["roc", "precision_recall"])
def test_class_curves_show_the_curves_of_the_report(kind):
    report = made_report()
    measure = report.roc_curve if kind == "roc" else report.precision_recall_curve
    display = ClassCurvesDisplay.from_report(report, kind=kind).plot()
    curves = [measure(label) for label in report.classes]
    lines = display.ax_.lines[: len(curves)]
    for line, curve in zip(lines, curves, strict=True):
        np.testing.assert_array_equal(points_of(line), np.column_stack([curve.x, curve.y]))
    shown = [text.replace("\\$", "$") for text in legend_of(display.ax_)]
    assert [text[:5] for text in shown] == [f"{curve.area:.3f}" for curve in curves]
    assert [text[7:] for text in shown][:2] == ["miscellaneous hous...appliance", LONG[1]]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(lines)


@pytest.mark.parametrize("kind", ["roc", "precision_recall"])
def test_of_many_classes_the_lowest_areas_are_shown(kind):
    report = made_report(MANY, n_samples=600)
    measure = report.roc_curve if kind == "roc" else report.precision_recall_curve
    drawable = [name for name in MANY if 0 < (report.y_true == name).sum() < 600]
    areas = {name: measure(name).area for name in drawable}
    display = ClassCurvesDisplay.from_report(report, kind=kind, n_curves=7).plot()
    assert sorted(display.curves) == sorted(sorted(areas, key=areas.get)[:7])
    assert list(display.curves) == sorted(display.curves)
    title = display.ax_.get_legend().get_title().get_text()
    assert title.endswith(f"the 7 lowest of {len(drawable)} classes")


def test_a_class_without_images_has_no_curve():
    report = made_report(["a", "b", "c"], n_samples=2, right=0)
    with pytest.raises(ValueError, match="images beside those of other classes; received none"):
        ClassCurvesDisplay.from_report(report)
    report = made_report(list("abcdefgh"), n_samples=5)
    found = sorted(set(report.y_true))
    assert len(found) < 8
    display = ClassCurvesDisplay.from_report(report).plot()
    assert list(display.curves) == found
    assert "lowest" not in display.ax_.get_legend().get_title().get_text()


def test_coverage_shows_the_accuracy_at_each_threshold():
    report = made_report()
    display = CoverageDisplay.from_report(report).plot()
    line, marks = display.ax_.lines
    coverage, accuracy, _ = report.coverage_curve()
    np.testing.assert_array_equal(points_of(line), np.column_stack([coverage, accuracy]))
    surest = report.probabilities.max(axis=1)
    right = report.y_true == report.y_pred
    assert [text.get_text() for text in display.ax_.texts][-1] == f"{surest.min():.2f}"
    for (share, value), text in zip(points_of(marks), display.ax_.texts, strict=True):
        answered = surest >= np.sort(surest)[::-1][round(share * len(surest)) - 1]
        assert answered.mean() == pytest.approx(share)
        assert right[answered].mean() == pytest.approx(value)
        digits = len(text.get_text()) - 2
        assert text.get_text() == f"{surest[answered].min():.{digits}f}"


@pytest.mark.parametrize("order", ["wrong", "unlikely", "uncertain"])
def test_a_prediction_grid_follows_the_ranking_of_the_report(order):
    report = made_report()
    X = np.zeros((200, 2, 2), dtype=np.uint8) + np.arange(200, dtype=np.uint8)[:, None, None]
    display = PredictionGridDisplay.from_report(report, X, select=order, n_rows=2)
    np.testing.assert_array_equal(display.images[:, 0, 0], report.ranked_images(order)[:12])


def test_a_prediction_grid_takes_row_numbers():
    report = made_report()
    X = np.zeros((200, 2, 2), dtype=np.uint8)
    for rows in ([7, 3, 199], np.array([7, 3, 199], dtype=np.uint8), (7, 3, 199)):
        display = PredictionGridDisplay.from_report(report, X, select=rows)
        np.testing.assert_array_equal(display.y_true, report.y_true[[7, 3, 199]])
        probabilities = report.probabilities[[7, 3, 199]].max(axis=1)
        np.testing.assert_array_equal(display.probabilities, probabilities)
    for bad in ([200], [-1], [0.0], [[0, 1]], [True], 5, ["wrong"], []):
        with pytest.raises(
            ValueError, match=r"'uncertain', or row numbers in \[0, 200\); received"
        ):
            PredictionGridDisplay.from_report(report, X, select=bad)
    with pytest.raises(ValueError, match="'unlikely', 'uncertain'; received 'worst'"):
        PredictionGridDisplay.from_report(report, X, select="worst")


@pytest.mark.parametrize(
    "report",
    [
        made_report(["cat", "dog"]),
        made_report(),
        made_report(n_samples=1),
        made_report(right=1),
        made_report(ODD),
        made_report(MANY, n_samples=60),
    ],
    ids=["2", "10-long", "one-image", "all-correct", "odd", "many"],
)
def test_texts_lie_inside_and_apart(report):
    displays = [ReliabilityDisplay.from_report(report), CoverageDisplay.from_report(report)]
    if report.n_samples > 1:
        displays += [ClassCurvesDisplay.from_report(report)]
        displays += [ClassCurvesDisplay.from_report(report, kind="precision_recall")]
    for display in displays:
        display.plot()
        assert texts_outside(display.figure_) == []
        for ax in np.atleast_1d(display.ax_):
            for labels in (ax.get_xticklabels(), ax.get_yticklabels(), ax.texts):
                assert overlapping(labels) == []
        legend = display.figure_.axes[0].get_legend()
        assert overlapping(legend.get_texts()) == []
        frame = display.figure_.axes[0].get_window_extent()
        assert not any(text.get_window_extent().overlaps(frame) for text in legend.get_texts())


def test_report_displays_on_axes_of_the_caller():
    report = made_report()
    figure, axes = plt.subplots(2, 2)
    assert ReliabilityDisplay.from_report(report).plot(axes[0]).ax_.tolist() == axes[0].tolist()
    for display, ax in [(ClassCurvesDisplay, axes[1, 0]), (CoverageDisplay, axes[1, 1])]:
        drawn = display.from_report(report).plot(ax)
        assert drawn.ax_ is ax
        assert drawn.figure_ is figure


def test_report_displays_bad_input():
    report = made_report()
    with pytest.raises(ValueError, match="at least one Reliability"):
        ReliabilityDisplay({})
    with pytest.raises(ValueError, match="n_bins must be an integer"):
        ReliabilityDisplay.from_report(report, n_bins=0)
    with pytest.raises(ValueError, match="ax must hold 2 Axes for ReliabilityDisplay; received 1"):
        ReliabilityDisplay.from_report(report).plot(plt.figure().subplots())
    with pytest.raises(ValueError, match="at least one curve"):
        ClassCurvesDisplay({})
    for make in (ClassCurvesDisplay.from_report, ClassCurvesDisplay):
        with pytest.raises(ValueError, match="kind must be one of 'roc', 'precision_recall'; rec"):
            make(report if make is not ClassCurvesDisplay else {}, kind="ROC")
    with pytest.raises(ValueError, match="n_curves must be an integer"):
        ClassCurvesDisplay.from_report(report, n_curves=0)


def test_report_displays_without_matplotlib_name_the_way_on(monkeypatch):
    report = made_report()
    kinds = (ReliabilityDisplay, ClassCurvesDisplay, CoverageDisplay)
    displays = [kind.from_report(report) for kind in kinds]
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for display in displays:
        with pytest.raises(ImportError, match=r'pip install "tlclassify\[plot\]"'):
            display.plot()


def test_colours_of_curves_stand_out_from_the_page():
    display = ClassCurvesDisplay.from_report(made_report()).plot()
    for line in display.ax_.get_lines():
        assert np.mean(mpl.colors.to_rgb(line.get_color())) < 0.75
