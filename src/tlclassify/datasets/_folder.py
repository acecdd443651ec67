"""A folder with one sub-folder of image files per class, as paths and labels."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from tlclassify._checks.parameters import check_choice
from tlclassify.datasets._records import ImageFolder

# Formats that Pillow decodes by itself; some others would start outside programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# The last row cannot be read here, and is reported rather than passed over in silence.
_IMAGE_SUFFIXES = (
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
    ".avif", ".heic", ".heif", ".jp2", ".jxl", ".svg",
)  # fmt: skip
_NAMES_SHOWN = 10


def load_image_folder(
    folder: str | os.PathLike[str], *, verify: str = "full", verbose: int = 1
) -> ImageFolder:
    """Return the image files of a folder and their labels; the pixels are not kept.

    Each sub-folder is a class and gives it its name; images may lie in folders below it. Hidden
    files and folders, and files whose suffix is not that of an image, are left out; the latter
    are listed in `ignored_paths`. A link to a file is followed. A link to a folder is followed
    where a class folder stands, not below it.

    Parameters
    ----------
    folder : path-like
        The folder that holds the class folders.
    verify : {"full", "header", "none"}, default="full"
        "full" decodes every file, which finds files cut short; "header" reads the beginning
        only; "none" opens nothing.
    verbose : int, default=1
        0 shows no progress bar.

    Returns
    -------
    ImageFolder
        `paths` of shape (n_samples,) and dtype object, `y` of shape (n_samples,) and dtype str,
        `class_names` and `ignored_paths`. The same files always come in the same order.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If there are no class folders, a class has no image, a class folder links back to what
        holds it, or files cannot be read as images; all such files are reported together.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from tlclassify.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         (Path(folder) / name).mkdir()
    ...         Image.new("RGB", (8, 8)).save(Path(folder) / name / "1.png")
    ...     images = load_image_folder(folder, verbose=0)
    >>> images
    ImageFolder(2 image files, 2 classes, 0 other files ignored)
    >>> images.y.tolist()
    ['cat', 'dog']
    """
    check_choice("verify", verify, ("full", "header", "none"))
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"folder must be a folder with one folder per class; {root} is none."
        )
    class_folders = _class_folders(root)
    files = {inside.name: list(_files(inside)) for inside in class_folders}
    images = {name: [file for file in inside if _is_image(file)] for name, inside in files.items()}
    _check_classes(root, images)
    paths = [file for inside in images.values() for file in inside]
    if verify != "none":
        _check_readable(paths, decode=verify == "full", verbose=verbose)
    everything = [file for inside in files.values() for file in inside]
    beside = [entry for entry in _visible(root) if entry.is_file() or not entry.exists()]
    ignored = sorted(set(beside + everything).difference(paths))
    return ImageFolder(
        paths=np.array([str(file) for file in paths], dtype=object),
        y=np.array([name for name, inside in images.items() for _ in inside], dtype=np.str_),
        class_names=tuple(images),
        ignored_paths=tuple(str(file) for file in ignored),
    )


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _class_folders(root: Path) -> list[Path]:
    class_folders = [entry for entry in _visible(root) if entry.is_dir()]
    # Such a link would file the images of all classes under its own name.
    looping = [
        entry.name for entry in class_folders if root.resolve().is_relative_to(entry.resolve())
    ]
    if looping:
        raise ValueError(
            f"{root} must hold class folders; {', '.join(looping)} links back to a folder that "
            "holds them. Remove the link."
        )
    if not class_folders:
        n_images = sum(_is_image(entry) for entry in _visible(root))
        raise ValueError(
            f"{root} must hold one folder per class; it holds no folder and {n_images} images. "
            "Move the images of each class into a folder named after it."
        )
    return class_folders


def _files(folder: Path) -> Iterator[Path]:
    """Yield files, and links to folders, which are not entered; in one order everywhere."""
    for entry in _visible(folder):
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry)
        else:
            yield entry


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in _IMAGE_SUFFIXES and not file.is_dir()


def _check_classes(root: Path, images: dict[str, list[Path]]) -> None:
    empty = [name for name, inside in images.items() if not inside]
    if empty:
        shown = ", ".join(repr(name) for name in empty[:_NAMES_SHOWN])
        raise ValueError(
            f"Each class folder in {root} must hold at least one image; {len(empty)} of "
            f"{len(images)} hold none: {shown}. Add images or remove the folders. Image files "
            f"end in one of {' '.join(_IMAGE_SUFFIXES)}."
        )


def _check_readable(paths: list[Path], *, decode: bool, verbose: int) -> None:
    bar = tqdm(paths, desc="checking images", unit=" images", disable=not verbose)
    problems = [(path, problem) for path in bar if (problem := _problem(path, decode=decode))]
    if problems:
        shown = "".join(f"\n  - {path}: {problem}" for path, problem in problems[:_NAMES_SHOWN])
        more = len(problems) - _NAMES_SHOWN
        rest = f"\n  - and {more} more" if more > 0 else ""
        raise ValueError(
            f"{len(problems)} of {len(paths)} files cannot be read as images "
            f"({', '.join(_FORMATS)}):{shown}{rest}\nRepair, convert or remove them."
        )


def _problem(path: Path, *, decode: bool) -> str:
    """Return why a file cannot be read, or an empty string."""
    if not path.is_file():
        return "no regular file" if path.exists() else "a link to nothing"
    try:
        with warnings.catch_warnings(), Image.open(path, formats=_FORMATS) as image:
            # Odd metadata and large images are warned of by whoever reads the pixels.
            warnings.simplefilter("ignore")
            if decode:
                # A JPEG is read whole but computed at an eighth of its size.
                image.draft("RGB", (1, 1))
                image.load()
            else:
                image.verify()
    except Exception as error:  # noqa: BLE001 - decoders of damaged files raise nearly anything
        return str(error) or type(error).__name__
    return ""
