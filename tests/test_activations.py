"""Stored activations equal the direct path, whatever happens to the files between."""

import errno
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from conftest import build_tiny
from tlclassify import FeatureExtractor, Stage
from tlclassify.activations import run as activations
from tlclassify.activations import store as stores
from tlclassify.activations.run import Pass, Running, run_once
from tlclassify.activations.store import Store, StoredOutputs
from tlclassify.engines.runners import Runner
from tlclassify.inputs.images import open_images
from tlclassify.networks.backbones import build_backbone
from tlclassify.networks.cuts import fingerprint_model
from tlclassify.networks.rows import SYMMETRIC, Backbone

TINY = Backbone("tiny", build_tiny, SYMMETRIC, native_size=8, small_size=8, min_size=4)


@pytest.fixture(scope="module")
def model():
    return build_backbone(TINY, image_shape=(8, 8), weights=None, random_state=0)


@pytest.fixture
def source(images):
    return open_images(images[0])


@pytest.fixture
def direct(model, source):
    return np.asarray(model.predict_on_batch(source.images), np.float32)


def run(model, source, cache_dir=None, *, engine="keras", half=False, **running):
    """Run a model over a source once, as a fit or an extractor does."""
    running = Running(cache_dir=cache_dir, **running)
    return run_once([Pass(Runner(model, engine), source, running, half=half)])[0]


def databases(folder):
    return sorted(Path(folder).rglob("*.sqlite"))


def snapshot(folder):
    """What lies in a folder, to the byte."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize("batch_size", [1, 5, 24, 64])
@pytest.mark.parametrize("cached", [False, True])
def test_they_equal_the_direct_path(model, source, direct, batch_size, cached, tmp_path):
    found = run(model, source, tmp_path if cached else None, batch_size=batch_size)
    np.testing.assert_allclose(found, direct, atol=1e-5)
    assert found.dtype == np.float32


def test_an_image_is_run_once_whatever_the_order(model, source, direct, runs, tmp_path):
    first = run(model, source, tmp_path)
    assert sum(runs) == 24
    rows = np.array([5, 3, 3, 17, 0])
    again = run(model, source.take(rows), tmp_path)
    assert sum(runs) == 24
    np.testing.assert_array_equal(again, first[rows])
    np.testing.assert_allclose(first, direct, atol=1e-5)


def test_only_new_images_are_run(model, source, direct, runs, tmp_path):
    run(model, source.take(np.arange(20)), tmp_path)
    found = run(model, source, tmp_path)
    assert sum(runs) == 24
    np.testing.assert_allclose(found, direct, atol=1e-5)


def test_equal_images_are_run_once(model, source, direct, runs, tmp_path):
    rows = np.array([0, 1, 0, 1])
    np.testing.assert_allclose(run(model, source.take(rows), tmp_path), direct[rows], atol=1e-5)
    assert sum(runs) == 2


def test_another_network_engine_or_precision_takes_nothing_over(tiny, source, runs, tmp_path):
    options = [
        {"random_state": 0},
        {"random_state": 1},
        {"random_state": 0, "image_size": 16},
        {"random_state": 0, "engine": "openvino"},
        {"random_state": 0, "half": True},
    ]
    for _ in range(2):
        for number, option in enumerate(options, start=1):
            chosen = {"engine": "keras", "half": False, "image_size": None, **option}
            engine, half = chosen.pop("engine"), chosen.pop("half")
            model = build_backbone(tiny, image_shape=(8, 8), weights=None, **chosen)
            expected = model.predict_on_batch(source.images)
            found = run(model, source, tmp_path, engine=engine, half=half)
            np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)
            assert len(databases(tmp_path)) >= number
    assert len(databases(tmp_path)) == len(options)
    assert sum(runs) == 24 * len(options)


def test_other_pixels_are_another_image(model, source, runs, tmp_path):
    run(model, source, tmp_path)
    pixels = source.images.copy()
    pixels[3, 0, 0, 0] ^= 1
    found = run(model, open_images(pixels), tmp_path)
    np.testing.assert_allclose(found, model.predict_on_batch(pixels), atol=1e-5)
    assert sum(runs) == 25


def test_the_fingerprint_sees_function_not_names(tiny):
    first, second = (
        build_backbone(tiny, image_shape=(8, 8), weights=None, random_state=0) for _ in range(2)
    )
    assert fingerprint_model(first) == fingerprint_model(second)
    other_size = build_backbone(
        tiny, image_shape=(8, 8), image_size=16, weights=None, random_state=0
    )
    other_shape = build_backbone(tiny, image_shape=(9, 8), weights=None, random_state=0)
    assert len({fingerprint_model(m) for m in (first, other_size, other_shape)}) == 3
    weights = first.get_weights()
    weights[0][0, 0, 0, 0] += 1e-3
    first.set_weights(weights)
    assert fingerprint_model(first) != fingerprint_model(second)


@pytest.mark.parametrize(
    "step",
    [
        lambda x, number: x * number,
        lambda x, number: keras.ops.multiply(x, np.full(3, number, np.float32)),
    ],
)
def test_the_fingerprint_sees_constants(step):
    x = keras.Input((4, 4, 3))
    models = [keras.Model(x, step(x, number)) for number in (0.1, 0.1, 0.2)]
    digests = [fingerprint_model(model) for model in models]
    assert digests[0] == digests[1] != digests[2]


def test_the_fingerprint_of_a_model_with_shared_layers():
    """A layer may be called in other models before, and twice in this one."""
    layer, x, elsewhere = keras.layers.Dense(3), keras.Input((3,)), keras.Input((3,))
    keras.Model(elsewhere, layer(elsewhere))
    once = keras.Model(x, layer(x))
    twice = keras.Model(x, layer(layer(x)))
    assert fingerprint_model(once) == fingerprint_model(keras.Model(x, layer(x)))
    assert fingerprint_model(once) != fingerprint_model(twice)


def test_past_the_memory_limit_a_temporary_file(model, source, direct, monkeypatch, tmp_path):
    monkeypatch.setattr(activations, "MEMORY_LIMIT_BYTES", 100)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    found = run(model, source, batch_size=7)
    assert isinstance(found, np.memmap)
    np.testing.assert_allclose(found, direct, atol=1e-5)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_is_large_and_stored_is_not_copied(model, source, direct, monkeypatch, tmp_path):
    monkeypatch.setattr(activations, "MEMORY_LIMIT_BYTES", 100)
    monkeypatch.setattr(activations.tempfile, "TemporaryFile", lambda: pytest.fail("copied"))
    found = run(model, source, tmp_path)
    assert isinstance(found, StoredOutputs)
    assert (len(found), found.shape, found.dtype) == (len(direct), direct.shape, direct.dtype)
    for rows in (np.array([5, 3, 3, 17]), slice(2, 7), slice(None, None, 5), np.arange(0)):
        np.testing.assert_allclose(found[rows], direct[rows], atol=1e-5)
    shutil.rmtree(tmp_path)
    with pytest.raises(OSError, match="deleted or damaged.*Fit again"):
        found[np.array([1])]


def test_a_fit_reads_large_activations_from_where_they_are_kept(
    make_clf, images, monkeypatch, tmp_path
):
    params = {"head_stage": Stage(1), "fine_tune_stage": Stage(1, unfreeze=1)}
    params["augmentation"] = "flip"
    expected = make_clf(**params, cache_dir=tmp_path).fit(*images)
    monkeypatch.setattr(activations, "MEMORY_LIMIT_BYTES", 100)
    monkeypatch.setattr(activations.tempfile, "TemporaryFile", lambda: pytest.fail("copied"))
    found = make_clf(**params, cache_dir=tmp_path).fit(*images)
    np.testing.assert_allclose(
        found.predict_proba(images[0]), expected.predict_proba(images[0]), atol=1e-4
    )


def test_a_run_that_is_interrupted_goes_on_where_it_was(
    model, source, direct, runs, monkeypatch, tmp_path
):
    monkeypatch.setattr(activations, "PART_ROWS", 10)
    original = Store.write

    def interrupted(self, digests, outputs):
        if sum(runs) > 20:
            raise KeyboardInterrupt("stopped")
        original(self, digests, outputs)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", interrupted)
        with pytest.raises(KeyboardInterrupt, match="stopped"):
            run(model, source, tmp_path, batch_size=5)
    runs.clear()
    found = run(model, source, tmp_path, batch_size=5)
    assert sum(runs) == 4
    np.testing.assert_allclose(found, direct, atol=1e-5)


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from tlclassify.activations.store import Store

store = Store(Path(sys.argv[1]), (1024,), np.dtype(np.float32))
first, n, stalls = map(int, sys.argv[2:])

class Stalling(np.ndarray):
    def __iter__(self):
        yield from np.asarray(self)[:-1]
        print("half", flush=True)
        time.sleep(60)

def outputs(numbers):
    return np.repeat(np.asarray(numbers, np.float32)[:, None], 1024, axis=1)

def digests(numbers):
    return np.stack([np.frombuffer(b"%032d" % number, np.uint8) for number in numbers])

for start in range(first, first + n, 100):
    numbers = range(start, start + 100)
    store.write(digests(numbers), outputs(numbers))
if stalls:
    numbers = range(10**6, 10**6 + 2000)
    store.write(digests(numbers), outputs(numbers).view(Stalling))
"""


def start_writer(folder, first, n, *, stalls=False):
    arguments = [sys.executable, "-c", WRITER, str(folder), str(first), str(n), str(int(stalls))]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE if stalls else None)


def digests_of(numbers):
    return np.stack([np.frombuffer(b"%032d" % number, np.uint8) for number in numbers])


def read(folder, numbers, width=1024):
    """Return which of the numbers are stored, having looked at what is read."""
    outputs = np.full((len(numbers), width), -1, np.float32)
    missing = Store(folder, (width,), np.dtype(np.float32)).read(digests_of(numbers), outputs)
    stored = np.setdiff1d(np.arange(len(numbers)), missing)
    assert (outputs[stored] == np.asarray(numbers)[stored, None]).all()
    return set(np.asarray(numbers)[stored].tolist())


def write(folder, numbers, width=1024):
    outputs = np.repeat(np.asarray(numbers, np.float32)[:, None], width, axis=1)
    Store(folder, (width,), np.dtype(np.float32)).write(digests_of(numbers), outputs)


def test_a_killed_process_takes_nothing_with_it(tmp_path):
    """It is killed while it has written some megabytes of one more transaction."""
    with start_writer(tmp_path, 0, 300, stalls=True) as writer:
        assert writer.stdout.readline() == b"half\n"
        writer.kill()
    assert writer.returncode == -signal.SIGKILL
    assert len(databases(tmp_path)) == 1
    assert len(list(tmp_path.iterdir())) == 2, "it left a journal"
    numbers = [*range(300), *range(10**6, 10**6 + 2000)]
    assert read(tmp_path, numbers) == set(range(300))
    write(tmp_path, [7000])
    assert read(tmp_path, [*numbers, 7000]) == {*range(300), 7000}


def test_processes_at_work_on_one_folder_lose_nothing(tmp_path):
    writers = [start_writer(tmp_path, first, 1000) for first in (0, 500, 1000)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert read(tmp_path, range(2100)) == set(range(2000))
    assert len(databases(tmp_path)) == 1


def test_several_machines_fill_one_folder(monkeypatch, tmp_path):
    for number, name in enumerate(["lab-1", "lab-2", "a/b c"]):
        monkeypatch.setattr(platform, "node", lambda name=name: name)
        before = snapshot(tmp_path)
        write(tmp_path, range(10 * number, 10 * number + 15))
        assert before.items() <= snapshot(tmp_path).items(), "it wrote another machine's file"
    assert len(databases(tmp_path)) == 3
    assert read(tmp_path, range(50)) == set(range(35))


def cut_short(content):
    return content[: len(content) // 2]


def overwrite(start, length, value=None):
    def damage(content):
        start_byte = start % len(content)
        part = content[start_byte : start_byte + length]
        new = bytes(byte ^ 0xFF for byte in part) if value is None else value * len(part)
        return content[:start_byte] + new + content[start_byte + len(part) :]

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        *(overwrite(at, 1) for at in (0, 17, 21, 27, 31, 100, 105, 4000, 5000, 9_000, -5000, -1)),
        *(overwrite(at, 3 * 4096, b"\0") for at in (0, 4096, 5 * 4096, 40 * 4096, -3 * 4096)),
        *(overwrite(at, 4096, b"\xff") for at in (0, 4096, 8192, 21 * 4096)),
        cut_short,
        lambda content: content[:-10],
        lambda content: content[:50],
        lambda content: b"",
        lambda content: b"some text that is no database " * 500,
    ],
)
def test_what_is_damaged_counts_as_absent(damage, tmp_path):
    for start in range(0, 60, 20):
        write(tmp_path, range(start, start + 20))
    (path,) = databases(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    whole = read(tmp_path, range(60))
    lost = sorted(set(range(60)) - whole)
    if lost:
        write(tmp_path, lost)
        assert read(tmp_path, range(60)) >= set(lost)
    write(tmp_path, range(60))
    assert read(tmp_path, range(60)) == set(range(60))


def test_a_damaged_output_is_run_again(model, source, direct, runs, tmp_path):
    run(model, source, tmp_path)
    (path,) = databases(tmp_path)
    with closing(stores.sqlite3.connect(path)) as database, database:
        database.execute("UPDATE outputs SET output = zeroblob(length(output)) WHERE rowid < 4")
        database.execute("UPDATE outputs SET output = 'text' WHERE rowid = 4")
        database.execute("UPDATE outputs SET output = NULL WHERE rowid = 5")
    runs.clear()
    np.testing.assert_allclose(run(model, source, tmp_path), direct, atol=1e-5)
    assert sum(runs) == 5
    np.testing.assert_allclose(run(model, source, tmp_path), direct, atol=1e-5)
    assert sum(runs) == 5


def test_a_million_outputs_are_opened_like_a_hundred(tmp_path):
    def fill(folder, n):
        folder.mkdir()
        write(folder, [0], width=1)
        with closing(stores.sqlite3.connect(databases(folder)[0])) as database, database:
            database.execute("PRAGMA synchronous = OFF")
            database.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
                "INSERT INTO outputs SELECT CAST(printf('%032d', i) AS BLOB), 0, x'00' FROM n",
                (n - 1,),
            )

    def seconds(folder):
        started = time.process_time()
        assert (
            len(Store(folder, (1,), np.dtype(np.float32)).missing(digests_of(range(-9, 90)))) == 9
        )
        assert read(folder, range(100), width=1) == {0}
        return time.process_time() - started

    fill(tmp_path / "few", 100)
    fill(tmp_path / "many", 1_000_000)
    few, many = (min(seconds(tmp_path / name) for _ in range(5)) for name in ("few", "many"))
    assert many < 5 * few + 0.01


def test_too_little_room_is_said_before_the_work(model, source, runs, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=2**10)
    monkeypatch.setattr(activations.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        OSError, match=r"shape \(24, 4, 4, 12\), in float32, need .*choose another cache_dir"
    ) as caught:
        run(model, source, tmp_path / "new")
    assert caught.value.errno == errno.ENOSPC
    assert runs == []
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_what_was_there(model, source, direct, monkeypatch, tmp_path):
    run(model, source.take(np.arange(5)), tmp_path)
    original = stores.sqlite3.connect

    def connect_to_full_disk(*args, **options):
        database = original(*args, **options)
        database.execute("PRAGMA max_page_count = 1")
        return database

    with monkeypatch.context() as patch:
        patch.setattr(stores.sqlite3, "connect", connect_to_full_disk)
        with pytest.raises(
            OSError,
            match=r"disk is full.*0\.0 MiB of .*what was there is whole.*choose another cache_dir",
        ) as caught:
            run(model, source, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    np.testing.assert_allclose(run(model, source, tmp_path), direct, atol=1e-5)


@contextmanager
def nobody():
    """A user who owns nothing, where this one is allowed everything."""
    if os.name != "posix" or os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared():
    """A folder that other users reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_folder_is_read(model, source, direct, runs, shared):
    run(model, source, shared)
    for path in (*shared.rglob("*"), shared):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(shared)
    with nobody():
        np.testing.assert_allclose(run(model, source, shared), direct, atol=1e-5)
        other = open_images(255 - source.images)
        with pytest.raises(PermissionError, match="Permission denied.*choose another cache_dir"):
            run(model, other, shared)
        assert sum(runs) == 24, "it was run before it was known that it cannot be kept"
    shared.chmod(0o755)
    assert snapshot(shared) == before


def test_a_folder_that_cannot_be_made(model, source, runs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotADirectoryError, match="choose another cache_dir"):
        run(model, source, tmp_path / "file")
    assert runs == []


@pytest.mark.skipif(os.name != "posix", reason="Windows has no groups of this kind")
@pytest.mark.parametrize(
    ("umask", "files", "folders"), [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775)]
)
def test_files_are_as_open_to_the_group_as_the_user_asks(umask, files, folders, tmp_path):
    before = os.umask(umask)
    try:
        write(tmp_path / "kept", range(3))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == folders
    assert [stat.S_IMODE(path.stat().st_mode) for path in databases(tmp_path)] == [files]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A classifier fitted on random images with a folder of its own, and those images."""
    from tlclassify import TransferClassifier

    X = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("kept")
    clf = TransferClassifier(
        TINY, weights=None, head="linear", head_stage=Stage(1), random_state=0, verbose=0
    )
    return clf.set_params(cache_dir=folder).fit(X, np.arange(40) % 2), X


def test_predictions_read_what_is_there_and_write_nothing(fitted, runs):
    clf, X = fitted
    before = snapshot(clf.cache_dir)
    assert before
    clf.predict_proba(X)
    assert sum(runs) == 0
    mixed = np.concatenate([X[:20], 255 - X[:20]])
    found = clf.predict_proba(mixed)
    assert sum(runs) == 20
    for image in 255 - X[:5]:
        clf.predict(image[None])
    assert sum(runs) == 20, "to look for one image takes longer than to run it"
    assert snapshot(clf.cache_dir) == before
    np.testing.assert_allclose(found, clf.model_.predict_on_batch(mixed), atol=1e-5)


def test_predictions_make_no_folder(fitted, monkeypatch, tmp_path):
    clf, X = fitted
    kept, expected = clf.cache_dir, clf.predict_proba(X)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    try:
        for folder in ("relative", tmp_path / "file" / "below", "/proc/nowhere"):
            found = clf.set_params(cache_dir=folder).predict_proba(X)
            np.testing.assert_allclose(found, expected, atol=1e-5)
    finally:
        clf.set_params(cache_dir=kept)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_extractor_keeps_embeddings(source, runs, monkeypatch, tmp_path):
    extractor = FeatureExtractor("mobilenet_micro", cache_dir=tmp_path, verbose=0)
    first = extractor.transform(source.images)
    monkeypatch.setattr(activations, "MEMORY_LIMIT_BYTES", 100)
    again = extractor.transform(source.images)
    assert type(again) is np.ndarray
    np.testing.assert_array_equal(again, first)
    assert sum(runs) == 24


def test_a_broken_image_file_costs_nothing_else(model, files, tmp_path):
    paths, _ = files
    paths[7].write_text("broken")
    source = replace(open_images(paths), file_shape=(8, 8))
    with pytest.raises(OSError, match=r"1 image file(.|\n)*07\.png"):
        run(model, source, tmp_path / "kept", batch_size=4)
    assert list(tmp_path.rglob("*-journal")) == []
    paths[7].unlink()
    run(model, source.take(np.delete(np.arange(24), 7)), tmp_path / "kept")


def test_progress_is_silent_unless_asked(model, source, capsys, monkeypatch):
    monkeypatch.setattr("tlclassify._checks.parameters._PROGRESS_DELAY_SECONDS", 0)
    run(model, source)
    assert capsys.readouterr().err == ""
    run(model, source, verbose=1)
    assert "24/24" in capsys.readouterr().err


def test_without_a_stream_all_is_silent(model, source, direct, monkeypatch, tmp_path):
    monkeypatch.setattr("tlclassify._checks.parameters._PROGRESS_DELAY_SECONDS", 0)
    monkeypatch.setattr(sys, "stderr", None)
    for cache_dir in (None, tmp_path):
        np.testing.assert_allclose(run(model, source, cache_dir, verbose=1), direct, atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.parametrize("work", ["predict", "predict what is stored", "fit"])
def test_a_forked_process_says_so_instead_of_waiting_for_ever(fitted, work):
    clf, X = fitted
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            clf.fit(X, np.arange(40) % 2) if work == "fit" else clf.predict(
                X if work == "predict what is stored" else X[:1]
            )
        except RuntimeError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        message = file.read().decode()
    assert os.waitpid(child, 0)[1] == 0
    assert "spawn" in message
    assert "loky" in message
