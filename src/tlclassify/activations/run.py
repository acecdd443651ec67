"""Run the frozen part of a network once per image, in each of its views, and keep its output."""

import errno
import math
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.parameters import check_process, show_progress
from tlclassify.activations.store import Store, StoredOutputs
from tlclassify.engines.runners import KERAS, Runner, run_batches
from tlclassify.inputs.augmentation import Augmentation, ViewSource, open_views
from tlclassify.inputs.images import ImageSource
from tlclassify.networks import cuts
from tlclassify.networks.steps import add_views

MEMORY_LIMIT_BYTES = 512 * 2**20
PART_ROWS = 4096
_PART_BYTES = 64 * 2**20
# What SQLite adds to a row: its digest twice, and the rest of a page that it leaves empty.
_OVERHEAD_BYTES = 600


@dataclass(frozen=True)
class StoredSource:
    """Outputs stored at a cut, to be trained on or run through what lies above it."""

    outputs: Any
    of: "Source"
    # By which network and engine they are.
    name: str = ""

    def __len__(self) -> int:
        return len(self.outputs)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return a batch of outputs."""
        return self.outputs[start:stop]  # type: ignore[no-any-return]

    def take(self, rows: NDArray[np.intp]) -> "StoredSource":
        """Return the given rows alone."""
        return replace(self, outputs=self.outputs[rows], of=self.of.take(rows))

    def digests(self) -> NDArray[np.uint8]:
        """Return those of the images, shape (n, 32)."""
        return self.of.digests()


Source = ImageSource | ViewSource | StoredSource


@dataclass(frozen=True)
class Running:
    """How a network is run over images."""

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
) -> list[StoredSource]:
    """Run training images in every view, and validation images in view 0, up to a cut."""
    parts = cuts.parts_of(network)
    if len(parts) > 1:
        # Each by itself, so that what is stored of one backbone serves it alone too.
        options: dict[str, Any] = {"augmentation": augmentation, "running": running}
        found = [
            store_images(part, cuts.cut_points(part)[-1], training, validation, **options)
            for part in parts
        ]
        return [
            StoredSource(beside([part.outputs for part in same]), same[0].of)
            for same in zip(*found, strict=True)
        ]
    output, half = cuts.output_at(network, cut), cut != cuts.cut_points(network)[-1]
    plain = Runner(keras.Model(network.input, output, name=network.name), running.engine)
    views: list[ImageSource | ViewSource] = [training]
    if augmentation is not None:
        views = open_views(training, augmentation, cuts.image_size(network))
    # Engines take images alone, without the numbers of their views.
    viewed = Runner(add_views(network, output), KERAS) if len(views) > 1 else plain
    sources = [*views, *([] if validation is None else [validation])]
    runners = [viewed if isinstance(source, ViewSource) else plain for source in sources]
    is_kept = running.cache_dir is not None
    keys = {runner: runner.fingerprint() for runner in {plain, viewed} if is_kept}
    pairs = zip(runners, sources, strict=True)
    return _store([Pass(*pair, running, keys.get(pair[0]), half) for pair in pairs])


def beside(outputs: Sequence[Any]) -> NDArray[np.float32]:
    """Return the features of several backbones side by side."""
    return np.concatenate([part[:] for part in outputs], axis=1)


def store_further(
    network: keras.Model, lower: str, stored: list[StoredSource], cut: str, *, running: Running
) -> list[StoredSource]:
    """Run what is stored at a lower cut on to a higher one."""
    part = keras.Model(
        cuts.output_at(network, lower), cuts.output_at(network, cut), name=network.name
    )
    between = Runner(part, KERAS)
    key = "" if running.cache_dir is None else between.fingerprint()
    keys = [f"{key}-from-{part.name[:16]}{part.name[64:]}" for part in stored]
    pairs = zip(stored, keys, strict=True)
    half = cut != cuts.cut_points(network)[-1]
    return _store([Pass(between, source, running, key, half) for source, key in pairs])


@dataclass
class Pass:
    """What is to be run over a source, as far as its output is not stored already."""

    runner: Runner
    source: Source
    running: Running
    # What it computes, where that is not its network's fingerprint.
    key: str | None = None
    # Whether float16 is kept, as is done below the features.
    half: bool = False

    def __post_init__(self) -> None:
        self.dtype = np.dtype(np.float16 if self.half else np.float32)
        self.n_missing = len(self.source)
        self.shape = (self.n_missing, *self.runner.network.output_shape[1:])
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        if self.running.cache_dir is not None:
            self.digests = self.source.digests()
            self.key = self.key or self.runner.fingerprint()
            self.n_missing = len(self.store.missing(self.digests))
            if self.n_missing and self.runner.engine != KERAS:
                # "auto" may turn to Keras, whose outputs are kept apart.
                self.runner.open()
                self.n_missing = len(self.store.missing(self.digests))

    @property
    def store(self) -> Store:
        """Where outputs of what runs the network now are kept; only with a `cache_dir`."""
        engine = self.runner.engine
        # They differ by roundings, and so does all that is computed from them.
        name = f"{self.key}{'-float16' * self.half}{f'-{engine}' * (engine != KERAS)}"
        return Store(Path(self.running.cache_dir or "") / name, self.shape[1:], self.dtype)

    def run(self, *, write: bool = True, progress: Any = None) -> Iterator[NDArray[Any]]:
        """Yield the outputs in order, part by part; what had to be run is stored if `write`."""
        if self.running.cache_dir is None:
            yield from self._compute(self.source, progress)
            return
        check_process()
        if write and self.n_missing:
            # Whether that can be done is seen before the work.
            self.store.write(self.digests[:0], np.empty((0, *self.shape[1:]), self.dtype))
        batch_size = self.running.batch_size
        n_rows = max(1, min(PART_ROWS, _PART_BYTES // self.row_bytes) // batch_size) * batch_size
        for start in range(0, len(self.source), n_rows):
            digests = self.digests[start : start + n_rows]
            part = np.empty((len(digests), *self.shape[1:]), self.dtype)
            missing = self.store.read(digests, part)
            if len(missing):
                # An image that occurs twice is run once.
                first: dict[bytes, int] = {}
                places = [first.setdefault(digests[row].tobytes(), len(first)) for row in missing]
                new = missing[np.unique(places, return_index=True)[1]]
                source = self.source.take(start + new)
                outputs = np.concatenate(list(self._compute(source, progress)))
                if write:
                    self.store.write(digests[new], outputs)
                part[missing] = outputs[places]
            yield part

    def _compute(self, source: Source, progress: Any) -> Iterator[NDArray[Any]]:
        batch_size, limit = self.running.batch_size, np.finfo(self.dtype).max
        for output in run_batches(self.runner, source, batch_size=batch_size, progress=progress):
            if self.half and (largest := max(output.max(), -output.min())) > limit:
                raise OverflowError(
                    f"an output at the cut is {largest:g}, and float16 ends at {limit:g}. Pass "
                    "unfreeze='all', which stores nothing, or cut elsewhere."
                )
            yield output.astype(self.dtype, copy=False)


def _store(passes: list[Pass]) -> list[StoredSource]:
    outputs = zip(run_once(passes), passes, strict=True)
    return [StoredSource(found, item.source, item.store.folder.name) for found, item in outputs]


def run_once(passes: Sequence[Pass]) -> list[Any]:
    """Run what is not stored yet; return arrays up to 512 MiB in all, else what reads a file."""
    running, n_missing = passes[0].running, sum(item.n_missing for item in passes)
    n_bytes = sum(item.shape[0] * item.row_bytes for item in passes)
    in_memory = n_bytes <= MEMORY_LIMIT_BYTES
    if running.cache_dir is not None:
        n_written = n_missing * (passes[0].row_bytes + _OVERHEAD_BYTES)
        _check_room(Path(running.cache_dir), n_written, passes, "choose another cache_dir")
    elif not in_memory:
        folder = Path(tempfile.gettempdir())
        _check_room(folder, n_bytes, passes, "point TMPDIR to a larger disk")
    network, verbose = passes[0].runner.network, running.verbose
    has_images = any(layer.name == cuts.SCALING for layer in network.layers)
    at_size = f" at {cuts.image_size(network)[0]} px" if has_images else ""
    label = f"{network.name}{at_size}: activations"
    with show_progress(n_missing, label, unit="image", verbose=verbose) as progress:
        found: list[Any] = []
        for item in passes:
            parts = item.run(progress=progress)
            if in_memory:
                array, start = np.empty(item.shape, item.dtype), 0
                for part in parts:
                    array[start : start + len(part)] = part
                    start += len(part)
                found.append(array)
            elif running.cache_dir is not None:
                deque(parts, maxlen=0)
                found.append(StoredOutputs(item.store, item.digests))
            else:
                with tempfile.TemporaryFile() as file:
                    for part in parts:
                        file.write(np.ascontiguousarray(part).data)
                    file.flush()
                    # The mapping keeps the unnamed file alive; its room is freed with the array.
                    found.append(np.memmap(file, item.dtype, mode="r", shape=item.shape))
        return found


def _check_room(folder: Path, n_bytes: int, passes: Sequence[Pass], remedy: str) -> None:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if n_bytes > free:
        shapes = " + ".join(str(item.shape) for item in passes)
        raise OSError(
            errno.ENOSPC,
            f"stored activations of shape {shapes}, in {passes[0].dtype}, need "
            f"{n_bytes / 2**30:,.2f} GiB in {folder}, which has {free / 2**30:,.2f} GiB free. "
            "Lower augmentation__n_views, unfreeze fewer blocks, pass unfreeze='all', which stores "
            f"nothing, or {remedy}",
        )
