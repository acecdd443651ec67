"""The three layouts in which CIFAR-10 is handed around, each read to the same arrays."""

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlclassify.datasets._records import ImageDataset
from tlclassify.datasets._unpickle import load_pickled_dict, uint8_array

CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
PYTHON_FOLDER = "cifar-10-batches-py"
BINARY_FOLDER = "cifar-10-batches-bin"
NPZ_FILE = "cifar10.npz"

_IMAGES_PER_BATCH = 10_000
_PIXELS = 3 * 32 * 32
_TRAINING_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST_BATCH = "test_batch"

_Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


def find_layout(folder: Path) -> Path | None:
    """Return where in `folder` one of the layouts lies, unpacked: itself or a known name."""
    if not folder.is_dir():
        return None
    known = [
        folder,
        folder / PYTHON_FOLDER,
        folder / "cifar-10-python" / PYTHON_FOLDER,
        folder / "cifar-10-batches-py-target" / PYTHON_FOLDER,  # Keras 3
        folder / BINARY_FOLDER,
        folder / "cifar-10-binary" / BINARY_FOLDER,
    ]
    for candidate in known:
        if any((candidate / name).is_file() for name in (_TEST_BATCH, f"{_TEST_BATCH}.bin")):
            return candidate
    return folder / NPZ_FILE if (folder / NPZ_FILE).is_file() else None


def read_layout(source: Path) -> ImageDataset:
    """Return the images and labels of a folder of batches or of an .npz file.

    Parameters
    ----------
    source : Path
        What `find_layout` returned.

    Raises
    ------
    ValueError
        If a file is missing, cut short, or holds anything but CIFAR-10's shapes, types and
        labels.
    """
    if source.is_file():
        return _read_npz(source)
    if (source / _TEST_BATCH).is_file():
        return _read_batches(source, "", _read_pickled)
    return _read_batches(source, ".bin", _read_binary)


def _read_batches(folder: Path, suffix: str, read: Callable[[Path], _Batch]) -> ImageDataset:
    files = [folder / f"{name}{suffix}" for name in (*_TRAINING_BATCHES, _TEST_BATCH)]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ValueError(
            f"{folder} must hold {len(files)} batches; missing are {', '.join(missing)}. "
            "Delete the folder and unpack the archive again."
        )
    n_train = len(_TRAINING_BATCHES) * _IMAGES_PER_BATCH
    X_train = np.empty((n_train, 32, 32, 3), dtype=np.uint8)
    y_train = np.empty(n_train, dtype=np.int64)
    for number, file in enumerate(files[:-1]):
        rows = slice(number * _IMAGES_PER_BATCH, (number + 1) * _IMAGES_PER_BATCH)
        X_train[rows], y_train[rows] = read(file)
    X_test, y_test = read(files[-1])
    return ImageDataset(X_train, y_train, np.ascontiguousarray(X_test), y_test, CLASS_NAMES)


def _read_pickled(file: Path) -> _Batch:
    batch = load_pickled_dict(file)
    pixels = uint8_array(
        batch.get("data"), shape=(_IMAGES_PER_BATCH, _PIXELS), name=f"'data' in {file}"
    )
    labels = batch.get("labels")
    if not isinstance(labels, list) or any(type(label) is not int for label in labels):
        raise ValueError(
            f"'labels' in {file} must be a list of whole numbers; received "
            f"{'another list' if isinstance(labels, list) else type(labels).__name__}. "
            "Fetch the file again."
        )
    return _channels_last(pixels), _checked_labels(labels, _IMAGES_PER_BATCH, file)


def _read_binary(file: Path) -> _Batch:
    wanted, received = _IMAGES_PER_BATCH * (1 + _PIXELS), file.stat().st_size
    if received != wanted:
        raise ValueError(
            f"{file} must have {wanted:,} bytes, {_IMAGES_PER_BATCH:,} records of {1 + _PIXELS}; "
            f"received {received:,}. Unpack the archive again."
        )
    records = np.fromfile(file, dtype=np.uint8, count=wanted).reshape(_IMAGES_PER_BATCH, -1)
    labels = _checked_labels(records[:, 0].tolist(), _IMAGES_PER_BATCH, file)
    return _channels_last(records[:, 1:]), labels


def _read_npz(file: Path) -> ImageDataset:
    n_train, n_test = len(_TRAINING_BATCHES) * _IMAGES_PER_BATCH, _IMAGES_PER_BATCH
    try:
        _check_headers(file, {"train": n_train, "test": n_test})
        with np.load(file, allow_pickle=False) as arrays:
            X_train, X_test = arrays["x_train"], arrays["x_test"]
            y_train, y_test = arrays["y_train"], arrays["y_test"]
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError) as error:
        raise ValueError(
            f"{file} must be a whole .npz file with x_train, y_train, x_test and y_test; it could "
            f"not be read: {error or type(error).__name__}. Write it again with numpy.savez."
        ) from error
    return ImageDataset(
        X_train=X_train,
        y_train=_checked_labels(y_train.reshape(-1).tolist(), n_train, file),
        X_test=X_test,
        y_test=_checked_labels(y_test.reshape(-1).tolist(), n_test, file),
        class_names=CLASS_NAMES,
    )


def _check_headers(file: Path, n_images: dict[str, int]) -> None:
    """Check shapes and types before NumPy sets memory aside for what a file claims to hold."""
    with zipfile.ZipFile(file) as archive:
        for part, n in n_images.items():
            shape, dtype = _header(archive, f"x_{part}")
            if shape != (n, 32, 32, 3) or dtype != np.uint8:
                wanted = f"uint8 of shape ({n}, 32, 32, 3)"
                raise ValueError(_npz_message(f"x_{part}", file, wanted, shape, dtype))
            shape, dtype = _header(archive, f"y_{part}")
            if shape not in {(n,), (n, 1)} or dtype.kind not in "iu":
                wanted = f"integers of shape ({n},) or ({n}, 1)"
                raise ValueError(_npz_message(f"y_{part}", file, wanted, shape, dtype))


def _npz_message(
    name: str, file: Path, wanted: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> str:
    return (
        f"{name} in {file} must be {wanted}; received {dtype} of shape {shape}. Write the file "
        "again with numpy.savez, images channels last."
    )


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    with archive.open(f"{name}.npy") as member:
        try:
            version = np.lib.format.read_magic(member)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(member)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(member)
        except ValueError as error:
            raise zipfile.BadZipFile(f"{name} is no array ({error})") from error
    return shape, dtype


def _channels_last(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn rows of 1024 red, 1024 green and 1024 blue values into images."""
    images: NDArray[np.uint8] = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images


def _checked_labels(labels: list[int], n: int, file: Path) -> NDArray[np.int64]:
    if len(labels) != n or not all(0 <= label < len(CLASS_NAMES) for label in labels):
        outside = [label for label in labels if not 0 <= label < len(CLASS_NAMES)]
        wrong = f"; received {outside[0]} and {len(outside) - 1} more" if outside else ""
        raise ValueError(
            f"{file} must hold {n:,} labels from 0 to {len(CLASS_NAMES) - 1}; it holds "
            f"{len(labels):,}{wrong}. Fetch the file again."
        )
    return np.array(labels, dtype=np.int64)
