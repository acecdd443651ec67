"""Laws of fetch_cifar10: every layout and place gives the same arrays, or a clear error."""

import hashlib
import os
import pickle
import socket
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tlclassify.datasets import _cifar10, _cifar10_layouts, fetch_cifar10
from tlclassify.datasets._download import RemoteFile

N = 4  # images in a batch, instead of 10,000
BATCHES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]


@pytest.fixture(autouse=True)
def small_and_alone(monkeypatch, tmp_path):
    def refuse(*arguments):
        raise OSError("the network is off")

    monkeypatch.setattr(_cifar10_layouts, "_IMAGES_PER_BATCH", N)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TLCLASSIFY_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


RNG = np.random.RandomState(0)
X = RNG.randint(0, 256, size=(6 * N, 32, 32, 3), dtype=np.uint8)
Y = RNG.randint(0, 10, size=6 * N)


def batches():
    for number, name in enumerate(BATCHES):
        rows = slice(number * N, number * N + N)
        yield name, X[rows].transpose(0, 3, 1, 2).reshape(N, -1), Y[rows]


def write_python(folder):
    folder.mkdir(parents=True)
    for name, pixels, labels in batches():
        content = {b"data": np.ascontiguousarray(pixels), b"labels": labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder


def write_binary(folder):
    folder.mkdir(parents=True)
    for name, pixels, labels in batches():
        records = np.column_stack([labels.astype(np.uint8), pixels])
        records.astype(np.uint8).tofile(folder / f"{name}.bin")
    return folder


def write_npz(folder, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    n = 5 * N
    arrays = {"x_train": X[:n], "y_train": Y[:n], "x_test": X[n:], "y_test": Y[n:]} | changed
    np.savez(folder / "cifar10.npz", **arrays)
    return folder / "cifar10.npz"


def write_archive(path, write=write_python, name="cifar-10-batches-py"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        write(Path(folder) / name)
        with tarfile.open(path, "w:gz", compresslevel=1) as tar:
            tar.add(Path(folder) / name, arcname=name)
    return path


def check(dataset):
    assert np.array_equal(np.concatenate([dataset.X_train, dataset.X_test]), X)
    assert np.array_equal(np.concatenate([dataset.y_train, dataset.y_test]), Y)
    for images in (dataset.X_train, dataset.X_test):
        assert images.dtype == np.uint8
        assert images.flags.c_contiguous
    assert dataset.y_train.dtype == dataset.y_test.dtype == np.int64
    assert dataset.class_names[:2] == ("airplane", "automobile")
    assert len(dataset.class_names) == 10


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_python(folder / "anything"),
        lambda folder: write_binary(folder / "anything"),
        lambda folder: write_python(folder / "cifar-10-batches-py").parent,
        lambda folder: write_binary(folder / "cifar-10-batches-bin").parent,
        write_npz,
        lambda folder: write_npz(folder).parent,
        lambda folder: write_npz(folder, y_train=Y[: 5 * N, None].astype(np.uint8)),
        lambda folder: write_archive(folder / "any.tar.gz"),
        lambda folder: write_archive(folder / "cifar-10-python.tar.gz").parent,
        lambda folder: write_archive(
            folder / "cifar-10-binary.tar.gz", write_binary, "cifar-10-batches-bin"
        ),
    ],
)
def test_every_layout_gives_the_same_arrays_and_changes_nothing(tmp_path, write):
    source = write(tmp_path / "given")
    before = sorted(tmp_path.rglob("*"))
    check(fetch_cifar10(path=str(source)))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "write",
    [
        lambda keras: write_python(keras / "cifar-10-batches-py"),
        lambda keras: write_python(keras / "cifar-10-batches-py-target/cifar-10-batches-py"),
        lambda keras: write_archive(keras / "cifar-10-batches-py-target_archive"),
        lambda keras: write_archive(keras / "cifar-10-batches-py.tar.gz"),
        write_npz,
    ],
)
def test_what_keras_has_is_found_and_left_alone(tmp_path, write):
    write(tmp_path / "keras/datasets")
    before = sorted(tmp_path.rglob("*"))
    check(fetch_cifar10(download_if_missing=False))
    assert sorted(tmp_path.rglob("*")) == before


def test_data_home_comes_before_keras(tmp_path):
    write_npz(tmp_path / "keras/datasets", x_test=np.zeros_like(X[5 * N :]))
    assert not fetch_cifar10().X_test.any()
    write_npz(tmp_path / "home")
    check(fetch_cifar10())
    assert not fetch_cifar10(tmp_path / "keras/datasets").X_test.any()


def test_an_archive_in_data_home_is_unpacked_once(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "home/cifar-10-python.tar.gz")
    check(fetch_cifar10())
    assert sorted(path.name for path in archive.parent.iterdir()) == [
        "cifar-10-python", "cifar-10-python.tar.gz"
    ]  # fmt: skip
    archive.write_bytes(b"no longer read")
    check(fetch_cifar10())


def test_a_bad_archive_in_data_home_leaves_no_trace(tmp_path):
    archive = tmp_path / "home/cifar-10-python.tar.gz"

    def without_a_batch(folder):
        (write_python(folder) / "data_batch_3").unlink()

    write_archive(archive, without_a_batch)
    with pytest.raises(ValueError, match="must hold 6 batches; missing are data_batch_3"):
        fetch_cifar10()
    assert list(archive.parent.iterdir()) == [archive]
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"must be a whole \.tar\.gz"):
        fetch_cifar10()
    assert list(archive.parent.iterdir()) == [archive]
    write_archive(archive)
    check(fetch_cifar10())


def test_a_download_is_verified_unpacked_and_kept(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "server/cifar-10-python.tar.gz")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    remote = RemoteFile(archive.name, archive.as_uri(), sha256)
    monkeypatch.setattr(_cifar10, "_PUBLISHED", remote)
    check(fetch_cifar10(verbose=0))
    archive.unlink()
    check(fetch_cifar10(verbose=0))
    assert (tmp_path / "home" / archive.name).is_file()


def test_a_download_with_another_checksum_is_refused(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "server/cifar-10-python.tar.gz")
    remote = RemoteFile(archive.name, archive.as_uri(), "0" * 64)
    monkeypatch.setattr(_cifar10, "_PUBLISHED", remote)
    with pytest.raises(OSError, match="SHA-256 must be 0000"):
        fetch_cifar10(verbose=0)
    assert list((tmp_path / "home").iterdir()) == []


def test_without_a_network_the_ways_on_are_named(tmp_path):
    with pytest.raises(OSError, match=r"cifar-10-python\.tar\.gz.*cs\.toronto\.edu.*path="):
        fetch_cifar10(verbose=0)
    assert list((tmp_path / "home").iterdir()) == []
    with pytest.raises(FileNotFoundError, match=r"download_if_missing=False.*path="):
        fetch_cifar10(download_if_missing=False)


def test_a_data_home_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/home.*Not a directory"):
        fetch_cifar10(tmp_path / "file/home", verbose=0)


def test_a_path_without_the_data_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        fetch_cifar10(path=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has none of them"):
        fetch_cifar10(path=tmp_path)
    empty = write_archive(tmp_path / "x.tar.gz", lambda folder: folder.mkdir())
    with pytest.raises(ValueError, match="it holds neither"):
        fetch_cifar10(path=empty)


def test_an_archive_with_a_member_outside_is_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("cifar-10-batches-py/../../outside"))
    with pytest.raises(ValueError, match="a path that leaves the folder"):
        fetch_cifar10(path=tmp_path / "x.tar.gz")
    assert list((tmp_path / "temporary").iterdir()) == []


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["TLCLASSIFY_DATA"],)


GOOD_PIXELS = np.zeros((N, 3072), np.uint8)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"data": GOOD_PIXELS, "labels": [0, 1, 2, 10]}, "4 labels from 0 to 9.*received 10 and 0"),
        ({"data": GOOD_PIXELS, "labels": [0, 1, 2, -1]}, "4 labels from 0 to 9.*received -1"),
        ({"data": GOOD_PIXELS, "labels": [0, 1, 2]}, "4 labels from 0 to 9; it holds 3"),
        ({"data": GOOD_PIXELS, "labels": [0, 1, 2, "3"]}, "list of whole numbers"),
        ({"data": GOOD_PIXELS, "labels": [0, 1, 2, True]}, "list of whole numbers"),
        ({"data": GOOD_PIXELS, "fine_labels": [0] * N}, "'labels' in .* received NoneType"),
        ({"data": GOOD_PIXELS[1:], "labels": [0] * N}, r"'data' in .*shape \(3, 3072\)"),
        ({"data": GOOD_PIXELS.astype(float), "labels": [0] * N}, "dtype code 'f8'"),
        ({"data": Evil(), "labels": [0] * N}, r"asks for posix\.mkdir"),
    ],
)
def test_a_pickled_batch_is_checked(tmp_path, batch, message):
    folder = write_python(tmp_path / "batches")
    (folder / "data_batch_2").write_bytes(pickle.dumps(batch))
    with pytest.raises(ValueError, match=message) as caught:
        fetch_cifar10(path=folder)
    assert str(folder / "data_batch_2") in str(caught.value)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("n_bytes", [0, 3073 * N - 1, 3073 * (N - 1), 3073 * (N + 1)])
def test_a_binary_batch_of_another_length_is_refused(tmp_path, n_bytes):
    folder = write_binary(tmp_path / "batches")
    os.truncate(folder / "test_batch.bin", n_bytes)
    with pytest.raises(ValueError, match=rf"must have 12,292 bytes.*received {n_bytes:,}\."):
        fetch_cifar10(path=folder)


def test_a_binary_label_out_of_range_is_refused(tmp_path):
    folder = write_binary(tmp_path / "batches")
    with (folder / "data_batch_1.bin").open("r+b") as file:
        file.seek(3073)
        file.write(b"\x0a")
    with pytest.raises(ValueError, match=r"labels from 0 to 9.*received 10 and 0 more"):
        fetch_cifar10(path=folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": X[:5]}, r"x_train in .* must be uint8 of shape \(20, 32, 32, 3\)"),
        ({"x_test": X[-N:].astype(np.float32)}, "x_test in .* received float32"),
        ({"x_test": X[-N:].transpose(0, 3, 1, 2)}, r"received uint8 of shape \(4, 3, 32, 32\)"),
        ({"y_test": np.array([None] * N)}, "y_test in .* received object"),
        ({"y_test": np.array([0, 1, 2, 300])}, "labels from 0 to 9.*received 300"),
        ({"y_train": np.zeros(3, int)}, r"y_train in .* shape \(20,\) or \(20, 1\)"),
    ],
)
def test_an_npz_file_is_checked(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        fetch_cifar10(path=write_npz(tmp_path, **changed))


@pytest.mark.parametrize("damage", ["cut", "byte", "text", "key", "no array"])
def test_a_damaged_npz_file_is_refused(tmp_path, damage):
    path = write_npz(tmp_path)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-500])
    elif damage == "byte":
        path.write_bytes(content[:30_000] + bytes([content[30_000] ^ 1]) + content[30_001:])
    elif damage == "text":
        path.write_text("no zip")
    elif damage == "no array":
        path.write_bytes(content.replace(b"\x93NUMPY", b"\x93NAMPY"))
    else:
        np.savez(path, x_train=X[: 5 * N], y_train=Y[: 5 * N])
    with pytest.raises(ValueError, match=r"must be a whole \.npz file with x_train"):
        fetch_cifar10(path=path)


def test_a_dataset_prints_as_one_line(tmp_path):
    text = repr(fetch_cifar10(path=write_npz(tmp_path)))
    assert text == "ImageDataset(20 training and 4 test images of 32x32x3, 10 classes)"
