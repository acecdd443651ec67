"""Names beside files: a table of predictions says what the probabilities say, and no more."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tlclassify.analysis.evaluate import predict_table

CLASSES = np.array(["ant", "bee", "cow"])
P = np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]])


class Oracle:
    """A fitted classifier that returns the probabilities it was given."""

    def __init__(self, probabilities=P, classes=CLASSES):
        self.probabilities, self.classes_ = probabilities, np.asarray(classes)

    def predict_proba(self, X):
        return self.probabilities


def table_of(X=("a.png", "b.png", "c.png", "d.png"), **options):
    return predict_table(Oracle(), list(X), **options)


def test_labels_stand_by_falling_probability_and_ties_as_in_argmax():
    table = table_of(n_best=9)
    assert table.labels.tolist() == [
        ["bee", "cow", "ant"],
        ["ant", "bee", "cow"],
        ["cow", "ant", "bee"],
        ["ant", "bee", "cow"],
    ]
    assert (np.diff(table.probabilities) <= 0).all()
    assert table.labels[:, 0].tolist() == CLASSES[P.argmax(axis=1)].tolist()
    assert table_of(n_best=1).labels.shape == (4, 1)


def test_an_answer_is_sure_from_the_threshold_on():
    assert table_of().is_sure is None
    assert "sure" not in table_of().columns
    assert table_of(threshold=0.5).is_sure.tolist() == [True, True, True, False]
    assert table_of(threshold=np.nextafter(0.8, 1)).is_sure.tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("X", "name", "values"),
    [
        (["a b.png", Path("c/ü.png")], "path", ["a b.png", str(Path("c/ü.png"))]),
        (np.array(["a.png", "b.png"]), "path", ["a.png", "b.png"]),
        (np.zeros((2, 4, 4, 3), np.uint8), "row", [0, 1]),
        ([[1.0, 2.0], [3.0, 4.0]], "row", [0, 1]),
    ],
)
def test_rows_are_named_by_their_files_or_numbered(X, name, values):
    columns = predict_table(Oracle(P[:2]), X).columns
    assert next(iter(columns)) == name
    assert list(columns[name]) == values


def test_csv_gives_the_table_back(tmp_path):
    odd = ['a, "b".png', "c\nd.png", "ü.png", "e.png"]
    clf = Oracle(P.astype(np.float32))
    table = predict_table(clf, odd, threshold=0.5)
    text = table.to_csv(tmp_path / "deep" / "table.csv")
    assert (tmp_path / "deep" / "table.csv").read_bytes() == text.encode()
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    assert [row["path"] for row in rows] == odd
    assert [row["label"] for row in rows] == table.labels[:, 0].tolist()
    assert [np.float32(row["probability"]) for row in rows] == table.probabilities[:, 0].tolist()
    assert [row["sure"] for row in rows] == ["True", "True", "True", "False"]


def test_csv_keeps_a_file_name_that_is_not_utf8(tmp_path):
    name = b"caf\xe9.png".decode(errors="surrogateescape")
    predict_table(Oracle(P[:1]), [name]).to_csv(tmp_path / "table.csv")
    assert b"caf\xe9.png,bee" in (tmp_path / "table.csv").read_bytes()


def test_dict_is_json_and_frame_has_the_columns():
    pd = pytest.importorskip("pandas")
    table = predict_table(Oracle(P, [b"ant", b"bee", b"cow"]), list("abcd"), threshold=0.6)
    numbers = table.to_dict()
    assert json.loads(json.dumps(numbers)) == numbers
    assert numbers["threshold"] == 0.6
    first = {"path": "a", "label": "bee", "probability": 0.5}
    assert numbers["predictions"][0] == first | {
        "label_2": "cow",
        "probability_2": pytest.approx(0.3),
        "sure": False,
    }
    frame = table_of().to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["path", "label", "probability", "label_2", "probability_2"]
    assert frame["label"].tolist() == ["bee", "ant", "cow", "ant"]


def test_text_shows_the_first_rows():
    many = predict_table(Oracle(np.tile(P, (30, 1))), [f"{i}.png" for i in range(120)])
    lines = str(many).splitlines()
    assert lines[0].startswith("120 images")
    assert len(lines) == 2 + 1 + 20
    assert lines[3].split() == ["0.png", "bee", "0.500", "cow", "0.300"]


def test_page_shows_the_least_sure_first_and_escapes_names(tmp_path):
    pytest.importorskip("jinja2")
    X = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    clf = Oracle(P, ["<b>ant</b>", "bee", "cow"])
    page = predict_table(clf, X, threshold=0.6).to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    assert re.findall(r'alt="image (\d)"', page) == ["3", "0", "2", "1"]
    assert "<b>" not in page
    assert "a probability of 0.6 or more" in page


def test_files_are_predicted_and_pictured(make_clf, files):
    paths, y = files
    table = predict_table(make_clf(head_stage="exact").fit(paths, y), paths, threshold=0.5)
    assert table.columns["path"] == tuple(map(str, paths))
    assert (table.labels[:, 0] == y).mean() > 0.9
    assert len(table.thumbnails) == 24
    first = next(iter(table.thumbnails))
    assert first == table.probabilities[:, 0].argmin()
    assert f"<figcaption>{paths[first].name}<br>" in " ".join(table.to_html().split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_best": 0}, "n_best must be an integer in"),
        ({"threshold": 1.5}, r"threshold must be a number in \[0, 1\] or None; received 1.5"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        table_of(**options)


def test_bad_probabilities_and_no_images():
    with pytest.raises(ValueError, match="probabilities, finite and summing to 1"):
        predict_table(Oracle(P * 2), list("abcd"))
    with pytest.raises(ValueError, match="X must hold at least one image; received none"):
        predict_table(Oracle(P[:0]), [])


def test_a_frame_of_one_column_has_paths_too():
    frame = pytest.importorskip("pandas").DataFrame({"file": ["a.png", "b.png", "c.png", "d.png"]})
    assert predict_table(Oracle(), frame).paths == table_of().paths
