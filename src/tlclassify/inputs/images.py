"""Where pixels come from: arrays or file paths, read in batches, uint8 RGB until the graph."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tlclassify._checks.images import check_images

_N_READERS = 4
_N_FILES_MEASURED = 64
_N_NAMES_SHOWN = 10
_WHITE_OF_16_BITS = 65535


@dataclass(frozen=True)
class ImageSource:
    """Images to be read batch by batch.

    Parameters
    ----------
    images : ndarray
        Pixels of shape (n, h, w), (n, h, w, 1) or (n, h, w, 3), or n file paths.
    pixel_range : {255, 1}
        The value of white in floating-point pixels; uint8 is always [0, 255].
    file_shape : (height, width) or None
        Pixels to which files are brought while they are read.
    rows : ndarray of int or None
        Which of the images; None: all. So a part of a large array is never copied whole.
    """

    images: NDArray[Any]
    pixel_range: int
    file_shape: tuple[int, int] | None = None
    rows: NDArray[np.intp] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images) if self.rows is None else len(self.rows)

    @property
    def is_files(self) -> bool:
        """Whether the images are file paths."""
        return self.images.dtype == object

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels of what `read` returns."""
        if not self.is_files:
            return self.images.shape[1], self.images.shape[2]
        if self.file_shape is None:
            raise ValueError("file_shape must be set before image files are read.")
        return self.file_shape

    def take(self, rows: NDArray[np.intp]) -> "ImageSource":
        """Return the images of the given rows."""
        if self.is_files:
            return replace(self, images=self.images[rows])
        return replace(self, rows=rows if self.rows is None else self.rows[rows])

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return images `start` to `stop` as uint8 RGB of shape (n, height, width, 3).

        Raises
        ------
        OSError
            If files cannot be read: those of this batch and all others after it are named.
        """
        if self.is_files:
            return self._read_files(start, stop)
        rows = slice(start, stop) if self.rows is None else self.rows[start:stop]
        return _to_rgb(self.images[rows], self.pixel_range)

    def digests(self) -> NDArray[np.uint8]:
        """Return the SHA-256 of each image, shape (n, 32): of its RGB pixels, or of its file."""
        if self.is_files:
            with ThreadPoolExecutor(_N_READERS) as pool:
                found = list(pool.map(_digest_file, self.images))
            _raise_unreadable(_failures(self.images, found))
            joined = b"".join(item for item in found if isinstance(item, bytes))
        else:
            joined = b"".join(
                hashlib.sha256(image).digest()
                for start in range(0, len(self), 256)
                for image in self.read(start, start + 256)
            )
        return np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32)

    def _read_files(self, start: int, stop: int) -> NDArray[np.uint8]:
        size = self.shape
        with ThreadPoolExecutor(_N_READERS) as pool:
            found: list[Any] = list(
                pool.map(partial(_read_file, size=size), self.images[start:stop])
            )
            if any(isinstance(item, Exception) for item in found):
                # One bad file ends the work, so the rest are looked at now to be named with it.
                found += pool.map(partial(_check_file, size=size), self.images[stop:])
        _raise_unreadable(_failures(self.images[start:], found))
        return np.stack([item for item in found if isinstance(item, np.ndarray)])


def read_batches(source: Any, batch_size: int) -> Iterator[Any]:
    """Yield what `source.read` returns, in order; the next batch is read while one is used."""
    if len(source) <= batch_size:
        # No thread, whose start takes as long as a small network does for an image.
        yield source.read(0, batch_size)
        return
    starts = range(0, len(source), batch_size)
    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(source.read, 0, batch_size)
        for start in starts:
            batch = upcoming.result()
            after = start + batch_size
            if after < len(source):
                upcoming = reader.submit(source.read, after, after + batch_size)
            yield batch


def open_images(X: Any, *, pixel_range: int | None = None, name: str = "X") -> ImageSource:
    """Check images and return where they are read from.

    Parameters
    ----------
    X : array-like
        Pixels of shape (n, h, w), (n, h, w, 1) or (n, h, w, 3), uint8 in [0, 255] or floating
        point in [0, 1] or [0, 255]; or n file paths.
    pixel_range : {255, 1}, optional
        What was decided for earlier images, and is held against these; None: decide now.
    name : str
        The parameter's name, for messages.

    Returns
    -------
    ImageSource

    Raises
    ------
    ValueError
        If the images are not as above, or lie in another range than the earlier ones.
    TypeError
        If the dtype is not as above.
    """
    images = check_images(X, name=name)
    if images.dtype.kind != "f":
        return ImageSource(images, pixel_range or 255)
    white = max(float(images[start : start + 1024].max()) for start in range(0, len(images), 1024))
    if pixel_range is None:
        return ImageSource(images, 1 if white <= 1 else 255)
    if pixel_range == 1 and white > 1:
        raise ValueError(
            f"{name} must lie in [0, 1] like the images seen in fit; received values up to "
            f"{white:g}. Pass {name} / 255, or uint8, whose range is always [0, 255]."
        )
    if pixel_range == 255 and 0 < white <= 1:
        raise ValueError(
            f"{name} must lie in [0, 255] like the images seen in fit; received values up to "
            f"{white:g}, which look scaled to [0, 1]. Pass {name} * 255."
        )
    return ImageSource(images, pixel_range)


def reopen_images(
    X: Any, image_shape: tuple[int, int, int], pixel_range: int, *, name: str = "X"
) -> ImageSource:
    """Check images against those seen in fit; files are brought to their shape.

    Raises
    ------
    ValueError
        If arrays have another height or width.
    """
    source = replace(open_images(X, pixel_range=pixel_range, name=name), file_shape=image_shape[:2])
    if source.shape != image_shape[:2]:
        height, width = image_shape[:2]
        raise ValueError(
            f"{name} must hold images of {height}x{width} pixels as in fit; received "
            f"{source.shape[0]}x{source.shape[1]}. Resize them, or pass file paths, which are "
            "resized while they are read."
        )
    return source


def longer_side(source: ImageSource) -> int:
    """Return the images' longer side in pixels; for files, the median over the first of them.

    Raises
    ------
    OSError
        If none of those files can be opened.
    """
    if not source.is_files:
        return max(source.shape)
    sides, bad = [], []
    for path in source.images[:_N_FILES_MEASURED]:
        try:
            with Image.open(path) as image:
                sides.append(max(image.size))
        except (OSError, Image.DecompressionBombError) as error:
            bad.append((path, error))
    if not sides:
        _raise_unreadable(bad)
    return int(np.median(sides))


def _to_rgb(images: NDArray[Any], white: int) -> NDArray[np.uint8]:
    if images.dtype != np.uint8:
        images = np.rint(images * (255 / white)).astype(np.uint8)
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[3] == 1:
        images = np.repeat(images, 3, axis=3)
    return np.ascontiguousarray(images)


def _read_file(path: str, size: tuple[int, int]) -> NDArray[np.uint8] | Exception:
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (max(size), max(size)))
            image = _eight_bit_rgb(ImageOps.exif_transpose(opened))
            return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return error


def _eight_bit_rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"F", "I"} or image.mode.startswith("I;16"):
        # Pillow would clip more than 8 bits to white.
        pixels = np.asarray(image)
        if image.mode == "F" or pixels.min() < 0 or pixels.max() > _WHITE_OF_16_BITS:
            raise ValueError("more than 16 bits a pixel; convert it to 8 bits")
        image = Image.fromarray((pixels // 257).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _check_file(path: str, size: tuple[int, int]) -> Exception | None:
    found = _read_file(path, size)
    return found if isinstance(found, Exception) else None


def _digest_file(path: str) -> bytes | Exception:
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError as error:
        return error


def _failures(paths: NDArray[Any], found: list[Any]) -> list[tuple[Any, Exception]]:
    pairs = zip(paths, found, strict=False)
    return [(path, item) for path, item in pairs if isinstance(item, Exception)]


def _raise_unreadable(bad: Sequence[tuple[Any, Exception]]) -> None:
    if not bad:
        return
    shown = "".join(f"\n  - {path}: {_reason(error)}" for path, error in bad[:_N_NAMES_SHOWN])
    more = f"\n  and {len(bad) - _N_NAMES_SHOWN} more" if len(bad) > _N_NAMES_SHOWN else ""
    raise OSError(
        f"{len(bad)} image file(s) cannot be read:{shown}{more}\n"
        "Repair them, or leave their paths and labels out."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
