"""A fitted classifier as a file for other runtimes: raw images to probabilities."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from tlclassify._validation import check_choice
from tlclassify.backbones import get_backbone
from tlclassify.classifier import TransferClassifier
from tlclassify.converters import FORMATS, Batches, Format, check_packages
from tlclassify.export_metadata import METADATA_FILE, ExportMetadata
from tlclassify.fitted import check_fitted
from tlclassify.images import read_batches, reopen_images
from tlclassify.portable import build_portable

__all__ = ["export"]

_BATCH_SIZE = 32


def export(
    clf: TransferClassifier,
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002 - Keras's word
    precision: str = "float32",
    calibration_images: Any = None,
) -> Path:
    """Write a fitted classifier for other runtimes: raw uint8 images to probabilities.

    The file holds the class names and the image size too, so `load_exported` needs nothing else.
    It appears under its name only when it is whole.

    Parameters
    ----------
    clf : TransferClassifier
        Fitted; it stays as it is.
    path : path
        Where to: ``.onnx`` for ONNX, ``.xml`` for OpenVINO (a ``.bin`` file comes to lie beside
        it), ``.tflite`` for LiteRT, a folder for a SavedModel.
    format : {"onnx", "openvino", "litert", "saved_model"}, optional
        By default what the path ends in says.
    precision : {"float32", "float16", "int8"}, default "float32"
        In which weights are kept. float16 halves the file and is computed in float32. int8 is
        computed in, too: smaller and faster still, at a cost in accuracy that is to be measured.
        ONNX and LiteRT have all three, OpenVINO the first two, a SavedModel the first.
    calibration_images : array-like, optional
        For int8: images as for `fit`, a hundred or more, from which the range of values inside
        the network is measured. Training images will do.

    Returns
    -------
    Path
        Of what was written.

    Raises
    ------
    TypeError
        If `clf` is no TransferClassifier.
    sklearn.exceptions.NotFittedError
        If it has not been fitted.
    ValueError
        If a parameter is not as above; or the network computes in less than float32.
    ImportError
        If the format needs a package that is not installed.
    RuntimeError
        If Keras does not run on TensorFlow, whose graph is what is converted.
    OSError
        If the file cannot be written; what there was under the name is left as it is.

    Examples
    --------
    >>> import tempfile
    >>> from tlclassify import TransferClassifier, export
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(60, random_state=0)
    >>> clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X, y)
    >>> export(clf, tempfile.mkdtemp() + "/shapes.onnx").name  # doctest: +SKIP
    'shapes.onnx'
    """
    check_fitted(clf)
    path = Path(path)
    chosen = _check_format(format, path)
    check_choice("precision", precision, chosen.precisions)
    _check_backend()
    _check_packages(chosen, precision)
    images = _open_calibration(clf, calibration_images, precision)
    metadata = _describe(clf, precision)
    portable = build_portable(clf.model_)
    with _written_whole(path) as draft:
        chosen.write(portable, draft, metadata, images)
    return path


def _check_format(name: str | None, path: Path) -> Format:
    rows = {row.name: row for row in FORMATS}
    if name is None:
        name = next((row.name for row in FORMATS if row.suffix == path.suffix), None)
        if name is None:
            raise ValueError(
                f"path must end in {', '.join(row.suffix for row in FORMATS if row.suffix)}, or in "
                f"nothing for the folder of a SavedModel; received {str(path)!r}. Or pass format=."
            )
    row = rows[check_choice("format", name, tuple(rows))]
    if row.suffix and path.suffix != row.suffix:
        raise ValueError(
            f"path must end in {row.suffix} for format={name!r}; received {str(path)!r}. Pass "
            f"{path.with_suffix(row.suffix).name!r}."
        )
    return row


def _check_backend() -> None:
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            f"export needs Keras on TensorFlow, whose graphs it converts; received the backend "
            f"{backend!r}. Save the classifier here, and export it in a process with "
            "KERAS_BACKEND=tensorflow."
        )


def _check_packages(chosen: Format, precision: str) -> None:
    # ONNX Runtime is what measures the ranges and writes the quantized graph.
    quantizes = chosen.name == "onnx" and precision == "int8"
    packages = (*chosen.packages, "onnxruntime") if quantizes else chosen.packages
    check_packages(packages, f"format={chosen.name!r}")


def _open_calibration(clf: TransferClassifier, X: Any, precision: str) -> Batches | None:
    if precision != "int8":
        return None
    if X is None:
        raise ValueError(
            "calibration_images must be images for precision='int8'; received None. Pass a "
            "hundred or more of those that clf was fitted on."
        )
    name = "calibration_images"
    source = reopen_images(X, clf.image_shape_, clf.pixel_range_, name=name)
    return lambda: read_batches(source, _BATCH_SIZE)


def _describe(clf: TransferClassifier, precision: str) -> ExportMetadata:
    row = get_backbone(clf.backbone)
    return ExportMetadata(
        classes=clf.classes_,
        image_shape=clf.image_shape_,
        pixel_range=clf.pixel_range_,
        backbone=row.name,
        weights_licence=row.licence if clf.weights == "pretrained" else "",
        precision=precision,
        version=version("tlclassify"),
    )


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """Give a name in a folder beside `path`; what was written there moves in when all went well."""
    if path.is_dir() and not (path / "assets.extra" / METADATA_FILE).is_file():
        raise IsADirectoryError(
            f"path must name what is not there yet, or was exported before; received the folder "
            f"{str(path)!r}, which holds something else."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    folder.mkdir()
    try:
        draft = folder / path.name
        yield draft
        weights = draft.with_suffix(".bin")
        # The file that knows of the other comes last.
        for file in (weights, draft) if weights.is_file() else (draft,):
            _replace(file, path.with_name(file.name), folder / "before")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(new: Path, old: Path, aside: Path) -> None:
    if old.is_dir():
        old.rename(aside)
    new.replace(old)
