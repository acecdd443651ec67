"""Where pixels come from: arrays or file paths, read in batches, uint8 RGB until the graph."""

import hashlib
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks import files
from tlclassify._checks.images import (
    STRETCH,
    STRETCHED,
    Framing,
    as_uint8,
    check_images,
    has_shades,
)
from tlclassify._checks.parameters import listed

_N_FILES_MEASURED = 64
_KEPT, _FEW = 0.5, 0.1  # it is said where more than a few pictures keep less than that
_N_BEGINNINGS_READ = 10_000
_DARK = 64  # what white of 14 bits is where 16 are read


@dataclass(frozen=True)
class ImageSource:
    """Images to be read batch by batch: pixels or pictures, as `check_images` returns them."""

    images: NDArray[Any]
    pixel_range: int  # the value of white in floating-point pixels, 255 or 1
    file_shape: tuple[int, int] = (0, 0)  # height and width to which files are brought
    framing: Framing = STRETCHED  # and how
    rows: NDArray[np.intp] | None = None  # so that a part of a large array is never copied whole
    said: list[str] = field(default_factory=list, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images) if self.rows is None else len(self.rows)

    @property
    def is_files(self) -> bool:
        """Whether the images are paths or pictures, each of its own shape."""
        return self.images.dtype == object

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels of what `read` returns."""
        return self.file_shape if self.is_files else self.images.shape[1:3]

    def take(self, rows: NDArray[np.intp]) -> "ImageSource":
        """Return the images of the given rows."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return images `start` to `stop` as uint8 RGB of shape (n, height, width, 3)."""
        images = self._pick(start, stop)
        if not self.is_files:
            images = as_uint8(images if images.ndim == 4 else images[..., None], self.pixel_range)
            return np.ascontiguousarray(np.broadcast_to(images, (*images.shape[:3], 3)))
        read = partial(files.read_image, size=self.shape, framing=self.framing)
        pixels, errors = files.read_files(read, images)
        if errors:
            # One bad file ends the work; what a glance at the next ones tells is told with it.
            others = self._pick(stop, stop + _N_BEGINNINGS_READ)
            files.raise_unreadable(errors + files.read_files(files.measure_image, others)[1])
        self._warn_of_unused_bits(images, pixels)
        return np.stack(pixels)

    def _warn_of_unused_bits(self, images: NDArray[Any], pixels: list[NDArray[np.uint8]]) -> None:
        """Name, once, files that are black because they use few of their bits."""
        dark = [row for row, image in enumerate(pixels) if image.max() < _DARK]
        values = {} if self.said else {row: files.largest_value(images[row]) for row in dark}
        found = {str(images[row]): value for row, value in values.items() if value}
        if found:
            self.said.append("unused bits")
            largest = max(found.values())
            warnings.warn(
                f"{len(found)} of {len(images)} images have 16 bits a pixel, but no value above "
                f"{largest}, so that they are nearly black: {listed(found)}. Where less than 65535 "
                "is white, pass pixels in [0, 1], as by numpy.stack([PIL.Image.open(path) for path "
                f"in X]) / {2 ** largest.bit_length() - 1}.",
                stacklevel=2,
            )

    def _pick(self, start: int, stop: int) -> NDArray[Any]:
        return self.images[slice(start, stop) if self.rows is None else self.rows[start:stop]]

    def digests(self, *, in_part: bool = False) -> NDArray[np.uint8]:
        """Return a SHA-256 of each image, shape (n, 32): of its RGB pixels, or of its file."""
        if self.is_files:
            digest = partial(files.digest_file, in_part=in_part)
            found, errors = files.read_files(digest, self._pick(0, len(self)))
            files.raise_unreadable(errors)
            if self.framing.aspect != STRETCH:
                # Of one file there are several pictures.
                framed = (f"{digest} {self.framing}".encode() for digest in found)
                found = [hashlib.sha256(text).hexdigest() for text in framed]
            joined = bytes.fromhex("".join(found))
        else:
            parts = (self.read(start, start + 256) for start in range(0, len(self), 256))
            joined = b"".join(hashlib.sha256(image).digest() for part in parts for image in part)
        return np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32)

    def marks(self) -> NDArray[np.uint64]:
        """Return 64 bits of each image, shape (n,), which are the same where its content is."""
        # A large file is not read a second time for them.
        marks: NDArray[np.uint64] = self.digests(in_part=True)[:, :8].copy().view("<u8")[:, 0]
        return marks


def read_batches(source: Any, batch_size: int) -> Iterator[Any]:
    """Yield what `source.read` returns, in order; the next batch is read while one is used."""
    if len(source) <= batch_size:
        # No thread, whose start takes as long as a small network does for an image.
        yield source.read(0, batch_size)
        return
    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(source.read, 0, batch_size)
        for start in range(batch_size, len(source), batch_size):
            batch = upcoming.result()
            upcoming = reader.submit(source.read, start, start + batch_size)
            yield batch
        yield upcoming.result()


def open_images(X: Any, *, pixel_range: int | None = None, name: str = "X") -> ImageSource:
    """Check images and return where they are read from, in the range of earlier ones if given."""
    images, white = check_images(X, name=name)
    if images.ndim == 3 and len(images) == 3 < min(images.shape[1:]):
        turned = f"{name}.{'permute' if hasattr(X, 'permute') else 'transpose'}(1, 2, 0)[None]"
        warnings.warn(
            f"{name} of shape {images.shape} is read as three grayscale images. If it is one image "
            f"with channels first, pass {turned}; if not, {name}[..., None] says so.",
            stacklevel=3,
        )
    if images.dtype.kind != "f" or pixel_range in {None, white}:
        return ImageSource(images, pixel_range or white)
    largest = float(images.max())
    if pixel_range == 1:
        raise ValueError(
            f"{name} must lie in [0, 1] like the images seen in fit; received values up to "
            f"{largest:.9g}. Pass {name} / 255, or uint8, whose range is always [0, 255]."
        )
    if largest > 0 and (len(images) > 1 or has_shades(images[0])):
        # One image may be as dark as that.
        warnings.warn(
            f"{name} lies in [0, 255] like the images seen in fit, but no value is above "
            f"{largest:.9g}: all {len(images)} images are nearly black. If they are scaled to "
            f"[0, 1], pass {name} * 255.",
            stacklevel=2,
        )
    return ImageSource(images, 255)


def reopen_images(
    X: Any,
    image_shape: tuple[int, int, int],
    pixel_range: int,
    framing: Framing,
    *,
    name: str = "X",
) -> ImageSource:
    """Check images against those seen in fit; files are brought to their shape."""
    source = open_images(X, pixel_range=pixel_range, name=name)
    source = replace(source, file_shape=image_shape[:2], framing=framing)
    if source.shape != image_shape[:2]:
        height, width = image_shape[:2]
        raise ValueError(
            f"{name} must hold images of {height}x{width} pixels as in fit; received "
            f"{source.shape[0]}x{source.shape[1]}. Resize them, or pass file paths, which are "
            "resized while they are read."
        )
    return source


def warn_of_known(source: ImageSource, marks: NDArray[np.uint64], *, stacklevel: int = 3) -> None:
    """Warn of images to judge by that are among those trained on, which had these marks."""
    rows = np.flatnonzero(np.isin(source.marks(), marks))
    if len(rows):
        warnings.warn(
            f"{len(rows)} of {len(source)} images to judge by were trained on, the same by "
            f"content: rows {listed(rows.tolist())}. A classifier knows such images better than "
            "new ones: leave them out. find_duplicates(X_train, X_test) finds them, and those that "
            "are nearly the same.",
            stacklevel=stacklevel,
        )


def measure_side(source: ImageSource) -> int:
    """Return the side in pixels of what is seen of images; of files, the median over some."""
    shapes, errors = [source.shape], list[OSError]()
    if source.is_files:
        # Files of a folder come class by class, so that the first would speak for one class.
        some = source.images[:: -(-len(source) // _N_FILES_MEASURED)]
        shapes, errors = files.read_files(files.measure_image, some)
    if not shapes:
        files.raise_unreadable(errors)
    framing = source.framing
    if np.mean(framing.kept(shapes) < _KEPT) > _FEW:
        # The same words for every fold and grid point, so that they are shown once.
        warnings.warn(
            f"more than a tenth of X are so long that aspect={framing.aspect!r} loses half of each "
            "or more: of its ends ('crop'), of the detail ('pad', 'stretch'), or some of both "
            "('soft'). Compare them, or cut the pictures to what matters.",
            stacklevel=2,
        )
    return int(np.median(framing.side(shapes)))


def make_probe(image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return slanted stripes: mirrored, turned, scaled or in BGR they are another image."""
    # In uint8 throughout, where sums are modulo 256: integers of 64 bits would take eight images.
    rows, columns, channels = (
        (step * np.arange(length)).astype(np.uint8)
        for step, length in zip((29, 13, 85), image_shape, strict=True)
    )
    return (rows[:, None, None] + columns[:, None] + channels)[None]
