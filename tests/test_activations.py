"""Stored activations equal the direct path, whatever happens to the files between."""

import errno
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from tlclassify.activations import run as activations
from tlclassify.activations.run import compute_activations
from tlclassify.inputs.images import open_images
from tlclassify.networks.backbones import build_backbone
from tlclassify.networks.fingerprints import fingerprint_model


@pytest.fixture
def model(tiny):
    return build_backbone(tiny, image_shape=(8, 8), weights=None, random_state=0)


@pytest.fixture
def source(images):
    return open_images(images[0])


@pytest.fixture
def direct(model, source):
    return np.asarray(model.predict_on_batch(source.images), np.float32)


def segments(folder):
    return sorted(Path(folder).rglob("*.npy"))


@pytest.mark.parametrize("batch_size", [1, 5, 24, 64])
@pytest.mark.parametrize("cached", [False, True])
def test_they_equal_the_direct_path(model, source, direct, batch_size, cached, tmp_path):
    cache_dir = tmp_path if cached else None
    found = compute_activations(model, source, batch_size=batch_size, cache_dir=cache_dir)
    np.testing.assert_allclose(found, direct, atol=1e-5)
    assert found.dtype == np.float32


def test_an_image_is_run_once_whatever_the_order(model, source, direct, runs, tmp_path):
    first = compute_activations(model, source, cache_dir=tmp_path)
    assert sum(runs) == 24
    rows = np.array([5, 3, 3, 17, 0])
    again = compute_activations(model, source.take(rows), cache_dir=tmp_path)
    assert sum(runs) == 24
    np.testing.assert_array_equal(again, first[rows])
    np.testing.assert_allclose(first, direct, atol=1e-5)


def test_only_new_images_are_run(model, source, runs, tmp_path):
    compute_activations(model, source.take(np.arange(20)), cache_dir=tmp_path)
    compute_activations(model, source, cache_dir=tmp_path)
    assert sum(runs) == 24


def test_equal_images_are_run_once(model, source, runs, tmp_path):
    compute_activations(model, source.take(np.array([0, 1, 0, 1])), cache_dir=tmp_path)
    assert sum(runs) == 2


def test_other_weights_are_another_network(tiny, source, runs, tmp_path):
    for seed in (0, 1):
        model = build_backbone(tiny, image_shape=(8, 8), weights=None, random_state=seed)
        compute_activations(model, source, cache_dir=tmp_path)
    assert sum(runs) == 48


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
    monkeypatch.setattr(activations.tempfile, "gettempdir", lambda: str(tmp_path))
    found = compute_activations(model, source, batch_size=7)
    assert isinstance(found, np.memmap)
    np.testing.assert_allclose(found, direct, atol=1e-5)
    assert list(tmp_path.iterdir()) == []


def test_a_long_run_is_kept_in_segments(model, source, direct, runs, monkeypatch, tmp_path):
    monkeypatch.setattr(activations, "SEGMENT_ROWS", 10)
    found = compute_activations(model, source, cache_dir=tmp_path)
    assert len(segments(tmp_path)) == 3
    np.testing.assert_allclose(found, direct, atol=1e-5)


def test_a_killed_run_goes_on_where_it_was(model, source, direct, runs, monkeypatch, tmp_path):
    monkeypatch.setattr(activations, "SEGMENT_ROWS", 10)
    original = activations._Store._write_records

    def killed(self, file, digests, outputs):
        if len(segments(tmp_path)) == 2:
            file.write(b"half")
            raise KeyboardInterrupt("stopped")
        original(self, file, digests, outputs)

    with monkeypatch.context() as patch:
        patch.setattr(activations._Store, "_write_records", killed)
        with pytest.raises(KeyboardInterrupt, match="stopped"):
            compute_activations(model, source, cache_dir=tmp_path)
    assert len(segments(tmp_path)) == 2
    assert list(tmp_path.rglob("*.tmp")) == []
    runs.clear()
    found = compute_activations(model, source, cache_dir=tmp_path)
    assert sum(runs) == 4
    np.testing.assert_allclose(found, direct, atol=1e-5)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-10])


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 0xFF
    path.write_bytes(bytes(content))


def fill_with_zeros(path):
    path.write_bytes(path.read_bytes()[:200].ljust(path.stat().st_size, b"\0"))


def make_empty(path):
    path.write_bytes(b"")


def make_other_array(path):
    np.save(path, np.zeros(3))


def make_pickle(path):
    np.save(path, np.array([print], dtype=object), allow_pickle=True)


def make_archive(path):
    with path.open("wb") as file:
        np.savez(file, np.zeros(3))


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        flip_a_byte,
        fill_with_zeros,
        make_empty,
        make_other_array,
        make_pickle,
        make_archive,
    ],
)
def test_a_damaged_file_is_never_a_result(damage, model, source, direct, runs, tmp_path):
    compute_activations(model, source, cache_dir=tmp_path)
    damage(segments(tmp_path)[0])
    runs.clear()
    found = compute_activations(model, source, cache_dir=tmp_path)
    np.testing.assert_allclose(found, direct, atol=1e-5)
    assert sum(runs) >= 1
    runs.clear()
    np.testing.assert_allclose(
        compute_activations(model, source, cache_dir=tmp_path), direct, atol=1e-5
    )
    assert sum(runs) == 0


def test_leftovers_of_a_killed_process_do_not_matter(model, source, direct, tmp_path):
    folder = tmp_path / fingerprint_model(model)
    folder.mkdir()
    (folder / "old.tmp").write_bytes(b"half a segment")
    os.utime(folder / "old.tmp", (0, 0))
    (folder / "young.tmp").write_bytes(b"of a process at work")
    found = compute_activations(model, source, cache_dir=tmp_path)
    np.testing.assert_allclose(found, direct, atol=1e-5)
    assert [path.name for path in folder.glob("*.tmp")] == ["young.tmp"]


def test_two_at_once_do_not_harm_each_other(tiny, source, direct, tmp_path):
    found = [None, None]

    def work(number):
        model = build_backbone(tiny, image_shape=(8, 8), weights=None)
        model.set_weights(weights)
        found[number] = compute_activations(model, source, batch_size=2, cache_dir=tmp_path)

    weights = build_backbone(tiny, image_shape=(8, 8), weights=None, random_state=0).get_weights()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for array in found:
        np.testing.assert_allclose(array, direct, atol=1e-5)
    assert len(segments(tmp_path)) == 1


def test_too_little_room_is_said_before_the_work(model, source, runs, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=2**10)
    monkeypatch.setattr(activations.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"0\.0 MiB free of.*choose another cache_dir") as caught:
        compute_activations(model, source, cache_dir=tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert runs == []


def test_a_disk_that_fills_up_leaves_nothing_behind(model, source, monkeypatch, tmp_path):
    def full(self, file, digests, outputs):
        file.write(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(activations._Store, "_write_records", full)
    with pytest.raises(OSError, match="No space left on device.*no half file was left"):
        compute_activations(model, source, cache_dir=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written(model, source, runs, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotADirectoryError, match="choose another cache_dir"):
        compute_activations(model, source, cache_dir=tmp_path / "file")

    def read_only(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(activations.tempfile, "NamedTemporaryFile", read_only)
    with pytest.raises(PermissionError, match="Permission denied.*choose another cache_dir"):
        compute_activations(model, source, cache_dir=tmp_path)
    assert runs == []


def test_a_read_only_folder_that_has_all_is_enough(model, source, direct, monkeypatch, tmp_path):
    compute_activations(model, source, cache_dir=tmp_path)

    def read_only(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(activations.tempfile, "NamedTemporaryFile", read_only)
    found = compute_activations(model, source, cache_dir=tmp_path)
    np.testing.assert_allclose(found, direct, atol=1e-5)


def test_a_broken_image_file_costs_nothing_else(model, files, tmp_path):
    paths, _ = files
    paths[7].write_text("broken")
    source = replace(open_images(paths), file_shape=(8, 8))
    with pytest.raises(OSError, match=r"1 image file(.|\n)*07\.png"):
        compute_activations(model, source, batch_size=4, cache_dir=tmp_path)
    assert list(tmp_path.rglob("*.npy")) == []
    assert list(tmp_path.rglob("*.tmp")) == []


def test_progress_is_silent_unless_asked(model, source, capsys, monkeypatch):
    monkeypatch.setattr(activations, "_PROGRESS_DELAY_SECONDS", 0)
    compute_activations(model, source)
    assert capsys.readouterr().err == ""
    compute_activations(model, source, verbose=1)
    assert "24/24" in capsys.readouterr().err
