"""CIFAR-10, from a file of yours or by way of Keras."""

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify.datasets._folder import ImageDataset

_CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_BINARY_FOLDER, _NPZ_FILE, _TEST_BATCH = "cifar-10-batches-bin", "cifar10.npz", "test_batch.bin"
_N_PER_BATCH, _RECORD_BYTES = 10_000, 1 + 3 * 32 * 32

_Arrays = tuple[NDArray[Any], NDArray[Any]]


def fetch_cifar10(path: str | os.PathLike[str] | None = None) -> tuple[ImageDataset, ImageDataset]:
    """Return CIFAR-10: 50,000 training and 10,000 test images of ten classes [1]_.

    Parameters
    ----------
    path : path-like, default=None
        `cifar10.npz`, the folder `cifar-10-batches-bin` of the published binary version, or a
        folder that holds one of them. By default the folder that the environment variable
        TLCLASSIFY_DATA names, or else `keras.datasets.cifar10`, which downloads 170 MB once.

    Returns
    -------
    train, test : ImageDataset
        `X` of shape (50000, 32, 32, 3) and (10000, 32, 32, 3), uint8 RGB in [0, 255].

    Raises
    ------
    FileNotFoundError, OSError, ValueError
        If `path` has neither, Keras cannot download them, or they are not CIFAR-10 as a whole.

    References
    ----------
    .. [1] A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Examples
    --------
    >>> from tlclassify.datasets import fetch_cifar10
    >>> train, test = fetch_cifar10()  # doctest: +SKIP
    >>> train  # doctest: +SKIP
    ImageDataset(50000 images of 32x32x3, 10 classes)
    """
    given = path if path is not None else os.environ.get("TLCLASSIFY_DATA")
    root = None if given is None else Path(given).expanduser()
    places = () if root is None else (root, root / _BINARY_FOLDER, root / _NPZ_FILE)
    source = next(
        (p for p in places if (p / _TEST_BATCH).is_file() or (p.suffix == ".npz" and p.is_file())),
        None,
    )
    if path is not None and source is None:
        raise FileNotFoundError(
            f"path must be {_NPZ_FILE}, {_BINARY_FOLDER} or a folder that holds one of them; "
            f"received {path}. Unpack archives first."
        )
    if source is None:
        train, test = _fetch_from_keras()
    else:
        train, test = _read_npz(source) if source.suffix == ".npz" else _read_binary(source)
    name = str(source or "Keras")
    return _as_dataset(train, 5 * _N_PER_BATCH, name), _as_dataset(test, _N_PER_BATCH, name)


def _fetch_from_keras() -> tuple[_Arrays, _Arrays]:
    import keras

    try:
        train, test = keras.datasets.cifar10.load_data()
    except Exception as error:  # Keras raises no narrower one
        raise OSError(
            f"CIFAR-10 could not be downloaded by Keras: {error}. Check the connection; or pass "
            f"path= with {_NPZ_FILE} or {_BINARY_FOLDER}, or name their folder in TLCLASSIFY_DATA."
        ) from error
    if keras.config.image_data_format() == "channels_first":
        train, test = ((X.transpose(0, 2, 3, 1), y) for X, y in (train, test))
    return train, test


def _read_binary(folder: Path) -> tuple[_Arrays, _Arrays]:
    """Read records of a label and 1024 red, 1024 green and 1024 blue values."""
    batches = []
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), _TEST_BATCH):
        batch = (folder / name).read_bytes() if (folder / name).is_file() else b""
        if len(batch) != _N_PER_BATCH * _RECORD_BYTES:
            raise ValueError(
                f"{folder / name} must hold {_N_PER_BATCH:,} records of {_RECORD_BYTES} bytes; "
                f"received {len(batch):,} bytes. Unpack the archive again."
            )
        batches.append(batch)
    records = np.frombuffer(b"".join(batches), np.uint8).reshape(-1, _RECORD_BYTES)
    images, labels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]
    n = 5 * _N_PER_BATCH
    return (images[:n], labels[:n]), (images[n:], labels[n:])


def _read_npz(file: Path) -> tuple[_Arrays, _Arrays]:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            train, test = ((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, ValueError) as error:
        raise ValueError(
            f"{file} must be a whole .npz file with x_train, y_train, x_test and y_test; it could "
            f"not be read: {error or type(error).__name__}. Write it again with numpy.savez."
        ) from error
    return train, test


def _as_dataset(arrays: _Arrays, n: int, source: str) -> ImageDataset:
    images, labels = arrays[0], arrays[1].reshape(-1)
    whole = images.shape == (n, 32, 32, 3) and labels.shape == (n,)
    if not whole or images.dtype != np.uint8 or not np.isin(labels, range(10)).all():
        raise ValueError(
            f"{source} must hold uint8 images of shape ({n}, 32, 32, 3), and for each a label from "
            f"0 to 9; received {images.dtype} of shape {images.shape}, and {len(labels)} labels of "
            f"which {np.isin(labels, range(10)).sum()} are from 0 to 9."
        )
    names = np.array(_CLASS_NAMES)[labels.astype(int)]
    return ImageDataset(np.ascontiguousarray(images), names, _CLASS_NAMES)
