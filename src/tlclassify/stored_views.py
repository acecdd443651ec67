"""What a fit stores: the output at a cut of each image in each view, run once."""

import errno
import math
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from tlclassify.activations import MEMORY_LIMIT_BYTES, compute_activations
from tlclassify.augmentation import Augmentation
from tlclassify.cuts import FIRST_STORED, cut_points
from tlclassify.fingerprints import fingerprint_model
from tlclassify.images import ImageSource
from tlclassify.views import StoredSource, add_views, open_views

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
    """

    views: list[NDArray[Any]]
    validation: NDArray[Any] | None
    sources: list[Any]


def store_images(
    network: keras.Model,
    cut: str,
    training: ImageSource,
    validation: ImageSource | None,
    *,
    augmentation: Augmentation | None,
    **options: Any,
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
    options
        `batch_size`, `cache_dir` and `verbose` of `compute_activations`.

    Raises
    ------
    OSError
        If there is too little room; the message has the arithmetic.
    """
    output = network.get_layer(cut).output
    plain = keras.Model(network.input, output, name=network.name)
    sources: list[Any] = open_views(training, augmentation, image_size(network))
    n_views = len(sources)
    if validation is not None:
        sources.append(validation)
    dtype = _dtype(network, cut)
    _check_room(sources, output.shape[1:], dtype, n_views=n_views, **options)
    viewed = add_views(network, output) if n_views > 1 else plain
    key = _key(network, cut)
    outputs = []
    for number, source in enumerate(sources):
        model = viewed if 0 < number < n_views else plain
        which = f"view {number} of 0 to {n_views - 1}" if number < n_views > 1 else "features"
        label = f"{network.name}: {which}"
        outputs.append(
            compute_activations(model, source, key=key, label=label, dtype=dtype, **options)
        )
    return Stored(outputs[:n_views], outputs[n_views] if validation else None, sources)


def store_further(
    network: keras.Model, lower: str, stored: Stored, cut: str, **options: Any
) -> Stored:
    """Run what is stored at a lower cut on to a higher one; parameters as in `store_images`."""
    part = keras.Model(
        network.get_layer(lower).output, network.get_layer(cut).output, name=network.name
    )
    key = f"{_key(network, cut)}-from-{lower}"
    arrays = stored.views + ([] if stored.validation is None else [stored.validation])
    outputs = [
        compute_activations(
            part, StoredSource(array, source), key=key, dtype=_dtype(network, cut), **options
        )
        for array, source in zip(arrays, stored.sources, strict=True)
    ]
    n_views = len(stored.views)
    validation = None if stored.validation is None else outputs[n_views]
    return Stored(outputs[:n_views], validation, stored.sources)


def image_size(network: keras.Model) -> tuple[int, int]:
    """Return height and width in pixels at which a network sees images."""
    height, width = network.get_layer(FIRST_STORED).input.shape[1:3]
    return height, width


def _dtype(network: keras.Model, cut: str) -> np.dtype[Any]:
    return np.dtype(np.float32 if cut == cut_points(network)[-1] else np.float16)


def _key(network: keras.Model, cut: str) -> str:
    up_to_cut = keras.Model(network.input, network.get_layer(cut).output)
    dtype = _dtype(network, cut)
    digest = fingerprint_model(up_to_cut)
    return digest if dtype == np.float32 else f"{digest}-{dtype}"


def _check_room(
    sources: list[Any],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    n_views: int,
    cache_dir: str | Path | None,
    verbose: int,
    **_: Any,
) -> None:
    """Say how much will be stored before it is, and refuse what the disk cannot hold."""
    sizes = [len(source) * math.prod(shape) * dtype.itemsize for source in sources]
    on_disk = sum(size for size in sizes if size > MEMORY_LIMIT_BYTES)
    folder = Path(tempfile.gettempdir())
    each = " x ".join(str(length) for length in shape)
    held_out = f" and {len(sources[-1]):,} held out" if len(sources) > n_views else ""
    arithmetic = (
        f"({n_views} view(s) x {len(sources[0]):,} images{held_out}) x {each} x "
        f"{dtype.itemsize} bytes = {sum(sizes) / 2**30:,.2f} GiB"
    )
    if on_disk > shutil.disk_usage(folder).free:
        raise OSError(
            errno.ENOSPC,
            f"stored activations need {arithmetic}, {on_disk / 2**30:,.2f} GiB of it in {folder}, "
            f"which has {shutil.disk_usage(folder).free / 2**30:,.2f} GiB free. Lower "
            "augmentation__n_views, unfreeze fewer blocks, pass unfreeze=1.0, which stores nothing, "
            "or point TMPDIR to a larger disk",
        )
    if verbose and sum(sizes) >= _ANNOUNCED_BYTES:
        place = "memory" if not on_disk else str(folder)
        place += "" if cache_dir is None else f" and {cache_dir}"
        tqdm.write(f"stored activations: {arithmetic}, in {place}", file=sys.stderr)
