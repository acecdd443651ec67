"""Images in their views: as a network is run over them, and as an epoch draws from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify.augmentation import build_view
from tlclassify.cuts import SCALING
from tlclassify.graphs import inputs_of
from tlclassify.inputs.augmentation import N_VIEW_NUMBERS, Augmentation, fresh_views, no_views
from tlclassify.inputs.images import ImageSource


@dataclass(frozen=True)
class StoredSource:
    """Outputs stored at a cut, to be run through what lies above it.

    Parameters
    ----------
    outputs : ndarray of shape (n, ...)
    of : ViewSource or ImageSource
        What they are the outputs of.
    """

    outputs: NDArray[Any]
    of: Any

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.outputs)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return a batch of outputs."""
        return self.outputs[start:stop]

    def take(self, rows: NDArray[np.intp]) -> "StoredSource":
        """Return the given rows alone."""
        return replace(self, outputs=self.outputs[rows], of=self.of.take(rows))

    def digests(self) -> NDArray[np.uint8]:
        """Return those of the images, shape (n, 32)."""
        digests: NDArray[np.uint8] = self.of.digests()
        return digests


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


@dataclass(frozen=True)
class StoredInputs:
    """What an epoch reads at a cut: one of each image's stored views.

    Parameters
    ----------
    views : sequence of ndarray of shape (n, ...)
    """

    views: Sequence[NDArray[Any]]

    def draw(self, rows: NDArray[np.intp], rng: np.random.Generator | None) -> NDArray[Any]:
        """Return the outputs of the given images in a view drawn for each; without rng, view 0."""
        if rng is None or len(self.views) == 1:
            return self.views[0][rows]
        drawn = rng.integers(len(self.views), size=len(rows))
        first = self.views[0]
        batch = np.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
        for number, view in enumerate(self.views):
            batch[drawn == number] = view[rows[drawn == number]]
        return batch


@dataclass(frozen=True)
class StoredRows:
    """What an epoch reads where the stored views lie in the network itself: their row numbers.

    Parameters
    ----------
    n_images : int
    n_views : int
        Of each image; view v of image i is row ``first + v * n_images + i``.
    first : int
    """

    n_images: int
    n_views: int = 1
    first: int = 0

    def draw(self, rows: NDArray[np.intp], rng: np.random.Generator | None) -> NDArray[np.int32]:
        """Return the row of each image in a view drawn for it; without rng, in view 0."""
        views = 0 if rng is None else self.n_images * rng.integers(self.n_views, size=len(rows))
        return (self.first + views + rows).astype(np.int32)


@dataclass(frozen=True)
class ImageInputs:
    """What an epoch reads where the whole network is trained: images, in fresh views.

    Parameters
    ----------
    images : ImageSource
    augmentation : Augmentation or None
        None: the network takes images alone.
    image_size : (height, width)
        Pixels of the images to which views are applied.
    """

    images: ImageSource
    augmentation: Augmentation | None
    image_size: Sequence[int]

    def draw(self, rows: NDArray[np.intp], rng: np.random.Generator | None) -> Any:
        """Return images and a fresh view for each; without rng, view 0."""
        images = self.images.take(rows).read(0, len(rows))
        if self.augmentation is None:
            return images
        if rng is None:
            return images, no_views(len(rows))
        views = fresh_views(self.augmentation, rng, len(rows), image_size=self.image_size)
        return images, views
