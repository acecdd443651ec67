"""Images: arrays checked and files read, or an error that says what to do."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

# Pillow decodes these by itself; for some others it would start outside programs.
IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
IMAGE_SUFFIXES = (
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
)  # fmt: skip

_IMAGES_CHECKED_AT_ONCE = 1024
_N_READERS = 4
_N_FILES_SHOWN = 10

_T = TypeVar("_T")


def read_image(
    path: str | PathLike[str], *, size: tuple[int, int] | None = None, max_side: int | None = None
) -> NDArray[np.uint8]:
    """Return a file as uint8 RGB (h, w, 3), turned as its EXIF says, what is transparent on white.

    It is brought to `size` (height, width), or shrunk in proportion until no side is longer than
    `max_side`. An OSError names the path and the reason why it cannot be read.
    """
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
    """Return a file's longer side in pixels, which its first bytes say; OSError as `read_image`."""
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


def raise_unreadable(errors: Sequence[OSError], *, checked: str = "") -> None:
    """Raise one OSError for all of them, if any; `checked` says what was looked at."""
    if not errors:
        return
    shown = "".join(f"\n  - {error}" for error in errors[:_N_FILES_SHOWN])
    more = len(errors) - _N_FILES_SHOWN
    rest = f"\n  and {more} more" if more > 0 else ""
    raise OSError(
        f"{len(errors)} image file(s) cannot be read:{shown}{rest}\n{checked}"
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


def check_images(X: Any, *, name: str = "X") -> NDArray[Any]:
    """Return images as an array (n, h, w) or (n, h, w, c), or file paths as an object array.

    Pixels are uint8 in [0, 255] or floating point in [0, 1] or [0, 255]; they are neither copied
    nor changed.
    """
    return check_pixels(X, name=name)[0]


def check_pixels(X: Any, *, name: str = "X") -> tuple[NDArray[Any], float]:
    """Return what `check_images` returns, and the largest value; 255 of files and uint8."""
    images = _as_array(X, name)
    if len(images) == 0:
        raise ValueError(f"{name} must hold at least one image; received none.")
    if images.dtype == object:
        return images, 255
    # Three grey columns are no images, but a single one in colour.
    if images.ndim not in {3, 4} or (images.shape[-1] in {1, 3}) != (images.ndim == 4):
        raise ValueError(
            f"{name} must have shape (n, height, width), (n, height, width, 1) or "
            f"(n, height, width, 3); received {images.shape}. {_next_step(images, name)}"
        )
    if 0 in images.shape:
        raise ValueError(f"{name} must hold images of at least 1x1; received {images.shape}.")
    if images.dtype == np.uint8:
        return images, 255
    if images.dtype.kind != "f":
        white, scaled = (65535, f"({name} // 257)") if images.dtype == np.uint16 else (255, name)
        raise TypeError(
            f"{name} must be uint8, or floating point in [0, 255] or [0, 1]; received "
            f"{images.dtype}. If white is {white}, pass {scaled}.astype('uint8')."
        )
    return images, _largest_value(images, name)


def _as_array(X: Any, name: str) -> NDArray[Any]:
    # Among strings NumPy would turn a number into one, and pad all to the longest.
    first = X[0] if isinstance(X, list | tuple) and X else None
    try:
        images = np.asarray(X, dtype=object if isinstance(first, str | PathLike) else None)
    except ValueError:
        raise ValueError(
            f"{name} must hold images of one shape; received images of different shapes. "
            "Resize them first, or pass file paths: files are resized while they are read."
        ) from None
    if images.ndim == 0:
        step = f" Pass [{name}] for one image." if isinstance(X, str | PathLike) else ""
        raise ValueError(
            f"{name} must be an array of images or a list of file paths; received a single "
            f"{type(X).__name__}.{step}"
        )
    if images.dtype.kind not in "OSUT":
        return images
    if images.ndim == 1 and all(isinstance(item, str | PathLike) for item in images):
        return images.astype(object)
    arrays = images.ndim == 1 and all(np.ndim(item) > 0 for item in images)
    step = f" Make one array of the arrays with numpy.stack({name})." if arrays else ""
    raise TypeError(
        f"{name} must be an array of pixels or a list of file paths; received dtype "
        f"{images.dtype} and shape {images.shape}.{step}"
    )


def _next_step(images: NDArray[Any], name: str) -> str:
    if images.ndim == 4 and images.shape[3] == 4:
        return f"RGBA has no single meaning here: drop the alpha channel with {name}[..., :3]."
    if images.ndim == 4 and images.shape[1] in {1, 3}:
        return f"Put channels last with {name}.transpose(0, 2, 3, 1)."
    if images.ndim == 2:
        return f"Give flattened images their shape back with {name}.reshape(n, height, width)."
    return f"For a single image pass {name}[None]."


def _largest_value(images: NDArray[Any], name: str) -> float:
    largest = 0.0
    for start in range(0, len(images), _IMAGES_CHECKED_AT_ONCE):
        part = images[start : start + _IMAGES_CHECKED_AT_ONCE]
        low, high = float(part.min()), float(part.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(
                f"{name} must be finite; received NaN or infinity among images {start} to "
                f"{start + len(part) - 1}. Drop or repair them."
            )
        if low < 0 or high > 255:
            raise ValueError(
                f"{name} must lie in [0, 255] or [0, 1]; received values from {low:g} to "
                f"{high:g}. Pass raw pixels: scaling for the backbone happens inside the model."
            )
        largest = max(largest, high)
    return largest
