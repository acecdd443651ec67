"""Laws of load_image_table: each row a file and a label, and all that is wrong told at once."""

from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from tlclassify.datasets import load_image_table

PATHS = ["photos/1.png", "photos/Bär und Katze.png", "photos/3.png"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for path in PATHS:
        Image.new("L", (8, 8)).save(tmp_path / path)
    return tmp_path


def write(folder, text, name="labels.csv", encoding="utf-8"):
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_file_is_read_from_its_own_folder(folder, separator, encoding):
    rows = [["label", "path", "cow"], *zip("aba", PATHS, "xyx", strict=True)]
    text = "\r\n".join(separator.join(row) for row in rows) + "\r\n\r\n"
    images = load_image_table(write(folder, text, encoding=encoding), group_column="cow")
    assert images.X.tolist() == [str(folder / path) for path in PATHS]
    assert images.y.tolist() == ["a", "b", "a"]
    assert images.class_names == ("a", "b")
    assert images.groups.tolist() == ["x", "y", "x"]


def test_quoted_cells_and_other_columns(folder):
    (folder / "a,b.png").write_bytes((folder / PATHS[0]).read_bytes())
    path = write(folder, 'file,note,kind\n"a,b.png","two\nlines",cat\nphotos/3.png,,dog\n')
    images = load_image_table(str(path), path_column="file", label_column="kind")
    assert images.y.tolist() == ["cat", "dog"]
    assert images.groups is None
    with pytest.raises(ValueError, match="1 without a note: line 4"):
        load_image_table(path, path_column="file", label_column="note")


def test_spaces_around_cells_and_columns_without_a_name_do_not_matter(folder):
    path = write(folder, f'path , label,,\n{PATHS[0]} , "cat",, \n{PATHS[2]}, dog ,,\n')
    images = load_image_table(path)
    assert images.X.tolist() == [str(folder / PATHS[0]), str(folder / PATHS[2])]
    assert images.y.tolist() == ["cat", "dog"]


def test_all_that_is_wrong_is_told_with_its_lines(folder):
    rows = [
        "path,label", "photos/1.png,cat", "photos/gone.png,cat", "photos/3.png,", ",dog",
        "photos/../photos/1.png,dog", "https://example.org/a.png,dog",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="of 6 rows there are") as caught:
        load_image_table(write(folder, "\n".join(rows)))
    for text in (
        "1 without a path: line 5",
        "1 without a label: line 4",
        f"2 whose file is not there: line 3 (photos/gone.png: no such file in {folder}), 7 (https://",
        "download it first",
        "1 that name a file once more: line 6 (as in 2)",
    ):
        assert text in str(caught.value)


def frames(columns):
    yield columns
    for name, make in (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "table")):
        try:
            module = __import__(name)
        except ImportError:
            continue
        yield getattr(module, make)(columns)


def test_frames_are_read_from_the_working_folder_or_from_root(folder, monkeypatch):
    for frame in frames({"path": PATHS, "label": [3, 1, 3]}):
        images = load_image_table(frame, root=folder)
        assert images.X.tolist() == [str(folder / path) for path in PATHS]
        assert images.y.tolist() == [3, 1, 3]
        assert images.class_names == ("1", "3")
        with pytest.raises(ValueError, match=r"3 whose file is not there: row 0 \(photos/1"):
            load_image_table(frame)
    monkeypatch.chdir(folder)
    assert len(load_image_table({"path": PATHS, "label": ["a"] * 3}).X) == 3
    for frame in frames({"path": [PATHS[0], None, PATHS[0]], "label": [None, "a", "b"]}):
        with pytest.raises(
            ValueError, match=r"without a path: row 1\n.*label: row 0\n.*2 \(as in 0\)"
        ):
            load_image_table(frame)


def test_parquet_files(folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"path": PATHS, "label": list("aba")}), folder / "a.parquet")
    assert load_image_table(folder / "a.parquet").y.tolist() == list("aba")


def test_paths_that_windows_wrote(folder):
    text = "path,label\n" + "\n".join(path.replace("/", "\\") + ",a" for path in PATHS)
    assert load_image_table(write(folder, text)).X.tolist() == [str(folder / p) for p in PATHS]


@pytest.mark.parametrize(("made", "written"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_umlauts_that_another_system_wrote(folder, made, written):
    name = "Käfer/Blüte 1.png"
    path = folder / normalize(made, name)
    path.parent.mkdir()
    Image.new("RGB", (8, 8)).save(path)
    table = {"path": [normalize(written, name).replace("/", "\\")], "label": ["a"]}
    assert load_image_table(table, root=folder).X.tolist() == [str(path)]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("gone.csv", FileNotFoundError, "there is no file"),
        (".", FileNotFoundError, "Pass a folder to load_image_folder"),
        ("a.xlsx", ValueError, "must be in UTF-8.* or read it with pandas and pass the frame"),
        ("latin.csv", ValueError, "must be in UTF-8.* as 'CSV UTF-8'"),
        ("empty.csv", ValueError, "names each column once; received an empty file"),
        ("twice.csv", ValueError, "names each column once; received 'path', 'path', 'label'"),
        ("header.csv", ValueError, "must hold at least one row; received none"),
        ("cells.csv", ValueError, "2 cells in each row.* lines 2, 4"),
        ("other.csv", ValueError, r"label_column must be .*'path', 'labels'; .*mean 'labels'\?"),
        ({"path": [7], "label": ["a"]}, ValueError, r"row 0 \(7: no path, but a int\)"),
        ({"path": ["a", "b"], "label": ["a"]}, ValueError, r"one length; received .*2, .*1"),
        ([1, 2], TypeError, "must be a path, a frame or a dict; received a list"),
    ],
)
def test_what_is_no_table_is_refused(folder, monkeypatch, given, error, message):
    monkeypatch.chdir(folder)
    (folder / "a.xlsx").write_bytes(b"PK\3\4\xff\xfe")
    write(folder, "path,label\nBär.png,a\n", "latin.csv", "latin-1")
    write(folder, "", "empty.csv")
    write(folder, "path,path,label\na.png,b.png,cat\n", "twice.csv")
    write(folder, "path,label\n", "header.csv")
    write(folder, "path,label\na,b.png,cat\nphotos/1.png,cat\nphotos/3.png\n", "cells.csv")
    write(folder, "path,labels\n", "other.csv")
    with pytest.raises(error, match=message):
        load_image_table(given)


def test_bytes_and_missing_labels_of_frames(folder):
    frame = {"path": [path.encode() for path in PATHS], "label": [b"a", b"b", b"a"]}
    images = load_image_table(frame, root=folder)
    assert images.X.tolist() == [str(folder / path) for path in PATHS]
    assert images.y.tolist() == [b"a", b"b", b"a"]
    with pytest.raises(ValueError, match="1 without a label: row 1"):
        load_image_table({"path": PATHS, "label": [1.0, np.nan, 2.0]}, root=folder)
