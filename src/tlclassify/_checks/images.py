"""Images as users bring them: pixels, checked; pictures, read later; and how these are framed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from tlclassify._checks.parameters import is_empty, listed, take_column, write_array

STRETCH = "stretch"
ASPECTS = (STRETCH, "pad", "crop", "soft")
# How far below black and above white, as a share of white, cubic resizing may bring a pixel.
_OVERSHOOT = 0.2
_LONGEST_PATH = 4096
_WHITES = (255, 1023, 4095, 16383, 65535, 2**32 - 1)


@dataclass(frozen=True, eq=False)
class Picture:
    """A row of a column that holds no path: encoded bytes or a PIL image, fetched when read."""

    name: str
    column: Any = field(repr=False)
    row: int

    def __str__(self) -> str:
        return f"{self.name}[{self.row}]"

    @property
    def content(self) -> str | PathLike[str] | bytes | Image.Image:
        """What stands in the row."""
        content = self.column[self.row]
        if isinstance(content, Mapping):  # as Hugging Face keeps an image that is not decoded
            content = content.get("bytes") or content.get("path")
        if isinstance(content, bytearray | memoryview):  # as databases give bytes
            content = bytes(content)
        if not isinstance(content, str | PathLike | bytes | Image.Image):
            raise TypeError(f"no picture; received a {type(content).__name__}")
        return content


_KINDS = (str, PathLike, bytes, bytearray, Mapping, Image.Image, Picture)


def _is_picture(item: Any) -> bool:
    """Whether an item is a path or a picture, where others are pixels or nothing of use."""
    return isinstance(item, _KINDS) or (isinstance(item, memoryview) and item.ndim == 1)


def check_images(X: Any, *, name: str = "X") -> tuple[NDArray[Any], int]:
    """Return pixels as they came and the value of white; or paths and pictures, as objects."""
    images = _as_array(X, name)
    if 0 in images.shape:
        received = images.shape if len(images) else "none"
        raise ValueError(
            f"{name} must hold at least one image, of at least 1x1; received {received}."
        )
    if images.dtype == object:
        return images, 255
    shape = images.shape
    # Three grey columns are no images, but a single one in colour; and four, one with alpha.
    is_colour = shape[-1] in {1, 3} or (images.ndim == 3 and shape[-1] == 4 != shape[1])
    if images.ndim not in {3, 4} or is_colour != (images.ndim == 4):
        raise ValueError(
            f"{name} must have shape (n, height, width), (n, height, width, 1) or "
            f"(n, height, width, 3); received {shape}. {_next_step(shape, X, name)}"
        )
    if images.dtype == np.uint8:
        return images, 255
    if images.dtype.kind != "f":
        array = write_array(X, name)
        step = f"Pass {array}.astype('float32')."
        if images.dtype.kind in "iu":
            low, high = int(images.min()), int(images.max())
            white = next(white for white in _WHITES if high <= white)
            way = f"{array}.astype('uint8')" if white == 255 else f"{array} / {white}"
            step = f"Its values go from {low} to {high}: if white is {white}, pass {way}."
        raise TypeError(
            f"{name} must be uint8, or floating point in [0, 255] or [0, 1]; received "
            f"{images.dtype}. {step}"
        )
    return images, _find_white(images, name)


def as_uint8(images: NDArray[Any], white: int) -> NDArray[Any]:
    """Return floating-point pixels as uint8, and anything else as it is."""
    if images.dtype.kind != "f":
        return images
    return np.rint(images * (255 / white)).clip(0, 255).astype(np.uint8)


def has_shades(image: NDArray[Any]) -> bool:
    """Whether an image that seems black is one in [0, 1]: it has values between its extremes."""
    return bool(np.ptp(image) > 0 and (image != np.rint(image)).any())


def _find_white(images: NDArray[Any], name: str) -> int:
    """Return the value of white, which each image decides by itself, and all alike."""
    inside = tuple(range(1, images.ndim))
    low, high = images.min(axis=inside).astype(float), images.max(axis=inside).astype(float)
    unit = high <= 1 + _OVERSHOOT
    white = 255 if (high > 1 + _OVERSHOOT).any() else 1
    # Below black it depends on the brightest: what is centred on 0 was scaled for a network.
    fits = (low >= -_OVERSHOOT * np.maximum(high, 1)) & (high <= white * (1 + _OVERSHOOT))
    bad = np.flatnonzero(~fits)
    if len(bad):
        raise ValueError(
            f"{name} must be finite and lie in [0, 255] or [0, 1]; received values from "
            f"{low[bad].min():.9g} to {high[bad].max():.9g} in {len(bad)} of {len(images)} images, "
            f"rows {listed(bad.tolist())}. Pass raw pixels: scaling for the backbone happens "
            "inside the model."
        )
    dark = np.flatnonzero(unit).tolist() if white == 255 else []
    mixed = [row for row in dark if has_shades(images[row])]
    if mixed:
        others = np.flatnonzero(~unit).tolist()
        raise ValueError(
            f"{name} must hold images of one range; received {len(mixed)} in [0, 1], rows "
            f"{listed(mixed)}, beside {len(others)} with values up to {high.max():.9g}, rows "
            f"{listed(others)}. Multiply the former by 255, or round them if they are black."
        )
    return white


def _as_array(X: Any, name: str) -> NDArray[Any]:
    """Return pixels, or paths and pictures as objects; say what to do with anything else."""
    X = take_column(X, name)
    if hasattr(X, "detach"):  # a tensor of PyTorch, wherever it lies
        X = X.detach().cpu()
    is_list = isinstance(X, list | tuple)
    is_lazy = hasattr(X, "__getitem__") and hasattr(X, "__len__") and not hasattr(X, "__array__")
    # Sparse matrices have two dimensions, and no length.
    if is_list or (is_lazy and getattr(X, "ndim", 1) == 1 and not isinstance(X, _KINDS)):
        first = X[0] if len(X) else None
        if isinstance(first, tuple) and len(first) == 2 and np.ndim(first[1]) == 0:
            raise TypeError(
                f"{name} must hold images alone; received pairs. Pass [image for image, _ in "
                f"{name}] and [label for _, label in {name}]."
            )
        if not is_list and isinstance(first, (bytes, Mapping, Image.Image)):
            rows = (Picture(name, X, row) for row in range(len(X)))
            return np.fromiter(rows, dtype=object, count=len(X))
        X = X if is_list else list(X)
        # NumPy would turn a number among strings into one, and pad all to the longest.
        if any(map(_is_picture, X)):
            return _check_column(np.fromiter(X, dtype=object, count=len(X)), name)
    try:
        # NumPy would take a PIL image apart.
        images = np.asarray(None if isinstance(X, Image.Image) else X)
    except ValueError:
        shapes = sorted({np.shape(image) for image in X})
        raise ValueError(
            f"{name} must hold images of one shape; received images of different shapes: "
            f"{listed(shapes)}. Resize them; or pass file paths, or PIL images as by "
            f"[PIL.Image.fromarray(image) for image in {name}], which are resized while they are "
            "read."
        ) from None
    if images.ndim == 0:
        raise TypeError(
            f"{name} must be an array of images or a list of file paths; received a single "
            f"{type(X).__name__}.{_way_out(X, name)}"
        )
    if images.dtype.kind not in "OSUT":
        return images
    if images.ndim != 1:
        raise TypeError(
            f"{name} must be an array of pixels or a list of file paths; received dtype "
            f"{images.dtype} and shape {images.shape}."
        )
    return _check_column(images.astype(object), name)


def _check_column(column: NDArray[Any], name: str) -> NDArray[Any]:
    """Return paths as they are and other pictures by their rows."""
    others = {
        row: item
        for row, item in enumerate(column)
        if not _is_picture(item)
        or (isinstance(item, str) and is_empty(item))
        or (isinstance(item, Mapping) and not {"bytes", "path"} & item.keys())
    }
    missing = [row for row, item in others.items() if is_empty(item)]
    if missing:
        raise ValueError(
            f"{name} must not hold missing images; received {len(missing)} among {len(column)}, "
            f"rows {listed(missing)}. Drop those rows, and their labels too."
        )
    if others:
        kinds = ", ".join(sorted({type(item).__name__ for item in others.values()}))
        arrays = all(np.ndim(item) > 0 for item in column)
        step = f" Make one array of the arrays with numpy.stack({name})." if arrays else ""
        if all(hasattr(item, "read") for item in others.values()):  # open files, uploads
            step = f" Pass [file.read() for file in {name}]."
        raise TypeError(
            f"{name} must be an array of pixels, or a list of file paths, PIL images or encoded "
            f"bytes; received {kinds} in {len(others)} of {len(column)} rows: "
            f"{listed(others)}.{step}"
        )
    named: NDArray[Any] = column.copy()
    for row, item in enumerate(column):
        # Image files have zeros in their beginnings, which no path has.
        if isinstance(item, bytes) and len(item) < _LONGEST_PATH and b"\0" not in item:
            named[row] = os.fsdecode(item)
        elif not isinstance(item, str | PathLike | Picture):
            named[row] = Picture(name, column, row)
    return named


def _way_out(X: Any, name: str) -> str:
    """Return the line that turns what other libraries hold images in into arrays."""
    if isinstance(X, str | PathLike | bytes | Image.Image):
        return f" Pass [{name}] for one image."
    if hasattr(X, "as_numpy_iterator"):  # tf.data.Dataset
        spec, rows = X.element_spec, f"*{name}.as_numpy_iterator()"
        parts = spec if isinstance(spec, tuple) else [spec]
        if isinstance(spec, Mapping):  # the images have the most axes
            keys = sorted(spec, key=lambda key: -(spec[key].shape.rank or 0))[:2]
            parts, cells = [spec[key] for key in keys], ", ".join(f"each[{key!r}]" for key in keys)
            rows = f"*(({cells}) for each in {rows[1:]})"
        is_batch = getattr(getattr(parts[0], "shape", None), "rank", None) != 3
        join = "concatenate" if is_batch else "stack"
        both, one = (
            f"{name}, y = map(numpy.{join}, zip({rows}))",
            f"{name} = numpy.{join}([{rows}])",
        )
        return f" Take the arrays with {both if len(parts) > 1 else one}."
    if hasattr(X, "batch_sampler"):  # PyTorch's DataLoader
        return (
            f" Take the arrays with {name}, y = map(numpy.concatenate, zip(*{name})); "
            f"{name} = {name}.transpose(0, 2, 3, 1)."
        )
    if hasattr(X, "class_names"):  # what tlclassify.datasets returns
        return f" Pass {name}.X, and its {name}.y as y."
    if hasattr(X, "__iter__") and not isinstance(X, Mapping | np.ndarray):
        return f" It can only be read from its beginning: pass list({name})."
    return ""


def _next_step(shape: tuple[int, ...], X: Any, name: str) -> str:
    array = write_array(X, name)
    if shape[-1] == 4 and len(shape) in {3, 4}:
        colours = f"{array}[{'None, ' if len(shape) == 3 else ''}..., :3]"
        return f"RGBA has no single meaning here: drop the alpha channel with {colours}."
    if len(shape) == 4 and shape[1] in {1, 3}:
        # PyTorch has its own word.
        turn = f"{name}.permute" if hasattr(X, "permute") else f"{array}.transpose"
        return f"Put channels last with {turn}(0, 2, 3, 1)."
    if len(shape) == 2:
        return (
            f"For a single grayscale image pass {array}[None]; give flattened images their shape "
            f"back with {array}.reshape(n, height, width)."
        )
    return f"For a single image pass {array}[None]."


class Span(NamedTuple):
    """Along one axis: the pixels of a picture that are seen, and how many they become."""

    start: int
    n_seen: int
    n_covered: int


@dataclass(frozen=True)
class Framing:
    """Which part of a picture is seen, and the colour around it, RGB in [0, 255]."""

    aspect: str = STRETCH
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def side(self, shapes: ArrayLike) -> NDArray[np.float64]:
        """Return the side, in a picture's pixels, of the square seen of shapes (..., 2)."""
        shorter, longer = np.min(shapes, axis=-1), np.max(shapes, axis=-1)
        if self.aspect == "soft":
            return np.asarray(np.sqrt(shorter * longer))
        return np.asarray(shorter if self.aspect == "crop" else longer)

    def kept(self, shapes: ArrayLike) -> NDArray[np.float64]:
        """Return the share of a square or of a picture, whichever is less, that is made use of."""
        side = self.side(shapes)
        shorter, longer = np.min(shapes, axis=-1), np.max(shapes, axis=-1)
        return np.asarray(np.minimum(shorter / side, side / longer))

    def zooms(self, shape: Sequence[int], canvas: Sequence[int]) -> NDArray[np.float64]:
        """Return by what a picture's height and width are multiplied on a canvas."""
        ratios = np.divide(canvas, shape)
        if self.aspect == STRETCH:
            return ratios
        if self.aspect == "pad":
            return np.full(2, ratios.min())
        return np.full(2, self.side(canvas) / self.side(shape))

    def place(self, shape: Sequence[int], canvas: Sequence[int]) -> list[Span]:
        """Return what is seen of rows and of columns; it comes to the middle of the canvas."""
        spans = []
        for n, room, zoom in zip(shape, canvas, self.zooms(shape, canvas), strict=True):
            n_seen = min(n, max(1, round(room / zoom)))
            spans.append(Span((n - n_seen) // 2, n_seen, min(room, max(1, round(n * zoom)))))
        return spans

    def extent(self, shape: Sequence[int], canvas: Sequence[int]) -> NDArray[np.float64]:
        """Return a picture's height and width, when it has come by a canvas, in squares seen."""
        on_canvas = np.multiply(shape, self.zooms(shape, canvas))
        return np.multiply(on_canvas, self.zooms(canvas, (1, 1)))


STRETCHED = Framing()
