"""What all grids of images share: one value an image, and the panels with their captions."""

import math
import textwrap
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps

from tlclassify._checks.images import pixel_limits
from tlclassify._checks.parameters import number_problem, raise_problems
from tlclassify.displays._drawing import panels

CAPTION_WIDTH = 25
_IMAGE_INCHES, _FILE_PIXELS = 1.7, 256


def column(values: ArrayLike, X: Any, name: str) -> NDArray[Any]:
    found = np.asarray(values)
    if found.shape != (len(X),):
        raise ValueError(
            f"{name} must have one value per image; received shape {found.shape} for {len(X)} "
            "images."
        )
    return found


def _pixels(image: Any, top: float) -> NDArray[Any]:
    if not isinstance(image, np.ndarray):
        with Image.open(image) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
        picture.thumbnail((_FILE_PIXELS, _FILE_PIXELS))
        return np.asarray(picture)
    color = np.broadcast_to(image.reshape(*image.shape[:2], -1), (*image.shape[:2], 3))
    return color if color.dtype == np.uint8 else color.astype(float) / top


def draw_grid(
    display: str, ax: Any, images: NDArray[Any], captions: list[str], n_columns: int
) -> NDArray[Any]:
    raise_problems([number_problem("n_columns", n_columns, integer=True, low=1)])
    top = 255 if images.dtype.kind != "f" or pixel_limits(images)[1] > 1 else 1
    pictures = [_pixels(image, top) for image in images]
    texts = [
        "\n".join(textwrap.fill(line, CAPTION_WIDTH) for line in caption.split("\n"))
        for caption in captions
    ]
    across = min(n_columns, len(images))
    down = math.ceil(len(images) / across)
    tallest = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    height = (
        _IMAGE_INCHES * min(tallest, 3) + 0.15 * max(text.count("\n") + 1 for text in texts) + 0.15
    )
    size = (across * (_IMAGE_INCHES + 0.15), down * height)
    axes = panels(ax, n_panels=len(images), shape=(down, across), figsize=size, display=display)
    for panel, picture, text in zip(axes, pictures, texts, strict=True):
        panel.imshow(picture)
        panel.set(xticks=[], yticks=[])
        panel.set_title(text, fontsize=8)
    return axes
