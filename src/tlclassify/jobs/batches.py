"""A saved or exported classifier that takes the batches of other libraries."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlclassify._checks import files
from tlclassify._checks.images import Picture
from tlclassify._checks.parameters import (
    COUNT,
    check_choice,
    check_column,
    check_parameters,
    column_names,
    listed,
)
from tlclassify.engines.runtimes import AUTO
from tlclassify.inputs.images import open_images, read_batches
from tlclassify.persistence.exported import SUFFIXES, load_exported

PROBABILITIES, _, FEATURES = WHATS = ("probabilities", "labels", "features")
_IMAGE_COLUMNS = ("image", "bytes", "path")


@dataclass(eq=False)
class BatchPredictor:
    """A classifier for Ray Data, Hugging Face datasets, pandas and loops: batches in, columns out.

    It can be pickled. Where it arrives, the model is loaded from `path` again, which must be the
    same file; an exported one needs no Keras.

    Parameters
    ----------
    path : path
        What `save` has written, or `export` as ``.onnx`` or ``.xml``. For features: a saved
        classifier, or an exported `FeatureExtractor`.
    what : {"probabilities", "labels", "features"}
        The columns that are returned: "labels": `label`, the most probable one, and `probability`,
        in [0, 1]; "probabilities": these and `probabilities`, of shape (n, n_classes), in the order
        of `classes_`; "features": `features`, of shape (n, n_features); all numbers float32.
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
    OSError, ValueError, ImportError
        If there is no such file, or it is no model, or none for `what`; as `load_exported`.

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

    path: str | Path
    _: KW_ONLY
    what: str = PROBABILITIES
    column: str | None = None
    prefix: str = ""
    engine: str = AUTO
    batch_size: int = 64
    n_threads: int | None = None

    def __post_init__(self) -> None:
        check_parameters(("what", self.what, WHATS), ("batch_size", self.batch_size, COUNT))
        self.path = Path(self.path).absolute()
        _ = self._model

    def __call__(self, batch: Any) -> Any:
        """Return what is found on the images of a batch, beside its other columns.

        Parameters
        ----------
        batch : mapping of columns, or frame of pandas, polars or Arrow
            Its images are paths, encoded bytes, PIL images, what Hugging Face datasets have for
            them, or pixels, uint8 or in the range seen in `fit`, of any shape: those that are not
            of `image_shape_` are brought to it, as files are.

        Returns
        -------
        dict of str to ndarray, or pandas.DataFrame of one
            The batch without its images, except paths, and the columns of `what`. Its `error` is
            None, or why an image could not be read, which then has no label, and NaN.

        Raises
        ------
        ValueError
            If there is no column of images, or one has the name of a column that is returned; or,
            in another process, if the model's file has changed.
        """
        names = column_names(batch)
        names = [*(batch if names is None else names)]
        column = self.column or next((name for name in _IMAGE_COLUMNS if name in names), "path")
        check_column("column", column, names)
        images = batch[column]
        images = images.to_pylist() if hasattr(images, "to_pylist") else list(images)
        is_paths = any(isinstance(image, str | PathLike) for image in images)
        kept = [name for name in names if name != column or is_paths]
        found = self.predict_columns(images, name=column)
        if again := found.keys() & {*kept}:
            raise ValueError(
                f"prefix must keep what is returned apart from {listed(sorted(again))} of the "
                f"batch; received {self.prefix!r}. Pass prefix='predicted_'."
            )
        if hasattr(batch, "assign"):
            cells = {name: [*x] if x.ndim > 1 else x for name, x in found.items()}
            return batch[kept].assign(**cells)
        return {name: batch[name] for name in kept} | found

    def predict_columns(
        self,
        images: Sequence[Any],
        *,
        name: str = "image",
        root: str | Path = "",
        progress: Any = None,
    ) -> dict[str, NDArray[Any]]:
        """Return the columns of `what` for images as in a column of a batch.

        Errors call that `name`; relative paths lead from `root`; a bar's `update` is told of
        `progress`.
        """
        model = self._model
        rows = _Rows(model, images, name, Path(root))
        run = model.transform if self.what == FEATURES else model.predict_proba
        values, errors = list[NDArray[np.float32]](), list[str | None]()
        for pixels, of_rows in read_batches(rows, self.batch_size):
            part = np.full((len(of_rows), self.n_outputs_), np.nan, dtype=np.float32)
            if pixels:
                part[[error is None for error in of_rows]] = run(np.stack(pixels))
            values.append(part)
            errors += of_rows
            if progress is not None:
                progress.update(len(of_rows))
        outputs = np.concatenate(values)
        found: dict[str, NDArray[Any]] = {self.what: outputs}
        if self.classes_ is not None:
            labels = np.full(len(errors), None, dtype=object)
            good = np.array([error is None for error in errors], dtype=bool)
            labels[good] = self.classes_[outputs[good].argmax(axis=1)].astype(object)
            found = {"label": labels, "probability": outputs.max(axis=1)}
            found |= {self.what: outputs} if self.what == PROBABILITIES else {}
        found["error"] = np.array(errors, dtype=object)
        return {f"{self.prefix}{key}": column for key, column in found.items()}

    @cached_property
    def _model(self) -> Any:
        """The model, which is loaded again after an unpickling."""
        path, digest = Path(self.path), files.digest_file(self.path)
        # When it is made, there is none to keep to.
        self.fingerprint_: str = vars(self).get("fingerprint_", digest)
        if digest != self.fingerprint_:
            raise ValueError(
                f"path must name the file that it was made with; {str(path)!r} is another one "
                "by now. Put it back, or begin anew."
            )
        if path.suffix in SUFFIXES:
            options: Any = {"batch_size": self.batch_size, "n_threads": self.n_threads}
            model = load_exported(path, engine=self.engine, **options)
            is_extractor = hasattr(model, "transform")
            check_choice("what", self.what, WHATS[2:] if is_extractor else WHATS[:2])
        else:
            if self.n_threads is not None:
                raise ValueError(
                    "n_threads must be None for a saved classifier, which Keras runs; received "
                    f"{self.n_threads}. Export it to .onnx or .xml first."
                )
            from tlclassify.persistence.saving import load

            options = {"batch_size": self.batch_size, "engine": self.engine, "verbose": 0}
            model = load(path).set_params(**options)
            if self.what == FEATURES:
                from tlclassify.estimators.extractor import FeatureExtractor

                model = FeatureExtractor.from_classifier(model)
        self.image_shape_: tuple[int, int, int] = model.image_shape_
        self.classes_ = None if self.what == FEATURES else model.classes_
        self.n_outputs_: int = model.n_features_ if self.classes_ is None else len(self.classes_)
        return model

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle keeps: parameters and fingerprint, a kilobyte for any model."""
        return {key: getattr(self, key) for key in (*self.__dataclass_fields__, "fingerprint_")}


@dataclass(frozen=True)
class _Rows:
    """A column of images, each of which is read or has an error of its own."""

    model: Any
    images: Sequence[Any]
    name: str
    root: Path

    def __len__(self) -> int:
        return len(self.images)

    def read(self, start: int, stop: int) -> tuple[list[NDArray[np.uint8]], list[str | None]]:
        """Return the images of some rows that can be read, and the error of each row or None."""
        rows = range(start, min(stop, len(self)))
        found, _ = files.read_files(self._read_row, rows)
        errors = [str(image) if isinstance(image, Exception) else None for image in found]
        return [image for image in found if isinstance(image, np.ndarray)], errors

    def _read_row(self, row: int) -> NDArray[np.uint8] | Exception:
        model, image, name = self.model, self.images[row], f"{self.name}[{row}]"
        try:
            if isinstance(image, str | PathLike):
                image = self.root / image
            elif not isinstance(image, bytes | Mapping | Image.Image) and np.ndim(image):
                X = np.asarray(image)
                if isinstance(image, list) and X.dtype == int and 0 <= X.min() <= X.max() <= 255:
                    X = X.astype(np.uint8)  # lists do not say what they hold
                source = open_images(X[None], pixel_range=model.pixel_range_, name=name)
                pixels: NDArray[np.uint8] = source.read(0, 1)[0]
                if pixels.shape == model.image_shape_:
                    return pixels
                image = Image.fromarray(pixels)
            if not isinstance(image, PathLike):
                image = Picture(self.name, {row: image}, row)
            framing = getattr(model, "framing_", None) or model.blueprint_.framing
            return files.read_image(image, size=model.image_shape_[:2], framing=framing)
        except (OSError, ValueError, TypeError) as error:
            return error
