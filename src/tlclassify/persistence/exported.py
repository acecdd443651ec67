"""An exported classifier, without Keras: its graph, its class names and image size."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlclassify._checks.files import digest_file
from tlclassify._checks.images import Framing
from tlclassify._checks.parameters import (
    COUNT,
    COUNT_OR_NONE,
    check_labels,
    check_parameters,
    check_sample_weight,
)
from tlclassify.engines.metadata import ExportMetadata, read_metadata
from tlclassify.engines.runtimes import AUTO, Engine, open_engine
from tlclassify.inputs.images import ImageSource, read_batches, reopen_images

SUFFIXES = {".onnx", ".xml"}


class _Exported:
    """A graph that an engine runs, and what its file says of it."""

    def __init__(self, metadata: ExportMetadata, *, engine: Engine, batch_size: int = 32) -> None:
        self.metadata_ = metadata
        self.image_shape_, self.pixel_range_ = metadata.image_shape, metadata.pixel_range
        self.framing_ = Framing(metadata.aspect, metadata.fill)
        self.engine_, self.batch_size, self._engine = engine.name, batch_size, engine
        if metadata.n_features:
            self.n_features_ = metadata.n_features
        else:
            self.classes_ = metadata.labels

    def __repr__(self) -> str:
        (height, width, _), n_features = self.image_shape_, self.metadata_.n_features
        found = f"{n_features} features" if n_features else f"{len(self.metadata_.labels)} classes"
        return (
            f"<{type(self).__name__} of {self.metadata_.backbone!r}: {found}, "
            f"images of {height}x{width}, on {self.engine_}>"
        )

    def _open(self, X: Any) -> ImageSource:
        return reopen_images(X, self.image_shape_, self.pixel_range_, self.framing_)

    def _run(self, X: Any) -> NDArray[np.float32]:
        batches = read_batches(self._open(X), self.batch_size)
        return np.concatenate([self._engine.predict_on_batch(batch) for batch in batches])


class ExportedClassifier(_Exported):
    """A fitted classifier that is run by ONNX Runtime or OpenVINO; made by `load_exported`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels; columns of `predict_proba` are in this order.
    image_shape_ : (height, width, 3)
        What arrays must have; files are brought to it.
    pixel_range_ : {255, 1}
        The value of white in floating-point pixels.
    framing_ : record
        How files that are not square are brought to it.
    metadata_ : ExportMetadata
        All that the file says of itself, the backbone and its licence too.
    engine_ : {"openvino", "openvino_bfloat16", "onnxruntime"}
    batch_size : int
    """

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return class probabilities, float32 of shape (n, n_classes); rows sum to 1.

        Parameters
        ----------
        X : array-like
            Pixels of shape (n, h, w), (n, h, w, 1) or (n, h, w, 3), uint8 in [0, 255] or
            floating point in the range seen in `fit`; or n file paths.
        """
        return self._run(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each image of `predict_proba`, shape (n,)."""
        labels: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the share of images, in [0, 1], whose label is predicted.

        Parameters
        ----------
        X, y, sample_weight : array-like
            Images as for `predict_proba`, labels of the type of `classes_`, weights from 0 on.
        """
        n_samples = len(self._open(X))
        labels, weights = check_labels(y, n_samples=n_samples), None
        if sample_weight is not None:
            weights = check_sample_weight(sample_weight, n_samples=n_samples)
        if (labels.dtype.kind == "U") != (self.classes_.dtype.kind == "U"):
            raise TypeError(
                f"y must hold labels of the type of classes_, {self.classes_.dtype}; received "
                f"{labels.dtype}. Convert them with numpy.asarray(y).astype(...)."
            )
        return float(np.average(self.predict(X) == labels, weights=weights))


class ExportedExtractor(_Exported):
    """A fitted feature extractor that is run by an engine; made by `load_exported`.

    Attributes
    ----------
    n_features_ : int
        Width of an embedding.
    image_shape_, pixel_range_, framing_, metadata_, engine_, batch_size
        As in `ExportedClassifier`.
    """

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the embeddings, float32 of shape (n, n_features_), of images as for `fit`."""
        return self._run(X)


def load_exported(
    path: str | Path, *, engine: str = AUTO, batch_size: int = 32, n_threads: int | None = None
) -> Any:
    """Load what `export` has written, as its example shows, without Keras and TensorFlow.

    ``pip install --no-deps tlclassify`` with ``numpy pillow msgspec onnxruntime`` is enough.

    Parameters
    ----------
    path : path
        An ``.onnx`` file; or the ``.xml`` file of OpenVINO with its ``.bin`` file beside it.
    engine : {"auto", "openvino", "openvino_bfloat16", "onnxruntime"}
        What runs it; "auto": OpenVINO where it is installed, which runs both kinds of files, else
        ONNX Runtime. bfloat16 needs a processor that has it.
    batch_size : int
        Images run through the graph at once.
    n_threads : int, optional
        Processor cores that it uses; by default all.

    Returns
    -------
    ExportedClassifier or ExportedExtractor
        As `export` was given one or the other.

    Raises
    ------
    FileNotFoundError, ImportError
        If there is no such file, or it lacks the one that belongs to it; if there is no engine.
    ValueError
        If it is none that `export` has written, or a parameter is not as above.
    """
    path = Path(path)
    check_parameters(
        ("batch_size", batch_size, COUNT),
        ("n_threads", n_threads, COUNT_OR_NONE),
    )
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"path must end in .onnx or .xml; received {str(path)!r}. LiteRT files and SavedModel "
            "folders are run by their own runtimes."
        )
    *_, last = files = list_files(path)
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"path: there is no file {str(file)!r}.")
    opened = open_engine(path, engine=engine, n_threads=n_threads)
    metadata = read_metadata(opened.metadata, path=path)
    said = (metadata.image_shape, (metadata.n_features or len(metadata.labels),))
    found = (opened.inputs[0][1:], opened.outputs[0][1:])
    if said != found:
        raise ValueError(
            f"path: {str(path)!r} says that it maps images {said[0]} to classes {said[1]}, but "
            f"its graph maps {found[0]} to {found[1]}. Export it again."
        )
    if last != path and metadata.digest != digest_file(last):
        raise ValueError(
            f"path: {str(last)!r} does not belong to {str(path)!r}, or is damaged. Keep the two "
            "together, or export again."
        )
    kind = ExportedExtractor if metadata.n_features else ExportedClassifier
    return kind(metadata, engine=opened, batch_size=batch_size)


def list_files(path: Path) -> list[Path]:
    """Return the files of an export: OpenVINO's ``.xml`` has its weights beside it."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
