"""A saved or exported classifier that takes the batches of other libraries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlclassify._checks import files
from tlclassify._checks.framing import Framing
from tlclassify._checks.images import Picture
from tlclassify._checks.parameters import (
    COUNT,
    Interval,
    check_choice,
    check_parameters,
    close_match_hint,
    listed,
)
from tlclassify.engines.runtimes import AUTO
from tlclassify.inputs.images import open_images, read_batches
from tlclassify.persistence.exported import load_exported

PROBABILITIES, LABELS, FEATURES = WHATS = ("probabilities", "labels", "features")
_EXPORTS = {".onnx", ".xml"}
_IMAGE_COLUMNS = ("image", "bytes", "path")


class BatchPredictor:
    """A classifier for Ray Data, Hugging Face datasets, pandas and loops: batches in, columns out.

    It is a function that can be pickled. Where it arrives, the model is loaded from `path` again,
    which must be the same file; of an exported one that takes no Keras.

    Parameters
    ----------
    path : path
        What `save` has written, or `export` as ``.onnx`` or ``.xml``. For features: a saved
        classifier, or an exported `FeatureExtractor`.
    what : {"probabilities", "labels", "features"}
        The columns that are returned, all of n rows: "labels": `label`, the most probable one, and
        `probability`, float32 in [0, 1]; "probabilities": these and `probabilities`, float32 of
        shape (n, n_classes), in the order of `classes_`; "features": `features`, float32 of shape
        (n, n_features). Beside them always `error`.
    column : str, optional
        The column of images; by default the first that there is of "image", "bytes" and "path".
    prefix : str
        What the names of returned columns begin with.
    engine : str
        As in `load_exported`; for a saved classifier as in `TransferClassifier`.
    batch_size : int
        Images run at once; the next are read meanwhile.
    n_threads : int, optional
        Processor cores that an exported model uses; by default all.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), or None for features
    n_outputs_ : int
        The number of classes, or of features.
    image_shape_ : (height, width, 3)
    fingerprint_ : str
        The SHA-256 of the model's file.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError, ImportError
        If it is no model, or none for `what`; as `load` and `load_exported`.

    Examples
    --------
    >>> import tempfile
    >>> from tlclassify import BatchPredictor, TransferClassifier, save
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(60, random_state=0)
    >>> clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(clf, f"{folder}/shapes.tlc")
    ...     predict = BatchPredictor(f"{folder}/shapes.tlc", what="labels", engine="keras")
    >>> found = predict({"image": [X[0], None], "row": [0, 1]})
    >>> [*found], found["error"].tolist()
    (['row', 'label', 'probability', 'error'], [None, 'image[1]: no picture; received a NoneType'])
    """

    def __init__(
        self,
        path: str | Path,
        *,
        what: str = PROBABILITIES,
        column: str | None = None,
        prefix: str = "",
        engine: str = AUTO,
        batch_size: int = 64,
        n_threads: int | None = None,
    ) -> None:
        check_parameters(
            ("what", what, WHATS),
            ("batch_size", batch_size, COUNT),
            ("n_threads", n_threads, Interval(1, integer=True, optional=True)),
        )
        self.path, self.what, self.column, self.prefix = Path(path).absolute(), what, column, prefix
        self.engine, self.batch_size, self.n_threads = engine, batch_size, n_threads
        self.fingerprint_ = files.digest_file(self.path)
        self._model: Any = None
        model = self._open()
        self.image_shape_: tuple[int, int, int] = model.image_shape_
        self.classes_ = None if what == FEATURES else model.classes_
        self.n_outputs_: int = model.n_features_ if what == FEATURES else len(model.classes_)

    def __call__(self, batch: Any) -> Any:
        """Return what is found on the images of a batch, beside its other columns.

        Parameters
        ----------
        batch : mapping of columns, or frame of pandas, polars or Arrow
            Its images are paths, encoded bytes, PIL images, what Hugging Face datasets have for
            them, or pixels: of one shape or of many, uint8 or in the range seen in `fit`. Those
            that are not of `image_shape_` are brought to it, as files are.

        Returns
        -------
        dict of str to ndarray, or pandas.DataFrame of one
            The batch without its images, except paths, and with the columns of `what`. `error` is
            None, or why the image could not be read, and there is then no label, and NaN.

        Raises
        ------
        ValueError
            If there is no column of images, or one has the name of a column that is returned; or,
            in another process, if the model's file has changed.
        """
        names = [*map(str, getattr(batch, "column_names", getattr(batch, "columns", batch)))]
        column = self.column or next((name for name in _IMAGE_COLUMNS if name in names), None)
        if column not in names:
            raise ValueError(
                f"column must be one of {listed(names)}; received {self.column!r}."
                f"{close_match_hint(column, names)}"
            )
        images = batch[column]
        images = images.to_pylist() if hasattr(images, "to_pylist") else list(images)
        is_paths = any(isinstance(image, str | PathLike) for image in images)
        kept = [name for name in names if name != column or is_paths]
        parts = [*self.predict_batches(images, name=column)]
        found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if again := found.keys() & {*kept}:
            raise ValueError(
                f"prefix must keep what is returned apart from the columns {listed(kept)}; "
                f"received {self.prefix!r}, which makes {listed(sorted(again))}. Pass "
                "prefix='predicted_'."
            )
        if hasattr(batch, "assign"):
            cells = {name: [*x] if x.ndim > 1 else x for name, x in found.items()}
            return batch[kept].assign(**cells)
        return {name: batch[name] for name in kept} | found

    def predict_batches(
        self, images: Sequence[Any], *, name: str = "image", root: str | Path = ""
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the columns of `what` for each `batch_size` images, in order.

        Parameters
        ----------
        images : sequence
            As in a column of a batch.
        name : str
            What errors call it.
        root : path
            The folder from which relative paths lead.
        """
        model = self._open()
        rows = _Rows(
            images, name, Path(root), model.image_shape_, model.pixel_range_, self._framing
        )
        run = model.transform if self.what == FEATURES else model.predict_proba
        for pixels, errors in read_batches(rows, self.batch_size):
            good = [row for row, error in enumerate(errors) if error is None]
            values = np.full((len(errors), self.n_outputs_), np.nan, dtype=np.float32)
            if good:
                values[good] = run(np.stack(pixels))
            found: dict[str, NDArray[Any]] = {self.what: values}
            if self.classes_ is not None:
                labels = np.full(len(errors), None, dtype=object)
                labels[good] = self.classes_[values[good].argmax(axis=1)].astype(object)
                found = {"label": labels, "probability": values.max(axis=1)}
                found |= {self.what: values} if self.what == PROBABILITIES else {}
            found["error"] = np.array(errors, dtype=object)
            yield {f"{self.prefix}{key}": column for key, column in found.items()}

    def _open(self) -> Any:
        """Return the model, which is loaded at the first call after an unpickling."""
        if self._model is not None:
            return self._model
        if files.digest_file(self.path) != self.fingerprint_:
            raise ValueError(
                f"path must name the file that the job began with; {str(self.path)!r} is another "
                "one by now. Put it back, or begin a new job."
            )
        if self.path.suffix in _EXPORTS:
            options: Any = {"batch_size": self.batch_size, "n_threads": self.n_threads}
            model = load_exported(self.path, engine=self.engine, **options)
            if (self.what == FEATURES) != hasattr(model, "transform"):
                fitting = (FEATURES,) if self.what != FEATURES else (PROBABILITIES, LABELS)
                check_choice("what", self.what, fitting)
            self._framing = Framing(model.metadata_.aspect, model.metadata_.fill)
        else:
            model = self._load_saved()
            self._framing = model.blueprint_.framing
        self._model = model
        return model

    def _load_saved(self) -> Any:
        """Return a saved classifier, or the extractor of its features."""
        from tlclassify.persistence.saving import load

        if self.n_threads is not None:
            raise ValueError(
                "n_threads must be None for a saved classifier, which Keras runs; received "
                f"{self.n_threads}. Export it to .onnx or .xml first."
            )
        clf = load(self.path).set_params(engine=self.engine, batch_size=self.batch_size, verbose=0)
        if self.what != FEATURES:
            return clf
        from tlclassify.estimators.extractor import FeatureExtractor

        return FeatureExtractor.from_classifier(clf)

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle keeps: all but the model."""
        return self.__dict__ | {"_model": None}


@dataclass(frozen=True)
class _Rows:
    """A column of images, each of which is read or has an error of its own."""

    images: Sequence[Any]
    name: str
    root: Path
    image_shape: tuple[int, int, int]
    pixel_range: int
    framing: Framing

    def __len__(self) -> int:
        return len(self.images)

    def read(self, start: int, stop: int) -> tuple[list[NDArray[np.uint8]], list[str | None]]:
        """Return the images of some rows that can be read, and the error of each row or None."""
        rows = range(start, min(stop, len(self)))
        found, _ = files.read_files(self._read_row, rows)
        errors = [str(image) if isinstance(image, Exception) else None for image in found]
        return [image for image in found if isinstance(image, np.ndarray)], errors

    def _read_row(self, row: int) -> NDArray[np.uint8] | Exception:
        image, name = self.images[row], f"{self.name}[{row}]"
        try:
            if isinstance(image, str | PathLike):
                image = self.root / image
            elif not isinstance(image, bytes | Mapping | Image.Image) and np.ndim(image):
                X = np.asarray(image)
                if isinstance(image, list) and X.dtype == int and 0 <= X.min() <= X.max() <= 255:
                    X = X.astype(np.uint8)  # lists do not say what they hold
                source = open_images(X[None], pixel_range=self.pixel_range, name=name)
                pixels = source.read(0, 1)[0]
                if pixels.shape == self.image_shape:
                    return pixels
                image = Image.fromarray(pixels)
            if not isinstance(image, PathLike):
                image = Picture(self.name, {row: image}, row)
            return files.read_image(image, size=self.image_shape[:2], framing=self.framing)
        except (OSError, ValueError, TypeError) as error:
            return error
