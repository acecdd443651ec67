"""What a notebook shows of a record is what `print` shows of it, as HTML, and breaks nothing."""

import copy
import json
import pickle
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from pictures import made_report
from tlclassify.analysis.evaluate import predict_table
from tlclassify.analysis.learning_rates import LearningRateSearch
from tlclassify.displays import HeatmapDisplay
from tlclassify.evaluation import LearningCurve
from tlclassify.evaluation.comparison import ComparisonRow, compare_reports
from tlclassify.evaluation.text import History
from tlclassify.networks import backbones
from tlclassify.networks.backbones import get_backbone, list_backbones
from tlclassify.networks.rows import Backbone

EVIL = "<script>alert(1)</script>"
EPOCHS = [
    {"stage": "head", "epoch": n + 1, "loss": 1 / (n + 1), "accuracy": 0.5, "seconds": 1.25}
    for n in range(3)
]


def make_comparison():
    rows = [ComparisonRow(EVIL, made_report()), ComparisonRow("gone", failure=f"OSError: {EVIL}")]
    return compare_reports(rows, confidence_level=0.9)


def make_curve():
    sizes = np.array([5, 10, 20, 40])
    accuracies = 0.9 - sizes[:, None] ** -0.5 + np.array([[-0.01, 0.01]])
    return LearningCurve(sizes, accuracies, n_test=1_000, n_classes=3, confidence_level=0.95)


class Oracle:
    classes_ = np.array(["cat", EVIL])

    def predict_proba(self, X):
        return np.tile([0.8, 0.2], (len(X), 1))


def make_heat():
    heat = np.zeros((2, 4, 4))
    heat[0, 1, 2] = 1
    images = np.zeros((2, 8, 8, 3), np.uint8)
    return HeatmapDisplay(images, heatmaps=heat, captions=[EVIL, "dog"])


RECORDS = {
    "report": lambda: made_report([EVIL, "bee", "cow"]),
    "comparison": make_comparison,
    "curve": make_curve,
    "history": lambda: History(EPOCHS),
    "predictions": lambda: predict_table(Oracle(), [f"{EVIL}.png", "b.png"], threshold=0.9),
    "backbones": list_backbones,
    "heat": make_heat,
    "rates": lambda: LearningRateSearch(np.geomspace(1e-6, 1, 9), np.linspace(2, 1, 9), 0.1),
}
PICTURED = {"curve", "history", "heat", "rates"}


class Reader(HTMLParser):
    """The words of HTML but those in pictures, and whether all elements are closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.tags = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "svg" not in self.open:
            self.words += data.split()


class Printer:
    """What IPython hands to `_repr_pretty_`."""

    def __init__(self):
        self.written = ""

    def text(self, text):
        self.written += text


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.usefixtures("figures")
def test_html_and_text_have_the_same_words(name):
    record = RECORDS[name]()
    reader = Reader(record._repr_html_())
    assert reader.words == str(record).split()
    assert reader.open == []
    assert "script" not in reader.tags
    assert ("svg" in reader.tags) == (name in PICTURED)
    printer = Printer()
    record._repr_pretty_(printer, cycle=False)
    assert printer.written == str(record)


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.usefixtures("figures")
def test_colours_are_left_to_the_notebook(name):
    """A picture has its curves' own colours, and black, white or a background of no record."""
    shown = RECORDS[name]()._repr_html_()
    assert "<style" not in re.sub(r"<svg.*?</svg>", "", shown, flags=re.DOTALL)
    assert "background" not in shown
    assert "#000000" not in shown


@pytest.mark.parametrize("name", sorted(PICTURED))
def test_without_matplotlib_the_words_remain(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    record = RECORDS[name]()
    assert Reader(record._repr_html_()).words == str(record).split()


@pytest.mark.usefixtures("figures")
def test_a_heat_map_that_is_drawn_already_is_not_drawn_again():
    display = make_heat()
    assert "<svg" in display._repr_html_()
    assert not hasattr(display, "figure_")
    assert "<svg" not in display.plot()._repr_html_()


def test_a_history_is_a_list_as_any_other():
    history = History(EPOCHS)
    assert history == EPOCHS
    assert isinstance(history, list)
    assert repr(history) == repr(EPOCHS)
    assert json.loads(json.dumps(history)) == EPOCHS
    assert type(history[1:]) is type(history + EPOCHS) is list
    for twin in (pickle.loads(pickle.dumps(history)), copy.deepcopy(history)):
        assert twin == history
        assert str(twin) == str(history)


def test_a_history_shows_the_columns_that_it_has_and_its_last_rows():
    assert str(History(EPOCHS)).split("\n")[0].split() == [
        *("stage", "epoch", "loss", "accuracy", "seconds")
    ]
    many = History(EPOCHS * 100)
    assert str(many).startswith("260 rows before these")
    assert len(str(many).splitlines()) == 42
    solved = History([{"stage": "head", "C": 0.01, "loss": 0.5, "accuracy": 0.9}])
    assert "<svg" not in solved._repr_html_()
    assert str(History()).startswith("stage")


def test_a_fitted_classifier_has_such_a_history(make_clf, images, tmp_path):
    from tlclassify.persistence.saving import load, save

    clf = make_clf(head_stage="exact").fit(*images)
    assert "head" in clf.history_._repr_html_()
    save(clf, tmp_path / "model.tlc")
    loaded = load(tmp_path / "model.tlc", backbone=clf.backbone)
    assert loaded.history_._repr_html_() == clf.history_._repr_html_()
    assert "sk-top-container" in clf._repr_html_()


def test_names_of_backbones_are_a_list_as_any_other(monkeypatch):
    monkeypatch.setitem(backbones._registry, "own", Backbone("own", lambda images: images))
    names = list_backbones()
    assert names == [get_backbone(name).name for name in names]
    assert repr(names) == repr(list(names))
    assert pickle.loads(pickle.dumps(names)) == names
    line = next(line for line in str(names).splitlines() if line.startswith("mobilenet "))
    assert line.split() == ["mobilenet", "224", "1,024", "3,228,864", "imagenet", "Apache-2.0"]
