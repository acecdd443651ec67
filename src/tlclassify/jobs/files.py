"""From many image files to a folder of results, part by part, here or by Ray."""

import hashlib
import json
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.files import list_images, write_whole
from tlclassify._checks.parameters import (
    COUNT,
    COUNT_OR_NONE,
    check_column,
    check_parameters,
    column_names,
    import_extra,
    listed,
    show_progress,
)
from tlclassify._checks.tables import read_columns
from tlclassify.engines.metadata import encode_labels_as_json
from tlclassify.engines.runtimes import AUTO
from tlclassify.inputs.images import make_probe
from tlclassify.jobs.batches import FEATURES, PROBABILITIES, BatchPredictor
from tlclassify.persistence.exported import SUFFIXES

METADATA_KEY = b"tlclassify"
_TABLES = {".csv", ".tsv", ".parquet"}
_PATIENCE_SECONDS = 60.0
_N_RETRIES = 10  # of a part whose worker has died, of which an image may be the cause


def predict_files(
    model: str | Path,
    files: Any,
    output: str | Path,
    *,
    engine: str = "local",
    what: str = PROBABILITIES,
    column: str = "path",
    resume: bool = True,
    runtime: str = AUTO,
    batch_size: int = 64,
    rows_per_file: int = 2048,
    n_workers: int | None = None,
    n_threads: int | None = None,
    verbose: int = 1,
) -> Path:
    """Run a classifier over many image files; the results are Parquet files in a folder.

    After an interruption, a kill or a full disk the same call goes on with the images that have no
    row yet. An image that cannot be read has a row too, and a warning names the first of them.

    Parameters
    ----------
    model, what, batch_size
        As in `BatchPredictor`.
    files : folder, table or sequence of paths
        A folder, with those in it, but no hidden files; a ``.csv``, ``.tsv`` or ``.parquet`` file,
        a frame, a dict of columns or a Ray dataset; or paths. Relative ones lead from the table
        file's folder, or else from the working folder.
    output : path
        Its files, which are whole or not there, have for each image a row with `path`, as it was
        given, the columns of `what`, and `error`.
    engine : {"local", "ray"}
        "ray": workers on the Ray cluster that this process is in, or else on this machine. All of
        them must find model, images and output in the same place.
    column : str
        Of a table, the column of paths.
    resume : bool
        Whether results may be there already.
    runtime : str
        The `engine` of `BatchPredictor`.
    rows_per_file : int
        Images whose results are one file: the work that an interruption costs at most.
    n_workers : int, optional
        With Ray, their number; by default as many as there are free cores for.
    n_threads : int, optional
        Processor cores that an exported model uses; by default all, or with Ray one a worker.
    verbose : int
        1 shows a progress bar; 0 is silent.

    Returns
    -------
    Path
        The folder `output`, which `pandas.read_parquet` and others read as one table.

    Raises
    ------
    OSError, ValueError
        If there is no such model, image or column, or an image is named twice; if `output` cannot
        be written, or another process is writing it, or it has results of another model or `what`,
        or of other images alone.
    RuntimeError, ImportError
        If the Ray cluster has no free cores; without pyarrow or Ray.

    Examples
    --------
    >>> predict_files("plants.onnx", "photos", "results")  # doctest: +SKIP
    >>> pandas.read_parquet("results")  # doctest: +SKIP
    """
    is_ray = engine == "ray"
    check_parameters(
        ("engine", engine, ("local", "ray")),
        ("rows_per_file", rows_per_file, COUNT),
        ("n_workers", n_workers, COUNT_OR_NONE),
        problems=["n_workers needs engine='ray'" if n_workers and not is_ray else None],
    )
    import_extra("pyarrow", "table", user="predict_files")
    if is_ray:
        import_extra("ray", "ray", user="engine='ray'")
        if n_threads is None and Path(model).suffix in SUFFIXES:
            n_threads = 1
    options: Any = {"engine": runtime, "batch_size": batch_size, "n_threads": n_threads}
    predictor = BatchPredictor(model, what=what, **options)
    paths, root = _list_paths(files, column)
    job = _Job(predictor, Path(output).absolute(), root)
    with _locked(job.output):
        rows = np.flatnonzero(~job.find_done(paths, resume=resume))
        # Where parts begin depends on `files` alone, so that every call has the same parts.
        parts = np.split(rows, np.flatnonzero(np.diff(rows // rows_per_file)) + 1)

        def take(part: NDArray[np.intp]) -> tuple[int, list[str]]:
            return int(part[0]) // rows_per_file, paths.take(part).to_pylist()

        label = f"{Path(model).name}: {what}"
        with show_progress(len(rows), label, unit="image", verbose=verbose) as progress:
            if is_ray and len(rows):
                _run_by_ray(job, parts, take, progress, n_workers=n_workers, n_cores=n_threads or 1)
            for part in parts if len(rows) and not is_ray else ():
                job.write(*take(part), progress=progress)
        job.check_rows(len(paths))
    return Path(output)


@dataclass(frozen=True)
class _Job:
    """What is to be found on images, where these are, and where it is written."""

    predictor: BatchPredictor
    output: Path
    root: Path

    def write(self, number: int, paths: list[str], progress: Any = None) -> int:
        """Write the rows of some images as one file, and return how many there are."""
        import pyarrow as pa
        from pyarrow import parquet

        predictor = self.predictor
        found = predictor.predict_columns(paths, root=self.root, progress=progress)
        labels = () if predictor.classes_ is None else predictor.classes_.tolist()
        types = {"label": pa.array(labels).type, "probability": pa.float32(), "error": pa.string()}
        types[predictor.what] = pa.list_(pa.float32(), predictor.n_outputs_)
        is_good = np.array([error is None for error in found["error"]])
        arrays = {"path": pa.array(paths, pa.string())}
        for key, column in found.items():
            nulls = is_good if key == "error" else ~is_good
            arrays[key] = pa.array([*column], types[key], mask=nulls)
        file, metadata = BytesIO(), {METADATA_KEY: json.dumps(self.said)}
        parquet.write_table(pa.table(arrays).replace_schema_metadata(metadata), file)
        # A part that is begun again, or ends after its job was killed, replaces itself.
        digest = hashlib.sha256("\0".join(paths).encode()).hexdigest()[:16]
        path = self.output / f"part-{number:07d}-{digest}.parquet"
        try:
            write_whole(path, file.getvalue())
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: {path} cannot be written. What is there is whole: make room "
                "or mend what is amiss, and call again",
            ) from error
        return len(paths)

    @cached_property
    def said(self) -> dict[str, Any]:
        """What files of results say of themselves."""
        predictor = self.predictor
        said = {"fingerprint": predictor.fingerprint_, "what": predictor.what}
        if predictor.classes_ is None:
            found = predictor({"image": make_probe(predictor.image_shape_)})
            return said | {"probe": found[FEATURES][0].tolist()}
        return said | {"classes": encode_labels_as_json(predictor.classes_)[0]}

    def find_done(self, paths: Any, *, resume: bool) -> NDArray[np.bool_]:
        """Return which images have a row already, if all rows that are there are of this job."""
        import pyarrow as pa
        from pyarrow import compute, parquet

        done, own, problem = [], self.said, ""
        for path in self.output.glob("*.parquet"):
            try:
                file = parquet.ParquetFile(path)
                said = json.loads((file.schema_arrow.metadata or {})[METADATA_KEY])
                done += file.read(columns=["path"])["path"].chunks
                for key in ("what", "fingerprint"):
                    if said[key] != own[key]:
                        problem = f"{path} has the {key} {said[key]!r}, and this job {own[key]!r}"
            except (KeyError, ValueError, OSError) as error:
                problem = f"{path} is damaged, or is from elsewhere ({error!r})"
        rows = pa.chunked_array(done, pa.string()).cast(pa.large_string())
        is_done: NDArray[np.bool_] = compute.is_in(paths, rows).to_numpy(zero_copy_only=False)
        if len(rows) and not (resume and is_done.any()):
            problem = problem or f"it has {len(rows):,} rows, with {is_done.sum()} of these images"
        if problem:
            raise ValueError(
                f"output must have results of this job alone, and with resume=False none; received "
                f"{str(self.output)!r}: {problem}. Choose another folder."
            )
        return is_done

    def check_rows(self, n_images: int) -> None:
        """Warn of images that could not be read, and see that nothing is missing."""
        from pyarrow import compute, dataset

        rows = dataset.dataset([str(path) for path in self.output.glob("*.parquet")])
        if (n_rows := rows.count_rows()) < n_images:
            place = f"{str(self.output)!r} has {n_rows:,} rows for {n_images:,} images"
            raise OSError(f"{place}: files were taken away meanwhile. Call again.")
        unread = rows.to_table(columns=["error"], filter=compute.field("error").is_valid())
        if len(unread):
            warnings.warn(
                f"{len(unread):,} of {n_rows:,} images could not be read, as their rows say: "
                f"{listed(unread['error'].to_pylist(), write=str)}",
                stacklevel=3,
            )


def _run_by_ray(
    job: _Job,
    parts: Sequence[Any],
    take: Callable[[Any], tuple[int, list[str]]],
    progress: Any,
    *,
    n_workers: int | None,
    n_cores: int,
) -> None:
    """Write parts by actors, which are started again where they die."""
    ray, pools = import_module("ray"), import_module("ray.util.actor_pool")
    is_own = not ray.is_initialized()
    if is_own:
        ray.init(log_to_driver=False)
    free = int(ray.available_resources().get("CPU", 0))
    actor = ray.remote(num_cpus=n_cores, max_restarts=-1, max_task_retries=_N_RETRIES)(_Job)
    n_workers = n_workers or max(1, min(free // n_cores, len(parts)))
    workers = [actor.remote(job.predictor, job.output, job.root) for _ in range(n_workers)]
    try:
        starts = [worker.__ray_ready__.remote() for worker in workers]
        if not ray.wait(starts, timeout=_PATIENCE_SECONDS)[0]:
            raise RuntimeError(
                f"engine='ray' needs {n_cores} free cores for a worker; none began in "
                f"{_PATIENCE_SECONDS:.0f} s, with {free} cores free of "
                f"{ray.cluster_resources().get('CPU', 0):.0f} in the cluster. Wait for other jobs, "
                "lower n_threads, or add nodes."
            )
        pool = pools.ActorPool(workers)
        for n_done in pool.map_unordered(lambda one, part: one.write.remote(*take(part)), parts):
            progress.update(n_done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    finally:
        for worker in workers:
            ray.kill(worker)
        if is_own:
            ray.shutdown()


def _list_paths(files: Any, column: str) -> tuple[Any, Path]:
    """Return the paths as an Arrow array, and the folder from which relative ones lead."""
    import pyarrow as pa
    from pyarrow import compute

    given, root = files, Path()
    if isinstance(files, str | PathLike):
        files = Path(files).expanduser()
        if files.is_dir():
            files = list_images(files)
        elif files.suffix.lower() not in _TABLES:
            raise FileNotFoundError(f"files: there is no folder {str(given)!r}.")
    elif callable(columns := column_names(files)):  # of Ray, which fetches what it is asked for
        check_column("column", column, columns())
        files = files.select_columns([column]).to_pandas()
    if isinstance(files, Path | Mapping) or column_names(files) is not None:
        columns, _, root = read_columns(files, {"column": column}, name="files")
        files = columns[column]
    try:
        files = files.to_pylist() if hasattr(files, "to_pylist") else files
        paths = pa.array(map(os.fspath, files), pa.large_string())
    except (TypeError, UnicodeEncodeError) as error:
        raise ValueError(f"files must be paths in UTF-8, one in every row; {error}.") from error
    counts = paths.value_counts()
    again = counts.filter(compute.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if again or not len(paths):
        raise ValueError(
            "files must name one image or more, and each once; received "
            f"{f'{len(again):,} more than once: {listed(again)}' if again else f'none: {given!r}'}."
        )
    return paths, root.absolute()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a folder to this process, as long as it lives."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    lock.touch()
    with closing(sqlite3.connect(lock, timeout=0, isolation_level=None)) as database:
        try:
            database.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise BlockingIOError(
                f"output: another process is writing {str(folder)!r} ({error}). Wait for it, or "
                "choose another folder."
            ) from error
        for stale in folder.glob(".*.tmp"):
            stale.unlink(missing_ok=True)
        yield
