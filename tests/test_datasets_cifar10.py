"""Laws of fetch_cifar10: every layout and place gives the same, or a clear error."""

import keras
import numpy as np
import pytest

from tlclassify.datasets import _cifar10, fetch_cifar10

N = 4  # images in a batch, instead of 10,000
RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, size=(6 * N, 32, 32, 3), dtype=np.uint8)
Y = RNG.integers(0, 10, size=6 * N)
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(autouse=True)
def small_and_alone(monkeypatch):
    def refuse():
        raise Exception("URL fetch failure")  # noqa: TRY002 - as Keras does

    monkeypatch.setattr(_cifar10, "_N_PER_BATCH", N)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", refuse)
    monkeypatch.delenv("TLCLASSIFY_DATA", raising=False)


def write_binary(folder):
    folder = folder / "cifar-10-batches-bin"
    folder.mkdir()
    batches = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for name, images, labels in zip(batches, np.split(X, 6), np.split(Y, 6), strict=True):
        pixels = images.transpose(0, 3, 1, 2).reshape(N, -1)
        np.column_stack([labels, pixels]).astype(np.uint8).tofile(folder / f"{name}.bin")
    return folder


def write_npz(folder, **changed):
    n = 5 * N
    arrays = {"x_train": X[:n], "y_train": Y[:n, None], "x_test": X[n:], "y_test": Y[n:]} | changed
    np.savez(folder / "cifar10.npz", **{name: a for name, a in arrays.items() if a is not None})
    return folder / "cifar10.npz"


def check(datasets):
    for dataset, rows in zip(datasets, (slice(5 * N), slice(5 * N, None)), strict=True):
        assert np.array_equal(dataset.X, X[rows])
        assert dataset.X.flags.c_contiguous
        assert dataset.y.tolist() == [NAMES[label] for label in Y[rows]]
        assert dataset.class_names == tuple(NAMES)
    assert repr(datasets[0]) == f"ImageDataset({5 * N} images of 32x32x3, 10 classes)"


@pytest.mark.parametrize("write", [write_binary, write_npz])
def test_a_layout_is_found_by_itself_or_in_its_folder(tmp_path, monkeypatch, write):
    source = write(tmp_path)
    check(fetch_cifar10(source))
    check(fetch_cifar10(str(tmp_path)))
    monkeypatch.setenv("TLCLASSIFY_DATA", str(tmp_path))
    check(fetch_cifar10())


@pytest.mark.parametrize("form", ["channels_last", "channels_first"])
def test_else_keras_is_asked(tmp_path, monkeypatch, form):
    """Also where TLCLASSIFY_DATA names a folder that has other data."""
    monkeypatch.setenv("TLCLASSIFY_DATA", str(tmp_path))
    images = X if form == "channels_last" else X.transpose(0, 3, 1, 2)
    n, labels = 5 * N, Y[:, None].astype(np.uint8)
    answer = (images[:n], labels[:n]), (images[n:], labels[n:])
    monkeypatch.setattr(keras.config, "image_data_format", lambda: form)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: answer)
    check(fetch_cifar10())


def test_a_failed_download_says_the_ways_on():
    with pytest.raises(OSError, match=r"URL fetch failure.*pass path= with cifar10\.npz"):
        fetch_cifar10()


@pytest.mark.parametrize("name", ["missing", "empty", "cifar-10-python.tar.gz"])
def test_a_path_without_the_data_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "cifar-10-python.tar.gz").touch()
    with pytest.raises(FileNotFoundError, match=rf"path must be.*received .*{name}\. Unpack"):
        fetch_cifar10(tmp_path / name)


def test_a_batch_must_be_whole(tmp_path):
    folder = write_binary(tmp_path)
    (folder / "data_batch_3.bin").write_bytes(bytes(3 * 3073 + 1))
    with pytest.raises(ValueError, match=r"data_batch_3\.bin must hold 4 records of 3073 bytes"):
        fetch_cifar10(folder)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(ValueError, match=r"data_batch_3\.bin must hold .*received 0 bytes"):
        fetch_cifar10(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": X[:3]}, r"shape \(20, 32, 32, 3\), and .*received uint8 of shape \(3, 32"),
        ({"x_test": X[-N:] / 255}, "received float64 of shape"),
        ({"y_test": Y[:2]}, "and 2 labels"),
        ({"y_test": np.array([0, 9, 10, -1])}, "4 labels of which 2 are from 0 to 9"),
        ({"y_test": np.full(N, 0.5)}, "4 labels of which 0 are"),
        ({"y_train": np.array([None] * 5 * N)}, "could not be read: Object arrays"),
        ({"x_test": None}, "whole .npz file with x_train, .*could not be read: 'x_test"),
    ],
)
def test_an_npz_must_hold_cifar10(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        fetch_cifar10(write_npz(tmp_path, **changed))


def test_a_damaged_npz_is_refused(tmp_path):
    path = write_npz(tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="must be a whole .npz file.*Write it again"):
        fetch_cifar10(path)
