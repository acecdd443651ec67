"""Files: the one reader of folders and images; the one writer, whose files are whole or absent."""

import hashlib
import io
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from tlclassify._checks.images import STRETCHED, Framing, Picture

# Pillow decodes these by itself; for some others it would start outside programs.
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
IMAGE_SUFFIXES = (
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
)  # fmt: skip
# Images that cannot be read here, which is told and not passed over in silence.
_OTHER_SUFFIXES = (".avif", ".heic", ".heif", ".jp2", ".jxl", ".svg")
# What network drives, archives and systems put beside photographs.
_NOT_OURS = {
    "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", "lost+found",
    "Thumbs.db", "desktop.ini",
}  # fmt: skip

_N_READERS = 4
_READ_BYTES, _SAMPLE_BYTES = 2**20, 2**14
_N_FILES_SHOWN = 10
# What the picture in a PNG hangs on. Pillow refuses whole pixels for a long text beside them.
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")
# How pictures are turned upright, by the orientation that cameras write, from 2 on.
_TURNS = tuple(map(Image.Transpose, (0, 3, 1, 5, 4, 6, 2)))
_ORIENTATION = re.compile(  # in either order of bytes
    rb"\x01\x12\x00\x03\x00\x00\x00\x01\x00([\x02-\x08])"
    rb"|\x12\x01\x03\x00\x01\x00\x00\x00([\x02-\x08])\x00"
)

Source: TypeAlias = str | PathLike[str] | Picture
_T = TypeVar("_T")


def read_image(
    source: Source,
    *,
    size: tuple[int, int] | None = None,
    framing: Framing = STRETCHED,
    max_side: int | None = None,
) -> NDArray[np.uint8]:
    """Return an image as uint8 RGB of a size (height, width), or with no side above `max_side`."""
    with _open_image(source) as image:
        aim = max_side if size is None else max(size)
        if aim is not None:
            # A JPEG is then decoded at a half, a quarter or an eighth of its size.
            image.draft("RGB", (aim, aim))
        with suppress(ValueError):  # of a long text behind the pixels, which are there
            image.load()
        image.load()
        # Cameras write odd metadata beside good pixels; a damaged tag hides no orientation.
        orientation: Any = None
        with suppress(Exception):
            orientation = image.getexif().get(ExifTags.Base.Orientation)
        found = _ORIENTATION.search(image.info.get("exif", b""))
        if orientation is None and found:
            orientation = (found[1] or found[2])[0]
        upright = orientation not in range(2, 9)
        picture = _to_eight_bit_rgb(image if upright else image.transpose(_TURNS[orientation - 2]))
        if size is not None:
            rows, columns = framing.place(picture.size[::-1], size)
            corner = (columns.start, rows.start)
            seen = (*corner, columns.start + columns.n_seen, rows.start + rows.n_seen)
            covered = (columns.n_covered, rows.n_covered)
            part = picture.crop(seen).resize(covered, Image.Resampling.BILINEAR)
            picture = Image.new("RGB", size[::-1], tuple(map(round, framing.fill)))
            picture.paste(part, ((size[1] - covered[0]) // 2, (size[0] - covered[1]) // 2))
        elif max_side is not None:
            picture.thumbnail((max_side, max_side), Image.Resampling.BILINEAR)
        return np.asarray(picture)


def measure_image(source: Source) -> tuple[int, int]:
    """Return the two sides of an image in pixels, which the first bytes of a file say."""
    with _open_image(source) as image:
        return image.size


def largest_value(source: Source) -> int:
    """Return the largest value of an image of more than 8 bits a pixel, or 0 of any other."""
    with _open_image(source) as image:
        return int(np.asarray(image).max()) if _is_deep(image) else 0


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
            "Repair or convert them, or leave them and their labels out."
        )


def list_entries(folder: str | PathLike[str]) -> list[os.DirEntry[str]]:
    """Return what is in a folder by name, without hidden files and those that systems leave."""
    with os.scandir(folder) as entries:
        seen = [e for e in entries if not e.name.startswith(".") and e.name not in _NOT_OURS]
    return sorted(seen, key=lambda entry: entry.name)


def list_files(folder: str | PathLike[str]) -> Iterator[str]:
    """Yield files, and links to folders, which are not entered; in one order everywhere."""
    for entry in list_entries(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from list_files(entry.path)
        else:
            yield entry.path


def is_named_as_image(path: str) -> bool:
    """Whether a file is named as images are, be it one that can be read here or not."""
    return path.lower().endswith(IMAGE_SUFFIXES + _OTHER_SUFFIXES) and not Path(path).is_dir()


def list_images(folder: str | PathLike[str]) -> list[str]:
    """Return the files of a folder, and of those in it, that are named as images are."""
    return [path for path in list_files(folder) if is_named_as_image(path)]


def find_problem(path: str | PathLike[str], folder: Path = Path()) -> str:
    """Return why there is no such file, with what may be meant, or an empty text."""
    text, whole = os.fspath(path), folder / path
    if whole.is_file():
        return ""
    if whole.exists():
        return "no regular file"
    if "://" in text or text.startswith(("http:/", "https:/")):
        return "an address, not a file; download it first"
    if os.sep == "/" and (folder / text.replace("\\", "/")).is_file():
        return "no such file, but there is one with / for \\; replace them"
    return "no such file" if Path(path).is_absolute() else f"no such file in {folder.resolve()}"


@contextmanager
def _open_image(source: Source) -> Iterator[Image.Image]:
    """Open one of the formats; whatever goes wrong with it is an OSError with its name."""
    try:
        content = source.content if isinstance(source, Picture) else source
        # What the user holds is copied, for it is turned and decoded.
        with content.copy() if isinstance(content, Image.Image) else _decode(content) as image:
            yield image
    except UnidentifiedImageError as error:
        known = ", ".join(IMAGE_FORMATS)
        raise OSError(f"{source}: not an image of a known format ({known})") from error
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise OSError(f"{source}: {error or type(error).__name__}") from error


def _decode(content: str | PathLike[str] | bytes) -> Image.Image:
    """Open a file or its bytes; of a PNG that Pillow refuses, what its picture hangs on."""
    if not isinstance(content, bytes) and (problem := find_problem(content)):
        raise FileNotFoundError(problem)
    try:
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        return Image.open(file, formats=IMAGE_FORMATS)
    except Exception:
        data = content if isinstance(content, bytes) else Path(content).read_bytes()
        if data[1:4] != b"PNG":
            raise
    kept, start = [data[:8]], 8
    while start < len(data):
        stop = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if data[start + 4 : start + 8] in _PNG_CHUNKS:
            kept.append(data[start:stop])
        start = stop
    return Image.open(io.BytesIO(b"".join(kept)), formats=IMAGE_FORMATS)


def _to_eight_bit_rgb(image: Image.Image) -> Image.Image:
    if _is_deep(image):
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


def _is_deep(image: Image.Image) -> bool:
    return image.mode in {"F", "I"} or image.mode.startswith("I;16")


def digest_file(source: Source, *, in_part: bool = False) -> str:
    """Return the SHA-256 of a file, in part: its size, beginning, middle and end; or of pixels."""
    if isinstance(source, Picture):
        content = source.content
        if not isinstance(content, bytes):
            pixels = read_image(source)
            content = str(pixels.shape).encode() + pixels.tobytes()
        return hashlib.sha256(content).hexdigest()
    digest, size = hashlib.sha256(), Path(source).stat().st_size
    with Path(source).open("rb") as file:
        if in_part and size > 3 * _SAMPLE_BYTES:
            digest.update(str(size).encode())
            for start in (0, size // 2, size - _SAMPLE_BYTES):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
        else:
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
