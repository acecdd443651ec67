"""Views of images inside a graph, and a head that looks its features up."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify.inputs.augmentation import N_VIEW_NUMBERS
from tlclassify.networks.cuts import SCALING
from tlclassify.networks.graphs import inputs_of


def build_view(images: keras.KerasTensor, numbers: keras.KerasTensor) -> keras.KerasTensor:
    """Return images changed as their views say.

    Parameters
    ----------
    images : keras.KerasTensor of shape (None, height, width, 3), float32 in [0, 255]
    numbers : keras.KerasTensor of shape (None, 10), float32
        Eight of a projective transformation from the view's pixels to the image's, as
        ``keras.ops.image.affine_transform`` takes them; what is added to each pixel; and what
        its deviation from its channel's mean is multiplied by.

    Returns
    -------
    keras.KerasTensor
        As `images`, but not held to [0, 255].
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
    """Return the way to `output` with a view of each image applied after resizing.

    Parameters
    ----------
    network : keras.Model
        As `build_backbone` makes it, whatever was added on top.
    output : keras.KerasTensor
        A tensor of the network's above its scaling.

    Returns
    -------
    keras.Model
        From images and the numbers of their views; layers are shared.
    """
    (resized,) = inputs_of(network.get_layer(SCALING))
    numbers = keras.Input((N_VIEW_NUMBERS,), name="view")
    above = keras.Model(resized, output, name=network.name)
    return keras.Model([network.input, numbers], above(build_view(resized, numbers)))


def add_table(top: keras.Model, outputs: Sequence[NDArray[np.float32]]) -> keras.Model:
    """Return a head that looks its features up: from row numbers to class probabilities.

    A batch of row numbers costs nothing to hand over, a batch of features takes a copy that is
    slower than training a linear head on it.

    Parameters
    ----------
    top : keras.Model
        From features of shape (None, n_features); its layers are shared.
    outputs : sequence of ndarray of shape (n, n_features), float32
        The table, part by part.
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
