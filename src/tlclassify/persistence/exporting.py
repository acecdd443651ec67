"""A fitted classifier as a file for other runtimes: raw images to probabilities."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from tlclassify._checks.parameters import check_choice
from tlclassify.engines.converters import FORMATS, Batches, Format, check_keras, check_packages
from tlclassify.engines.metadata import ExportMetadata
from tlclassify.engines.portable import build_portable
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.estimators.fitted import check_fitted
from tlclassify.inputs.images import read_batches, reopen_images
from tlclassify.persistence.export_files import put_in_place

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
    It appears under its name only when it is whole, and replaces an older export only then. A
    process that is killed while it replaces a folder, or one pair of ``.xml`` and ``.bin`` by
    another, leaves no mixture of the two: what it had moved aside is in a folder beside them whose
    name begins with a dot and ends in ``.before``.

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
        For int8, and only for it: images as for `fit`, a hundred or more, from which the range of
        values inside the network is measured. Training images will do.

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
        If a parameter is not as above; or the network computes in less than float32, crops or pads
        while it resizes, or has nothing that ONNX would compute in int8.
    ImportError
        If the format needs a package that is not installed, or a later Keras.
    RuntimeError
        If Keras does not run on TensorFlow, whose graph is what is converted.
    OSError
        If the file cannot be written, or would replace what is not from an export: a folder, or
        a ``.bin`` file beside an ``.xml``. What there was is left as it is.

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
    with put_in_place(path, is_folder=not chosen.suffix) as draft:
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
    check_keras(chosen, f"format={chosen.name!r}")


def _open_calibration(clf: TransferClassifier, X: Any, precision: str) -> Batches | None:
    if precision != "int8":
        if X is not None:
            raise ValueError(
                f"calibration_images must be None for precision={precision!r}, which measures "
                f"nothing; received {type(X).__name__}. Leave them out, or pass precision='int8'."
            )
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
    blueprint = clf.blueprint_
    return ExportMetadata(
        classes=clf.classes_,
        image_shape=clf.image_shape_,
        pixel_range=clf.pixel_range_,
        backbone=blueprint.backbone_name,
        weights_licence=blueprint.weights_licence,
        precision=precision,
        version=version("tlclassify"),
    )
