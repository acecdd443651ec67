"""What a fit stores: the output at a cut of each image in each view, run once."""

import errno
import math
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from tlclassify.activations.run import MEMORY_LIMIT_BYTES, compute_activations
from tlclassify.engines.runners import KERAS, Runner, key_of_engine
from tlclassify.inputs.augmentation import Augmentation
from tlclassify.inputs.images import ImageSource
from tlclassify.inputs.views import open_views
from tlclassify.networks.cuts import cut_points, image_size
from tlclassify.networks.fingerprints import fingerprint_model
from tlclassify.networks.graphs import output_at
from tlclassify.networks.views import add_views

_ANNOUNCED_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Stored:
    """Outputs at a cut.

    Parameters
    ----------
    views : list of ndarray of shape (n, ...)
        Of the training images, one array a view.
    validation : ndarray of shape (n_validation, ...), optional
    sources : list
        What each array was computed from, the validation images last.
    engine : str
        What ran the images themselves.
    """

    views: list[NDArray[Any]]
    validation: NDArray[Any] | None
    sources: list[Any]
    engine: str


@dataclass(frozen=True)
class Running:
    """How a network is run over images; the parameters of `compute_activations`."""

    batch_size: int = 64
    cache_dir: str | Path | None = None
    verbose: int = 0
    engine: str = KERAS


def store_images(
    network: keras.Model,
    cut: str,
    training: ImageSource,
    validation: ImageSource | None,
    *,
    augmentation: Augmentation | None,
    running: Running,
) -> Stored:
    """Run every image, in each of its views, up to a cut.

    Parameters
    ----------
    network : keras.Model
        From raw images to the features that a head reads.
    cut : str
        A layer's name. Features are kept as float32; what lies below them as float16, in half
        the room.
    training : ImageSource
    validation : ImageSource, optional
        Only ever in view 0.
    augmentation : Augmentation, optional
    running : Running

    Raises
    ------
    OSError
        If there is too little room; the message has the arithmetic.
    """
    output = output_at(network, cut)
    plain = Runner(keras.Model(network.input, output, name=network.name), running.engine)
    sources: list[Any] = open_views(training, augmentation, image_size(network))
    n_views = len(sources)
    if validation is not None:
        sources.append(validation)
    in_memory = _check_room(network, cut, sources, n_views=n_views, running=running)
    # Engines take images alone, without the numbers of their views.
    viewed = add_views(network, output) if n_views > 1 else plain
    key = None if running.cache_dir is None else _key(network, cut)
    run = _with(running, dtype=_dtype(network, cut), key=key, in_memory=in_memory)
    outputs = []
    for number, source in enumerate(sources):
        which = "features"
        if n_views > 1:
            which = f"view {number + 1} of {n_views}" if number < n_views else "validation"
        model = viewed if 0 < number < n_views else plain
        outputs.append(run(model, source, label=f"{network.name}: {which}"))
    return _as_stored(outputs, sources, n_views, plain.engine)


def store_further(
    network: keras.Model, lower: str, stored: Stored, cut: str, *, running: Running
) -> Stored:
    """Run what is stored at a lower cut on to a higher one; parameters as in `store_images`."""
    part = keras.Model(output_at(network, lower), output_at(network, cut), name=network.name)
    key = None
    if running.cache_dir is not None:
        key = f"{_key(network, cut)}-from-{_key(network, lower)[:16]}"
        # What is run on was the engine's, though this part is Keras's.
        key = key_of_engine(key, stored.engine)
    arrays = stored.views + ([] if stored.validation is None else [stored.validation])
    in_memory = _n_bytes(network, cut, sum(map(len, arrays))) <= MEMORY_LIMIT_BYTES
    run = _with(running, dtype=_dtype(network, cut), key=key, in_memory=in_memory)
    outputs = [
        run(part, StoredSource(array, source))
        for array, source in zip(arrays, stored.sources, strict=True)
    ]
    return _as_stored(outputs, stored.sources, len(stored.views), stored.engine)


def _with(
    running: Running, *, dtype: np.dtype[Any], key: str | None, in_memory: bool
) -> Callable[..., NDArray[Any]]:
    return partial(
        compute_activations,
        dtype=dtype,
        key=key,
        in_memory=in_memory,
        batch_size=running.batch_size,
        cache_dir=running.cache_dir,
        verbose=running.verbose,
    )


def _as_stored(
    outputs: list[NDArray[Any]], sources: list[Any], n_views: int, engine: str
) -> Stored:
    validation = outputs[n_views] if len(outputs) > n_views else None
    return Stored(outputs[:n_views], validation, sources, engine)


def _dtype(network: keras.Model, cut: str) -> np.dtype[Any]:
    return np.dtype(np.float32 if cut == cut_points(network)[-1] else np.float16)


def _key(network: keras.Model, cut: str) -> str:
    up_to_cut = keras.Model(network.input, output_at(network, cut))
    dtype = _dtype(network, cut)
    digest = fingerprint_model(up_to_cut)
    return digest if dtype == np.float32 else f"{digest}-{dtype}"


def _n_bytes(network: keras.Model, cut: str, n_outputs: int) -> int:
    shape: tuple[int, ...] = output_at(network, cut).shape[1:]
    return n_outputs * math.prod(shape) * _dtype(network, cut).itemsize


def _check_room(
    network: keras.Model, cut: str, sources: list[Any], *, n_views: int, running: Running
) -> bool:
    """Say how much will be stored before it is, and whether in memory; refuse too much."""
    shape, dtype = output_at(network, cut).shape[1:], _dtype(network, cut)
    n_bytes = _n_bytes(network, cut, sum(map(len, sources)))
    in_memory = n_bytes <= MEMORY_LIMIT_BYTES
    folder = Path(tempfile.gettempdir())
    each = " x ".join(str(length) for length in shape)
    held_out = f" + {len(sources[-1]):,} for validation" if len(sources) > n_views else ""
    arithmetic = (
        f"({n_views} view{'s' * (n_views > 1)} x {len(sources[0]):,} images{held_out}) x {each} "
        f"values x {dtype.itemsize} bytes = {n_bytes / 2**30:,.2f} GiB"
    )
    free = shutil.disk_usage(folder).free
    if not in_memory and n_bytes > free:
        raise OSError(
            errno.ENOSPC,
            f"stored activations need {arithmetic}, and {folder} has {free / 2**30:,.2f} GiB "
            "free. Lower augmentation__n_views, unfreeze fewer blocks, pass unfreeze='all', which "
            "stores nothing, or point TMPDIR to a larger disk",
        )
    if running.verbose and n_bytes >= _ANNOUNCED_BYTES:
        place = "memory" if in_memory else f"a temporary file in {folder}"
        tqdm.write(f"stored activations: {arithmetic}, in {place}", file=sys.stderr)
    return in_memory


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
