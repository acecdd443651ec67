"""What an epoch of training reads: inputs, targets and weights, batch by batch."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify.inputs.augmentation import Augmentation, fresh_views, no_views
from tlclassify.inputs.images import ImageSource


class Inputs(Protocol):
    """Where the inputs of training examples come from."""

    def draw(self, rows: NDArray[np.intp], rng: np.random.Generator | None) -> Any:
        """Return the inputs of the given rows, drawn with rng where there is a choice."""
        ...


class Examples(keras.utils.PyDataset):  # type: ignore[misc]
    """Inputs, one-hot targets and weights in batches; with a seed, shuffled anew every epoch.

    Parameters
    ----------
    inputs : Inputs
    targets : ndarray of shape (n,), int
    n_classes : int
    batch_size : int
    sample_weight : ndarray of shape (n,), optional
    mixing : Augmentation, optional
        Whose MixUp and CutMix are applied to the images.
    seed : int, optional
        None: the order stays as it is, and every image is in its view 0.
    """

    def __init__(
        self,
        inputs: Inputs,
        targets: NDArray[np.intp],
        *,
        n_classes: int,
        batch_size: int,
        sample_weight: NDArray[np.float32] | None = None,
        mixing: Augmentation | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.targets = targets
        self.n_classes = n_classes
        self.batch_size = batch_size
        self.sample_weight = sample_weight
        self.rows = np.arange(len(targets))
        self._mixing = mixing
        self._seed = seed
        self._epoch = -1
        self.on_epoch_end()

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        """Return one batch."""
        rows = self.rows[number * self.batch_size : (number + 1) * self.batch_size]
        rng = None
        if self._seed is not None:
            # Of its own, so that a batch is the same whenever and however often it is asked for.
            rng = np.random.default_rng((self._seed, self._epoch, number))
        inputs = self.inputs.draw(rows, rng)
        targets = np.eye(self.n_classes, dtype=np.float32)[self.targets[rows]]
        if self._mixing is not None and rng is not None:
            for mixer in _build_mixers(self._mixing, rng):
                inputs, targets = _mix(mixer, inputs, targets)
        batch = (inputs, targets)
        return batch if self.sample_weight is None else (*batch, self.sample_weight[rows])

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        self._epoch += 1
        if self._seed is not None:
            rng = np.random.default_rng((self._seed, self._epoch))
            self.rows = rng.permutation(len(self.rows))


def _build_mixers(augmentation: Augmentation, rng: np.random.Generator) -> list[keras.layers.Layer]:
    seeds = rng.integers(2**31, size=2).tolist()
    mixers = []
    if augmentation.mixup_alpha:
        mixers.append(keras.layers.MixUp(augmentation.mixup_alpha, seed=seeds[0]))
    if augmentation.cutmix_factor:
        mixers.append(keras.layers.CutMix(augmentation.cutmix_factor, seed=seeds[1]))
    return mixers


def _mix(
    mixer: keras.layers.Layer, inputs: Any, targets: NDArray[np.float32]
) -> tuple[Any, NDArray[np.float32]]:
    images, *views = inputs if isinstance(inputs, tuple) else (inputs,)
    with warnings.catch_warnings():
        # Keras up to 3.15 asks JAX for 64-bit indices, which it does not need.
        warnings.filterwarnings("ignore", message="(?s).*Explicitly requested dtype")
        mixed = mixer({"images": images.astype(np.float32), "labels": targets}, training=True)
    images = np.rint(keras.ops.convert_to_numpy(mixed["images"])).astype(np.uint8)
    targets = keras.ops.convert_to_numpy(mixed["labels"])
    return (images, *views) if views else images, targets


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
