"""What images go through inside a graph: resizing, scaling, views; and a table of features."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify.inputs.augmentation import N_VIEW_NUMBERS
from tlclassify.networks.graphs import SCALING, inputs_of
from tlclassify.networks.rows import Scaling

# Products with fewer columns are too small to be fast, with more they multiply by many zeros.
_BAND_PIXELS = 64


def build_resizing(images: keras.KerasTensor, size: int) -> keras.KerasTensor:
    """Return images of one size, uint8, as float32 of `size` x `size`: as Keras's layer does it.

    Resizing is another function in every runtime, and a slow one in some. From a fixed size to a
    fixed size it is a product with a matrix for the columns and one for the rows. Rows are taken
    as they lie in memory, columns have to be transposed: so the former begin where that leaves
    less of them, and end where there are more.
    """
    height, width = images.shape[1:3]
    # Enlarged bicubically, CIFAR-10 is classified 0.8 points better than bilinearly; when
    # shrinking, pixels would be skipped without antialiasing.
    antialias = max(height, width) > size
    steps = [_resize_columns, _resize_rows] if height < size else [_resize_rows, _resize_columns]
    x = images
    for step in steps:
        x = step(x, size, antialias=antialias)
    return keras.ops.cast(x, "float32")


def _resize_rows(x: keras.KerasTensor, size: int, *, antialias: bool) -> keras.KerasTensor:
    height, width = x.shape[1:3]
    if height == size:
        return x
    x = keras.ops.reshape(x, (-1, height, width * 3))
    parts = [
        # Cast where it is read: the whole in float32 would be four times as much to write.
        keras.ops.matmul(matrix.T.copy(), keras.ops.cast(x[:, first:last], "float32"))
        for first, last, matrix in _resizing_bands(height, size, antialias=antialias)
    ]
    x = parts[0] if len(parts) == 1 else keras.ops.concatenate(parts, axis=1)
    return keras.ops.reshape(x, (-1, size, width, 3))


def _resize_columns(x: keras.KerasTensor, size: int, *, antialias: bool) -> keras.KerasTensor:
    height, width = x.shape[1:3]
    if width == size:
        return x
    x = keras.ops.transpose(keras.ops.cast(x, "float32"), (0, 1, 3, 2))
    # In two dimensions a runtime hands the product to its matrix kernel as it is.
    x = keras.ops.reshape(x, (-1, width))
    parts = [
        keras.ops.matmul(x[:, first:last], matrix)
        for first, last, matrix in _resizing_bands(width, size, antialias=antialias)
    ]
    x = parts[0] if len(parts) == 1 else keras.ops.concatenate(parts, axis=1)
    return keras.ops.transpose(keras.ops.reshape(x, (-1, height, 3, size)), (0, 1, 3, 2))


def _resizing_bands(
    n: int, n_resized: int, *, antialias: bool
) -> list[tuple[int, int, NDArray[np.float32]]]:
    """Return what a row of pixels is multiplied by when it is resized, read off Keras's layer.

    In bands of columns: each with the first pixel that it takes, the last and one, and its part
    of the matrix. A pixel depends on a few of its neighbours, so most of the matrix is zero.
    """
    layer = keras.layers.Resizing(
        1, n_resized, interpolation="bicubic", antialias=antialias, dtype="float32"
    )
    # As images of one row: each pixel is 1 in one of them, and 0 in the others.
    images = np.eye(n, dtype=np.float32)[:, None, :, None]
    matrix = np.asarray(keras.ops.convert_to_numpy(layer(images)))[:, 0, :, 0]
    bands = []
    for part in np.array_split(matrix, min(max(1, n // _BAND_PIXELS), n_resized), axis=1):
        used = np.flatnonzero(part.any(axis=1))
        first, last = int(used[0]), int(used[-1]) + 1
        bands.append((first, last, part[first:last].copy()))
    return bands


def build_scaling(images: keras.KerasTensor, scaling: Scaling) -> keras.KerasTensor:
    """Return images in [0, 255] as a set of weights was trained on them."""
    x = keras.layers.Rescaling(scaling.scale, scaling.offset, dtype="float32", name=SCALING)(images)
    return keras.ops.take(x, [2, 1, 0], axis=-1) if scaling.bgr else x


def build_view(images: keras.KerasTensor, numbers: keras.KerasTensor) -> keras.KerasTensor:
    """Return images, float32 in [0, 255], changed as their views say; not held to that range.

    Of a view's ten numbers eight are a projective transformation from its pixels to the image's,
    as ``keras.ops.image.affine_transform`` takes them; then what is added to each pixel, and what
    its deviation from its channel's mean is multiplied by.
    """
    x = keras.ops.image.affine_transform(
        images, numbers[:, :8], interpolation="bilinear", fill_mode="reflect"
    )
    added = keras.ops.reshape(numbers[:, 8], (-1, 1, 1, 1))
    contrast = keras.ops.reshape(numbers[:, 9], (-1, 1, 1, 1))
    mean = keras.ops.mean(x, axis=(1, 2), keepdims=True)
    # Written so that view 0 is the image itself to the last bit.
    return x + (contrast - 1) * (x - mean) + added


def add_views(network: keras.Model, output: keras.KerasTensor) -> keras.Model:
    """Return the way from images and the numbers of their views to a tensor above the scaling.

    The view is taken after resizing; layers are shared with the network.
    """
    (resized,) = inputs_of(network.get_layer(SCALING))
    numbers = keras.Input((N_VIEW_NUMBERS,), name="view")
    above = keras.Model(resized, output, name=network.name)
    return keras.Model([network.input, numbers], above(build_view(resized, numbers)))


def add_table(top: keras.Model, outputs: Sequence[NDArray[np.float32]]) -> keras.Model:
    """Return a head that looks its features up: from row numbers to class probabilities.

    A batch of row numbers costs nothing to hand over, a batch of features takes a copy that is
    slower than training a linear head on it. The head's layers are shared.
    """
    table = outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
    rows = keras.Input((), dtype="int32", name="rows")
    lookup = keras.layers.Embedding(
        *table.shape,
        embeddings_initializer="zeros",
        weights=[table],
        trainable=False,
        dtype="float32",
        name="stored_features",
    )
    return keras.Model(rows, top(lookup(rows)))
