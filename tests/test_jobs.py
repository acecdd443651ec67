"""Every file has exactly one row, whatever happens on the way."""

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exports import SHAPE, draw_images, export_once, needs_tensorflow, run_without_keras
from tlclassify.jobs import files as jobs
from tlclassify.jobs.files import predict_files
from tlclassify.persistence.exported import load_exported

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

pytestmark = needs_tensorflow
N_IMAGES = 20
WHOLE = {"rows_per_file": 8, "batch_size": 4, "verbose": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export_once(tmp_path_factory)["onnx"]


@pytest.fixture
def photos(tmp_path):
    """Twenty photographs in two folders, beside a file that is none."""
    folder = tmp_path / "photos"
    for row, image in enumerate(draw_images(N_IMAGES, SHAPE, seed=1)[0]):
        path = folder / f"{'ab'[row % 2]}" / f"{row:02d}.PNG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results"


def read(output):
    """The rows of a folder of results, sorted by path."""
    return sorted(parquet.read_table(output).to_pylist(), key=lambda row: row["path"])


def list_photos(folder):
    return sorted(map(str, folder.rglob("*.PNG")))


def stop_after(monkeypatch, n_parts, error=KeyboardInterrupt):
    """Let the job end when so many files are written."""
    original, written = jobs.write_whole, []

    def write(path, content):
        if len(written) == n_parts:
            raise error
        written.append(path)
        original(path, content)

    monkeypatch.setattr(jobs, "write_whole", write)
    return written


def test_every_photograph_has_a_row(model, photos, output):
    assert predict_files(model, photos, output, **WHOLE) == output
    rows, paths = read(output), list_photos(photos)
    assert [row["path"] for row in rows] == paths
    found = load_exported(model).predict_proba(paths)
    np.testing.assert_allclose([row["probabilities"] for row in rows], found, atol=1e-6)
    np.testing.assert_allclose([row["probability"] for row in rows], found.max(axis=1), atol=1e-6)
    assert [row["label"] for row in rows] == load_exported(model).predict(paths).tolist()
    assert {row["error"] for row in rows} == {None}
    assert len([*output.glob("*.parquet")]) == 3
    said = json.loads(parquet.read_schema(next(output.glob("*.parquet"))).metadata[b"tlclassify"])
    assert said["classes"] == ["cat", "dog", "eel"]


def test_bad_photographs_are_named_and_the_rest_is_right(model, photos, output, tmp_path):
    predict_files(model, photos, output, **WHOLE)
    bad = list_photos(photos)[3]
    Path(bad).write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1 of 20 images could not be read.*03?.*not an image"):
        predict_files(model, photos, tmp_path / "again", **WHOLE)
    before, after = read(output), read(tmp_path / "again")
    assert after[3] == {
        "path": bad, "label": None, "probability": None, "probabilities": None,
        "error": after[3]["error"],
    }  # fmt: skip
    for row in (*range(3), *range(4, N_IMAGES)):
        assert after[row]["label"] == before[row]["label"]
        np.testing.assert_allclose(
            after[row]["probabilities"], before[row]["probabilities"], atol=1e-6
        )


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "no room")])
def test_an_interrupted_job_goes_on(model, photos, output, tmp_path, monkeypatch, error):
    predict_files(model, photos, tmp_path / "undisturbed", **WHOLE)
    with monkeypatch.context() as context:
        stop_after(context, 1, error)
        message = (
            "^$" if error is KeyboardInterrupt else "no room: .* cannot be written.*call again"
        )
        with pytest.raises((KeyboardInterrupt, OSError), match=message):
            predict_files(model, photos, output, **WHOLE)
    assert len(read(output)) == 8
    (output / ".left.tmp").write_bytes(b"half a file")
    written = stop_after(monkeypatch, 9)
    predict_files(model, photos, output, **WHOLE)
    assert len(written) == 2
    assert read(output) == read(tmp_path / "undisturbed")
    assert not [*output.glob(".*.tmp")]


def test_a_part_written_twice_is_one(model, photos, output):
    """As by a worker that outlives its job."""
    predict_files(model, photos, output, **WHOLE)
    first = min(output.glob("*.parquet"))
    kept = first.read_bytes()
    first.unlink()
    predict_files(model, photos, output, **WHOLE)
    first.write_bytes(kept)
    assert len(read(output)) == N_IMAGES


def test_new_photographs_are_added(model, photos, output):
    predict_files(model, photos, output, **WHOLE)
    shutil.copy(list_photos(photos)[4], photos / "a" / "00a.PNG")
    Path(list_photos(photos)[-1]).unlink()
    predict_files(model, photos, output, **WHOLE | {"rows_per_file": 7})
    assert len({row["path"] for row in read(output)}) == len(read(output)) == N_IMAGES + 1


SOURCES = {
    "list": lambda names, place: (names, None),
    "paths": lambda names, place: (map(Path, names), None),
    "dict": lambda names, place: ({"file": names}, "file"),
    "csv": lambda names, place: (write(place / "a.csv", ";\n".join(["path", *names, ""])), None),
    "tsv": lambda names, place: (write(place / "a.tsv", "\n1\t".join(["n\tpath", *names])), None),
    "arrow": lambda names, place: (pa.table({"file": names}), "file"),
}  # fmt: skip


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", SOURCES)
def test_tables_and_lists_name_photographs(model, photos, output, monkeypatch, kind):
    """Relative paths stay as they are, and lead from the table or from the working folder."""
    monkeypatch.chdir(photos)
    names = [os.path.relpath(path, photos) for path in list_photos(photos)[:3]]
    source, column = SOURCES[kind](names, photos)
    monkeypatch.chdir(photos if kind in {"list", "paths", "dict", "arrow"} else "/")
    options = {} if column is None else {"column": column}
    predict_files(model, source, output, what="labels", **options, **WHOLE)
    assert [*read(output)[0]] == ["path", "label", "probability", "error"]
    assert [row["path"] for row in read(output)] == names
    assert {row["error"] for row in read(output)} == {None}


def test_what_is_wrong_with_a_table_is_told_with_its_lines(model, photos, output):
    with pytest.raises(ValueError, match="2 cells in each row.* lines 3, 5"):
        predict_files(model, write(photos / "a.csv", "path,n\na,1\nb\n\nc,1,2\n"), output)
    (photos / "latin.csv").write_bytes("path\nBär.png\n".encode("latin-1"))
    with pytest.raises(ValueError, match="files must be in UTF-8.* as 'CSV UTF-8'"):
        predict_files(model, photos / "latin.csv", output)


def test_a_parquet_table(model, photos, output):
    names = [os.path.relpath(path, photos) for path in list_photos(photos)]
    parquet.write_table(pa.table({"photo": names, "n": names}), photos / "a.parquet")
    predict_files(model, photos / "a.parquet", output, column="photo", **WHOLE)
    assert {row["error"] for row in read(output)} == {None}
    with pytest.raises(ValueError, match="column must be one of 'photo', 'n'; received 'path'"):
        predict_files(model, photos / "a.parquet", output)
    with pytest.raises(ValueError, match="column must be one of 'photo'; received 'photos'. Did"):
        predict_files(model, {"photo": names}, output, column="photos")


def test_two_jobs_do_not_share_a_folder(model, photos, output):
    output.mkdir()
    (output / ".lock").touch()
    with sqlite3.connect(output / ".lock", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BlockingIOError, match="another process is writing"):
            predict_files(model, photos, output, **WHOLE)
    other.close()
    predict_files(model, photos, output, **WHOLE)


def test_results_of_another_job_are_left_alone(model, photos, output, tmp_path):
    predict_files(model, photos, output, what="labels", **WHOLE)
    before = read(output)
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(model.read_bytes() + b"\0")
    for path, options, message in (
        (model, {}, "has the what 'labels', and this job 'probabilities'. Choose another folder"),
        (model, {"what": "labels", "resume": False}, "it has 20 rows, with 20 of these images"),
    ):
        with pytest.raises(ValueError, match=message):
            predict_files(path, photos, output, **options, **WHOLE)
    with pytest.raises(
        ValueError, match="of this job alone.* it has 20 rows, with 0 of these images"
    ):
        predict_files(model, ["other.png"], output, what="labels", **WHOLE)
    import onnx

    onnx.save(onnx.load(model), changed)
    graph = onnx.load(changed)
    graph.doc_string = "another file"
    onnx.save(graph, changed)
    with pytest.raises(ValueError, match="has the fingerprint '.*', and this job '.*'. Choose"):
        predict_files(changed, photos, output, what="labels", **WHOLE)
    assert read(output) == before


@pytest.mark.parametrize("content", [b"PAR1 damaged", None])
def test_foreign_and_damaged_files_are_named(model, photos, output, content):
    output.mkdir()
    parquet.write_table(pa.table({"path": ["a"]}), output / "a.parquet")
    if content is not None:
        (output / "a.parquet").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"results of this job alone.*a.parquet is damaged, or is from els"
    ):
        predict_files(model, photos, output, **WHOLE)


def test_rows_taken_away_meanwhile_are_missed(model, photos, output, monkeypatch):
    original = jobs.write_whole

    def write(path, content):
        original(path, content)
        if path.name.startswith("part-0000002"):
            min(output.glob("*.parquet")).unlink()

    monkeypatch.setattr(jobs, "write_whole", write)
    with pytest.raises(OSError, match="has 12 rows for 20 images: files were taken away"):
        predict_files(model, photos, output, **WHOLE)


BAD_FILES = [
    ([], r"one image or more, and each once; received none: \[\]"),
    (["a.png", "b.png", "a.png"], "each once; received 1 more than once: 'a.png'"),
    (["a.png", None], "files must be paths in UTF-8, one in every row; .* not NoneType"),
    (["a\udc80.png"], "files must be paths in UTF-8"),
]


@pytest.mark.parametrize(("files", "message"), BAD_FILES)
def test_bad_files_are_named(model, output, files, message):
    with pytest.raises(ValueError, match=message):
        predict_files(model, files, output)


def test_bad_calls_are_named(model, photos, output, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="each once; received none: .*empty"):
        predict_files(model, tmp_path / "empty", output)
    with pytest.raises(FileNotFoundError, match="there is no folder 'no'"):
        predict_files(model, "no", output)
    with pytest.raises(FileNotFoundError, match="no.csv"):
        predict_files(model, "no.csv", output)
    with pytest.raises(
        ValueError, match="(?s)2 parameters.*engine must .*n_workers needs engine='ray'"
    ):
        predict_files(model, photos, output, engine="rya", n_workers=2)
    with pytest.raises(OSError, match="notes.txt"):
        predict_files(model, photos, photos / "notes.txt" / "results")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"engine='ray' needs ray. Install it with.*\[ray\]"):
        predict_files(model, photos, output, engine="ray")
    assert not output.exists()


RAY = """
import sys
import ray
from tlclassify import predict_files
model, photos, output = sys.argv[1:]
ray.init(num_cpus=1, include_dashboard=False, logging_level="error", log_to_driver=False)


def run(**options):
    return predict_files(
        model, photos, output, engine="ray", rows_per_file=8, batch_size=4, verbose=0, **options
    )


try:
    run(n_threads=2)
except RuntimeError as error:
    print(error)
run()
"""


@pytest.mark.slow
def test_ray_finds_the_same(model, photos, output, tmp_path):
    pytest.importorskip("ray")
    Path(list_photos(photos)[3]).write_bytes(b"no image")
    code = f"from tlclassify.jobs import files\nfiles._PATIENCE_SECONDS = 1\n{RAY}"
    command = [sys.executable, "-W", "ignore", "-c", code, str(model), str(photos), str(output)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "engine='ray' needs 2 free cores for a worker; none began in 1 s, with 1 cores" in said
    with pytest.warns(UserWarning, match="1 of 20 images could not be read"):
        predict_files(model, photos, tmp_path / "local", **WHOLE)
    assert read(output) == read(tmp_path / "local")


def test_it_needs_no_keras(model, photos, output):
    run_without_keras(
        "from tlclassify import predict_files\n"
        f"predict_files({str(model)!r}, {str(photos)!r}, {str(output)!r}, verbose=0)"
    )
    assert len(read(output)) == N_IMAGES
