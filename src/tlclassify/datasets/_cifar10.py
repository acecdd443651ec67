"""CIFAR-10, from wherever it already lies or from its publisher."""

import os
import tempfile
from pathlib import Path

from tlclassify.datasets._archives import keep_folder, unpacked
from tlclassify.datasets._cifar10_layouts import find_layout, read_layout
from tlclassify.datasets._download import RemoteFile, data_home_folder, fetch_file
from tlclassify.datasets._records import ImageDataset

_PUBLISHED = RemoteFile(
    file_name="cifar-10-python.tar.gz",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
)
_ARCHIVES = (
    _PUBLISHED.file_name,
    "cifar-10-binary.tar.gz",
    "cifar-10-batches-py-target_archive",  # Keras 3
    "cifar-10-batches-py.tar.gz",  # Keras 2
)


def fetch_cifar10(
    data_home: str | os.PathLike[str] | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    verbose: int = 1,
) -> ImageDataset:
    """Return CIFAR-10: 50,000 training and 10,000 test images of ten classes [1]_.

    The data are taken from `path` if it is given, else from `data_home`, else from the folder
    where Keras keeps its datasets, else downloaded (170 MB) into `data_home` and unpacked there
    once. Three layouts are read: the pickled batches (`cifar-10-batches-py`), the binary batches
    (`cifar-10-batches-bin`), and `cifar10.npz` with x_train, y_train, x_test and y_test.

    A download must have the published SHA-256. An archive or folder of yours need not: what is
    checked is its content, every length, shape, type and label. Pickled batches are read without
    running anything that they name.

    Parameters
    ----------
    data_home : path-like, default=None
        Folder for downloaded data. None means the environment variable TLCLASSIFY_DATA, or
        ~/.cache/tlclassify.
    path : path-like, default=None
        An archive (.tar.gz), a folder or an .npz file to read instead of looking anywhere. An
        archive is unpacked into a temporary folder for the call.
    download_if_missing : bool, default=True
        If False, data that are nowhere to be found are an error.
    verbose : int, default=1
        0 shows no progress bar.

    Returns
    -------
    ImageDataset
        `X_train` of shape (50000, 32, 32, 3) and `X_test` of shape (10000, 32, 32, 3), uint8 RGB
        in [0, 255]; `y_train` and `y_test`, int64 in [0, 9]; `class_names`. The order is that of
        the source.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist, or nothing is found and `download_if_missing` is False.
    OSError
        If the download fails or cannot be kept; nothing half-made is left.
    ValueError
        If what was found is not CIFAR-10, whole and in order.

    References
    ----------
    .. [1] A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

    Examples
    --------
    >>> from tlclassify.datasets import fetch_cifar10
    >>> data = fetch_cifar10()  # doctest: +SKIP
    >>> data  # doctest: +SKIP
    ImageDataset(50000 training and 10000 test images of 32x32x3, 10 classes)
    """
    if path is not None:
        return _read(_given(Path(path).expanduser()))
    home = data_home_folder(data_home)
    keras = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "datasets"
    source = _find(home) or _find(keras)
    if source is None and not download_if_missing:
        raise FileNotFoundError(
            f"CIFAR-10 must lie in {home} or {keras} if download_if_missing=False; neither has "
            f"it. Put {_PUBLISHED.file_name} into {home}, or pass path= with an archive, folder "
            "or .npz file."
        )
    if source is None:
        source = fetch_file(_PUBLISHED, home, verbose=verbose)
    return _read(source, keep_in=home if source.parent == home else None)


def _find(folder: Path) -> Path | None:
    """Return what lies in a folder: data already unpacked before archives."""
    archives = (folder / name for name in _ARCHIVES if (folder / name).is_file())
    return find_layout(folder) or next(archives, None)


def _given(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(
            f"path must be an archive, a folder or an .npz file; {path} does not exist."
        )
    source = path if path.is_file() else _find(path)
    if source is None:
        raise ValueError(
            f"path must hold CIFAR-10 as pickled or binary batches, as cifar10.npz or as one of "
            f"the archives {', '.join(_ARCHIVES)}; received {path}, which has none of them. "
            "Pass the folder with the batches, or the archive itself."
        )
    return source


def _read(source: Path, *, keep_in: Path | None = None) -> ImageDataset:
    if source.is_dir() or source.suffix == ".npz":
        return read_layout(source)
    with unpacked(source, parent=keep_in or Path(tempfile.gettempdir())) as tree:
        layout = find_layout(tree)
        if layout is None:
            raise ValueError(
                f"{source} must hold CIFAR-10 as pickled or binary batches; it holds neither. "
                f"Fetch {_PUBLISHED.url}, or pass path= with another archive."
            )
        dataset = read_layout(layout)
        # Only what has been read to its end is kept, so a bad archive is never taken up again.
        if keep_in is not None:
            keep_folder(tree, keep_in / source.name.removesuffix(".tar.gz"))
    return dataset
