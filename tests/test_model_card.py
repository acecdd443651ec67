"""The card beside a saved classifier says what is in the file, and how good it is."""

import copy
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from tlclassify.analysis.evaluate import evaluate
from tlclassify.networks import backbones
from tlclassify.persistence.saving import load, save

TRAINED = {"stage": "head", "epoch": 1, "loss": 0.5, "accuracy": 0.8, "learning_rate": 0.1}
SOLVED = {"stage": "head", "epoch": 1, "C": 10 / 12, "loss": 0.4, "accuracy": 0.9}
SAVED = Path(__file__).parent / "data" / "saved_format_4.tlc"


@pytest.fixture
def trained(registered):
    clf = load(SAVED)
    clf.classes_ = np.arange(3)
    clf.blueprint_ = replace(clf.blueprint_, class_counts=[[7, 7, 7], [1, 1, 1]])
    return clf


def test_a_card_says_what_is_in_the_file_and_how_good_it_is(trained, images, tmp_path):
    clf = copy.copy(trained)
    clf.classes_ = np.array(["a|b", "<i>", "c_d"])
    report = evaluate(clf, images[0], clf.classes_[np.arange(24) % 3])
    save(clf, tmp_path / "saved.tlc", card=True, report=report)
    text = (tmp_path / "saved.tlc.md").read_text(encoding="utf-8")
    low, high = report.accuracy_interval
    for expected in (
        f"    accuracy           {report.accuracy:.3f}  (95% interval {low:.3f} to {high:.3f})",
        "\n    <i>  ",
        r"| a\|b | 7 | 1 |",
        "| &lt;i&gt; | 7 | 1 |",
        r"| c\_d | 7 | 1 |",
        "Trained on 21 images, and 3 to choose the best epoch. Images are RGB of 8 x 8 pixels",
        "| Licence of the pretrained weights | none (it began with random weights) |",
        f"| keras | {keras.__version__} |",
        r"| random\_state | 0 |",
    ):
        assert expected in text
    assert text.count("| --- |") >= 4


def test_a_card_without_figures_says_so(trained, tmp_path):
    save(trained, tmp_path / "a.tlc", card=True)
    assert "No figures were given" in (tmp_path / "a.tlc.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("weights", "licence", "expected"),
    [
        (None, "MIT", "none (it began with random weights)"),
        ("pretrained", "MIT", "MIT"),
        ("pretrained", "", "unknown"),
        (Path("weights.h5"), "MIT", "unknown (that of the file passed as weights)"),
    ],
)
def test_the_licence_is_that_of_the_fit(
    trained, tiny, tmp_path, monkeypatch, weights, licence, expected
):
    monkeypatch.setitem(backbones._registry, "tiny", replace(tiny, licence=licence))
    clf = copy.copy(trained).set_params(weights="set.h5", backbone="resnet50")
    clf.blueprint_ = replace(clf.blueprint_, weights=weights)
    save(clf, tmp_path / "a.tlc", card=True)
    save(load(tmp_path / "a.tlc"), tmp_path / "b.tlc", card=True)
    for name in ("a.tlc.md", "b.tlc.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert f"| Licence of the pretrained weights | {expected} |" in text


def test_a_report_that_is_not_of_this_classifier(trained, images, tmp_path):
    report = evaluate(trained, images[0], np.arange(24) % 3)
    other = copy.copy(trained)
    other.classes_ = trained.classes_ + 1
    for options, error, message in (
        ({"report": report}, ValueError, "report must be None without a card"),
        ({"report": "good", "card": True}, TypeError, "must be an EvaluationReport or None"),
        ({"report": report, "card": True}, ValueError, "report must be of the 3 classes of clf"),
    ):
        with pytest.raises(error, match=message):
            save(other, tmp_path / "saved.tlc", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("history", "ways", "use"),
    [
        ([SOLVED], "head solved exactly, C=0.8333", "to measure it"),
        ([TRAINED] * 3, "head trained for 3 epochs", "to choose the best epoch"),
        (
            [SOLVED, {**TRAINED, "stage": "fine_tune"}],
            "head solved exactly, C=0.8333; fine\\_tune trained for 1 epoch",
            "to choose the best epoch",
        ),
    ],
)
def test_it_says_which_head_and_how_it_got_its_weights(
    trained, images, tmp_path, history, ways, use
):
    clf = copy.copy(trained)
    clf.history_ = history
    report = evaluate(clf, images[0], np.arange(24) % 3)
    save(clf, tmp_path / "a.tlc", card=True)
    text = (tmp_path / "a.tlc.md").read_text(encoding="utf-8")
    assert f"| Learnt by | {ways} |" in text
    assert f"and 3 {use}." in text
    assert "| Head | Head(hidden\\_units=()) |" in text
    assert report.origin.settings["fitted head"] == "Head(hidden_units=())"
    assert report.origin.settings["learnt by"] == ways.replace("\\", "")
    assert f"<p>{ways[0].upper()}" in report.to_html().replace("\\", "")
