"""Files: the one reader of images, and the one writer, whose files are whole or not there."""

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

# Pillow decodes these by itself; for some others it would start outside programs.
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
IMAGE_SUFFIXES = (
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
)  # fmt: skip

_N_READERS = 4
_READ_BYTES = 2**20
_N_FILES_SHOWN = 10

_T = TypeVar("_T")


def read_image(
    path: str | PathLike[str], *, size: tuple[int, int] | None = None, max_side: int | None = None
) -> NDArray[np.uint8]:
    """Return a file as uint8 RGB of a size (height, width), or with no side above `max_side`."""
    with _open_image(path) as image:
        aim = max_side if size is None else max(size)
        if aim is not None:
            # A JPEG is then decoded at a half, a quarter or an eighth of its size.
            image.draft("RGB", (aim, aim))
        image.load()
        # Cameras write odd metadata beside good pixels.
        with suppress(Exception):
            ImageOps.exif_transpose(image, in_place=True)
        picture = _to_eight_bit_rgb(image)
        if size is not None:
            picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
        elif max_side is not None:
            picture.thumbnail((max_side, max_side), Image.Resampling.BILINEAR)
        return np.asarray(picture)


def measure_image(path: str | PathLike[str]) -> int:
    """Return a file's longer side in pixels, which its first bytes say."""
    with _open_image(path) as image:
        return max(image.size)


def read_files(read: Callable[[Any], _T], paths: Iterable[Any]) -> tuple[list[_T], list[OSError]]:
    """Return what `read` makes of files, in threads, and the errors where it cannot."""
    found, errors = [], []
    with ThreadPoolExecutor(_N_READERS) as pool:
        for running in [pool.submit(read, path) for path in paths]:
            try:
                found.append(running.result())
            except OSError as error:
                errors.append(error)
    return found, errors


def raise_unreadable(errors: Sequence[OSError]) -> None:
    """Raise one OSError for all of them, if any."""
    if errors:
        shown = "".join(f"\n  - {error}" for error in errors[:_N_FILES_SHOWN])
        more = len(errors) - _N_FILES_SHOWN
        rest = f"\n  and {more} more" if more > 0 else ""
        raise OSError(
            f"{len(errors)} image file(s) cannot be read:{shown}{rest}\n"
            "Repair them, or leave their paths and labels out."
        )


@contextmanager
def _open_image(path: str | PathLike[str]) -> Iterator[Image.Image]:
    """Open one of the formats; whatever goes wrong with it is an OSError with its path."""
    if not Path(path).is_file():
        reason = "no regular file" if Path(path).exists() else "no such file"
        raise OSError(f"{path}: {reason}")
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        known = ", ".join(IMAGE_FORMATS)
        raise OSError(f"{path}: not an image of a known format ({known})") from error
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise OSError(f"{path}: {error or type(error).__name__}") from error


def _to_eight_bit_rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"F", "I"} or image.mode.startswith("I;16"):
        # Pillow would clip more than 8 bits to white.
        pixels = np.asarray(image)
        if image.mode == "F" or pixels.min() < 0 or pixels.max() > 65535:
            raise ValueError("more than 16 bits a pixel; convert it to 8 bits")
        pixels = np.where(pixels == image.info.get("transparency"), 65535, pixels)
        return Image.fromarray((pixels // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def digest_file(path: str | Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def open_whole(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file, also to be read, that takes the name `path` when all is written, or never."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"path must name a file; received the folder {str(path)!r}.")
    # Not by tempfile, whose files nobody else may read.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x+b") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file as `open_whole` does."""
    with open_whole(path) as file:
        file.write(content)
