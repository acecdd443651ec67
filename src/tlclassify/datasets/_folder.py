"""The record in which image sets come, and a folder of class folders as one."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks import files
from tlclassify._checks.parameters import check_choice, listed, show_progress

_PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_N_CHECKED_AT_ONCE = 256


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset:
    """Images, or the paths of their files, with their labels.

    Attributes
    ----------
    X : ndarray (n_samples, height, width, 3), uint8 RGB in [0, 255]; or (n_samples,), paths as str
    y : ndarray (n_samples,), the class name of each image
    class_names : tuple of str, in the order of the source
    ignored_paths : tuple of str, files and links in a folder that are no images of a class
    groups : ndarray (n_samples,) or None, what a table says of who or what is in the image
    """

    X: NDArray[Any]
    y: NDArray[Any]
    class_names: tuple[str, ...]
    ignored_paths: tuple[str, ...] = ()
    groups: NDArray[Any] | None = None

    def __repr__(self) -> str:
        size = "x".join(str(side) for side in self.X.shape[1:])
        images = f"images of {size}" if size else "image files"
        n_ignored = len(self.ignored_paths)
        others = f", {n_ignored} other file(s) ignored" if n_ignored else ""
        return f"ImageDataset({len(self.X)} {images}, {len(self.class_names)} classes{others})"


def load_image_folder(
    folder: str | os.PathLike[str], *, verify: str = "header", verbose: int = 1
) -> ImageDataset:
    """Return the image files of a folder and their labels; the pixels are not kept.

    Each sub-folder is a class and gives it its name; images may lie in folders below it. Hidden
    files and those that systems leave (`Thumbs.db` and the like) are left out; files without the
    suffix of an image are listed in `ignored_paths`. Links are followed to files and class folders.

    Parameters
    ----------
    folder : path-like
    verify : {"header", "full", "none"}
        "header" reads the beginning of each file; "full" decodes it; "none" opens nothing.
    verbose : int, 0 shows no progress bar

    Raises
    ------
    FileNotFoundError, OSError, ValueError
        If the folder does not exist; naming all files that cannot be read as images; or if there
        are no class folders, one holds no image, or they are parts of a data set (`train`).

    Examples
    --------
    >>> import os, tempfile
    >>> from PIL import Image
    >>> from tlclassify.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         os.mkdir(f"{folder}/{name}")
    ...         Image.new("RGB", (8, 8)).save(f"{folder}/{name}/1.png")
    ...     images = load_image_folder(folder, verbose=0)
    >>> images, images.y.tolist()
    (ImageDataset(2 image files, 2 classes), ['cat', 'dog'])
    """
    check_choice("verify", verify, ("header", "full", "none"))
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"folder must be a folder with one folder per class; {root} is "
            f"{'a file' if root.exists() else 'not there'}."
        )
    # Names that are not UTF-8 are written with the numbers of their bytes, for pages and files.
    found = {
        os.fsencode(inside.name).decode(errors="backslashreplace"): [*files.list_files(inside)]
        for inside in _class_folders(root)
    }
    images = {name: [*filter(files.is_named_as_image, inside)] for name, inside in found.items()}
    empty = [name for name, inside in images.items() if not inside]
    if empty:
        raise ValueError(
            f"Each class folder in {root} must hold at least one image; {len(empty)} of "
            f"{len(images)} hold none: {listed(empty)}. Add images or remove the folders. Image "
            f"files end in one of {' '.join(files.IMAGE_SUFFIXES)}."
        )
    paths = [file for inside in images.values() for file in inside]
    # A JPEG is read whole but computed at an eighth of its size.
    read = partial(files.read_image, size=(1, 1)) if verify == "full" else files.measure_image
    checked, errors = [] if verify == "none" else paths, list[OSError]()
    with show_progress(len(checked), "checking images", unit="image", verbose=verbose) as bar:
        for start in range(0, len(checked), _N_CHECKED_AT_ONCE):
            part = checked[start : start + _N_CHECKED_AT_ONCE]
            errors += files.read_files(read, part)[1]
            bar.update(len(part))
    files.raise_unreadable(errors)
    beside = [entry.path for entry in files.list_entries(root) if not entry.is_dir()]
    others = {*beside}.union(*found.values()).difference(paths)
    return ImageDataset(
        X=np.array(paths, dtype=object),
        y=np.repeat(list(images), [len(inside) for inside in images.values()]),
        class_names=tuple(images),
        ignored_paths=tuple(sorted(others, key=Path)),
    )


def _class_folders(root: Path) -> list[os.DirEntry[str]]:
    entries = files.list_entries(root)
    class_folders = [entry for entry in entries if entry.is_dir()]
    if not class_folders:
        n_images = sum(files.is_named_as_image(entry.path) for entry in entries)
        raise ValueError(
            f"{root} must hold one folder per class; it holds no folder and {n_images} images. "
            "Move the images of each class into a folder named after it."
        )
    parts = [entry for entry in class_folders if entry.name.casefold() in _PARTS]
    within = [part for part in parts if any(e.is_dir() for e in files.list_entries(part))]
    if within and (len(parts) > 1 or parts == class_folders):
        raise ValueError(
            f"{root} must hold one folder per class; it holds the parts of a data set: "
            f"{listed(part.name for part in parts)}. Load each by itself, as by "
            f"load_image_folder({within[0].path!r})."
        )
    for entry in class_folders:
        if root.resolve().is_relative_to(Path(entry).resolve()):
            # It would file the images of all classes under its own name.
            raise ValueError(
                f"{root} must hold class folders; {entry.name} links back to a folder that holds "
                "them. Remove the link."
            )
    return class_folders
