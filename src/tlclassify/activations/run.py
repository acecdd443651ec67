"""Run the frozen part of a network once per image and keep its output.

With a `cache_dir`, outputs live in immutable segment files: ``.npy`` records of an image's
SHA-256, a checksum and its output, in a folder named after the network's own digest. A later run
takes every image that it finds there, whatever subset or order it asks for, so folds, grid points
and later sessions share one pass. A segment appears under its name only when it is whole, and a
record whose checksum fails counts as absent: what is left by a killed process, a full disk or a
second process is never read as a result.
"""

import errno
import math
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Protocol

import keras
import numpy as np
from numpy.typing import DTypeLike, NDArray
from tqdm.auto import tqdm

from tlclassify.engines.runners import KERAS, Runner, key_of_engine
from tlclassify.inputs.images import read_batches
from tlclassify.networks.graphs import without_retracing_notes

MEMORY_LIMIT_BYTES = 512 * 2**20
SEGMENT_ROWS = 4096
_READ_BYTES = 64 * 2**20
_STALE_SECONDS = 24 * 3600
_PROGRESS_DELAY_SECONDS = 1.0


class Source(Protocol):
    """What a network is run over: images, views of them, or outputs stored at a lower cut."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def read(self, start: int, stop: int) -> Any:
        """Return a batch as the network takes it: an array, or one for each input."""
        ...

    def take(self, rows: NDArray[np.intp]) -> "Source":
        """Return the given rows alone."""
        ...

    def digests(self) -> NDArray[np.uint8]:
        """Return 32 bytes a row that are equal for equal input, shape (n, 32)."""
        ...


def run_batches(
    model: Any, source: Source, *, batch_size: int, progress: Any = None
) -> Iterator[NDArray[np.float32]]:
    """Yield a model's output batch by batch, in inference mode.

    A short batch is filled up to the next power of two, so that a graph is compiled for few
    sizes only, whatever sizes are asked for.

    Parameters
    ----------
    model : keras.Model or Runner
        From what `source` reads.
    source : Source
    batch_size : int
        Images run at once.
    progress : tqdm, optional
        Told of the images done.
    """
    for batch in read_batches(source, batch_size):
        n = len(keras.tree.flatten(batch)[0])
        n_filled = min(batch_size, 1 << (n - 1).bit_length())
        if n < n_filled:
            batch = keras.tree.map_structure(partial(_fill_up, n=n_filled), batch)  # noqa: PLW2901
        with without_retracing_notes():
            output = model.predict_on_batch(batch)
        yield np.asarray(output[:n], dtype=np.float32)
        if progress is not None:
            progress.update(n)


def _fill_up(array: NDArray[Any], n: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((n - len(array), *array.shape[1:]), array.dtype)])


def compute_activations(
    model: keras.Model | Runner,
    source: Source,
    *,
    key: str | None = None,
    label: str | None = None,
    dtype: DTypeLike = np.float32,
    in_memory: bool | None = None,
    batch_size: int = 64,
    cache_dir: str | Path | None = None,
    verbose: int = 0,
) -> NDArray[Any]:
    """Return the output of `model` for every image, from `cache_dir` where it is there already.

    Parameters
    ----------
    model : keras.Model or Runner
        From what `source` reads to the output at the cut, and what runs it; by itself, Keras.
    source : Source
    key : str, optional
        What the model computes, as a name; by default its own digest.
    label : str, optional
        What the progress bar says.
    dtype : {float32, float16}, default float32
        In which outputs are kept.
    in_memory : bool, optional
        Whether in memory or in a temporary memory-mapped file. None: in memory up to 512 MiB.
    batch_size : int, default 64
        Images run at once.
    cache_dir : path, optional
        Where outputs are kept from call to call.
    verbose : int, default 0
        1 shows a progress bar for work of more than a second.

    Returns
    -------
    ndarray of shape (n_images, ...) and the given dtype

    Raises
    ------
    OSError
        If `cache_dir` cannot be written to or has too little room; the message has the sizes.
    OverflowError
        If an output is too large for float16.
    """
    runner = model if isinstance(model, Runner) else Runner(model, KERAS)
    network = runner.network
    label = label or f"{network.name}: features"
    shape = (len(source), *network.output_shape[1:])
    kept = np.dtype(dtype)
    if cache_dir is None:
        with _progress(len(source), label, verbose) as progress:
            outputs = run_batches(runner, source, batch_size=batch_size, progress=progress)
            return _collect(_narrow(outputs, kept), shape, kept, in_memory=in_memory)
    folder = Path(cache_dir)
    key, engine = key or runner.fingerprint(), runner.engine
    digests = [row.tobytes() for row in source.digests()]
    store = _Store(folder / key_of_engine(key, engine), shape[1:], kept)
    missing = store.missing(digests)
    if missing:
        runner.open()
    if runner.engine != engine:
        # "auto" has turned to Keras, whose outputs are kept by another name.
        store = _Store(folder / key_of_engine(key, runner.engine), shape[1:], kept)
        missing = store.missing(digests)
    store.check_room(len(missing))
    with _progress(len(missing), label, verbose) as progress:
        for start in range(0, len(missing), SEGMENT_ROWS):
            rows = missing[start : start + SEGMENT_ROWS]
            outputs = run_batches(
                runner, source.take(np.array(rows)), batch_size=batch_size, progress=progress
            )
            store.write([digests[row] for row in rows], _narrow(outputs, kept))
    return _collect(store.read(digests), shape, kept, in_memory=in_memory)


def _narrow(outputs: Iterator[NDArray[np.float32]], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    largest = np.finfo(dtype).max
    for output in outputs:
        if dtype != output.dtype and np.abs(output).max() > largest:
            raise OverflowError(
                f"an output at the cut is {np.abs(output).max():g}, and float16 ends at "
                f"{largest:g}. Pass unfreeze='all', which stores nothing, or cut elsewhere."
            )
        yield output.astype(dtype, copy=False)


def _progress(total: int, label: str, verbose: int) -> Any:
    return tqdm(
        total=total, desc=label, unit="image", disable=not verbose, delay=_PROGRESS_DELAY_SECONDS
    )


def _collect(
    parts: Iterator[NDArray[Any]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    in_memory: bool | None,
) -> NDArray[Any]:
    """Put the parts into one array: in memory or in a temporary file."""
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes <= MEMORY_LIMIT_BYTES if in_memory is None else in_memory:
        array = np.empty(shape, dtype=dtype)
        start = 0
        for part in parts:
            array[start : start + len(part)] = part
            start += len(part)
        return array
    folder = Path(tempfile.gettempdir())
    _check_room(folder, n_bytes, "the folder for temporary files (TMPDIR)")
    with _clear_disk_errors(folder, n_bytes), tempfile.TemporaryFile(dir=folder) as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
        file.flush()
        # The mapping keeps the unnamed file alive; its room is freed with the array.
        return np.memmap(file, dtype=dtype, mode="r", shape=shape)


class _Store:
    """The segment files of one network."""

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.folder = folder
        self.record = np.dtype(
            [("image", np.uint8, 32), ("checksum", np.uint32), ("output", dtype, shape)]
        )
        self.segments: list[NDArray[Any]] = []
        self.places: dict[bytes, tuple[int, int]] = {}
        for path in sorted(folder.glob("*.npy")):
            self._open(path)

    def missing(self, digests: list[bytes]) -> list[int]:
        """Return the first row of every image that is not stored."""
        first: dict[bytes, int] = {}
        for row, digest in enumerate(digests):
            if digest not in self.places:
                first.setdefault(digest, row)
        return list(first.values())

    def check_room(self, n_outputs: int) -> None:
        """See that the folder can hold so many outputs, and make it; nothing for none."""
        if not n_outputs:
            return
        n_bytes = n_outputs * self.record.itemsize
        with _clear_disk_errors(self.folder, n_bytes):
            self.folder.mkdir(parents=True, exist_ok=True)
            _check_room(self.folder, n_bytes, "cache_dir")

    def write(self, digests: list[bytes], outputs: Iterator[NDArray[Any]]) -> None:
        """Write a segment; it gets its name when it is whole."""
        n_bytes = len(digests) * self.record.itemsize
        path = self.folder / f"{sha256(b''.join(digests)).hexdigest()}.npy"
        with _clear_disk_errors(self.folder, n_bytes):
            self._remove_stale()
            file = tempfile.NamedTemporaryFile(dir=self.folder, suffix=".tmp", delete=False)  # noqa: SIM115
        try:
            with _clear_disk_errors(self.folder, n_bytes), file:
                self._write_records(file, digests, outputs)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
        self._open(path)

    def read(self, digests: list[bytes]) -> Iterator[NDArray[Any]]:
        """Yield the outputs of the given images in order."""
        n_rows = max(1, min(SEGMENT_ROWS, _READ_BYTES // self.record.itemsize))
        for start in range(0, len(digests), n_rows):
            places = [self.places[digest] for digest in digests[start : start + n_rows]]
            yield np.stack([self.segments[number]["output"][row] for number, row in places])

    def _write_records(
        self, file: IO[bytes], digests: list[bytes], outputs: Iterator[NDArray[Any]]
    ) -> None:
        header = {"descr": self.record.descr, "fortran_order": False, "shape": (len(digests),)}
        np.lib.format.write_array_header_2_0(file, header)
        start = 0
        for output in outputs:
            records = np.empty(len(output), dtype=self.record)
            images = b"".join(digests[start : start + len(output)])
            records["image"] = np.frombuffer(images, np.uint8).reshape(-1, 32)
            records["output"] = output
            records["checksum"] = [zlib.crc32(row.tobytes()) for row in output]
            file.write(records.tobytes())
            start += len(output)

    def _open(self, path: Path) -> None:
        try:
            # As a plain view of the mapping: a memmap object for each row is slow to make.
            segment = np.lib.format.open_memmap(path, mode="r").view(np.ndarray)
        except (OSError, ValueError, EOFError):
            return
        if segment.dtype != self.record or segment.ndim != 1:
            return
        images = segment["image"].tobytes()
        number = len(self.segments)
        for row, (checksum, output) in enumerate(
            zip(segment["checksum"], segment["output"], strict=True)
        ):
            if zlib.crc32(output.tobytes()) == checksum:
                self.places[images[32 * row : 32 * row + 32]] = (number, row)
        self.segments.append(segment)

    def _remove_stale(self) -> None:
        for path in self.folder.glob("*.tmp"):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink(missing_ok=True)


def _check_room(folder: Path, n_bytes: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise OSError(
            errno.ENOSPC, f"{name} has {_megabytes(free)} free of {_megabytes(n_bytes)} needed"
        )


@contextmanager
def _clear_disk_errors(folder: Path, n_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        # OSError picks the subclass by the number, so PermissionError stays one.
        raise OSError(
            error.errno,
            f"{error.strerror}. Stored activations of {_megabytes(n_bytes)} could not be written "
            f"to {folder}; no half file was left behind. Free some room, or choose another "
            "cache_dir (None keeps them in memory)",
        ) from error


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.1f} MiB"
