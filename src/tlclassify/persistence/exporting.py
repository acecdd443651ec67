"""A fitted classifier as a file for other runtimes: raw images to probabilities."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from tlclassify._checks.files import digest_file
from tlclassify._checks.parameters import check_choice
from tlclassify.analysis.evaluate import list_versions
from tlclassify.engines.converters import FORMATS, Format, check_format
from tlclassify.engines.metadata import METADATA_FILE, ExportMetadata, encode_labels_as_json
from tlclassify.estimators.classifier import TransferClassifier, check_fitted
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.inputs.images import read_batches, reopen_images
from tlclassify.persistence.exported import list_files


def export(
    clf: TransferClassifier | FeatureExtractor,
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002 - Keras's word
    precision: str = "float32",
    calibration_images: Any = None,
) -> Path:
    """Write a fitted classifier for other runtimes: raw uint8 images to probabilities.

    Of an extractor: to embeddings. The file holds the class names and the image size too, so
    `load_exported` needs nothing else. It takes the place of an older export only when it is
    whole; what a process killed at that moment had moved aside is in a hidden folder, ``.*.tmp``.

    Parameters
    ----------
    clf : TransferClassifier or FeatureExtractor
        Fitted.
    path : path
        Ends in ``.onnx`` for ONNX, in ``.xml`` for OpenVINO, which puts a ``.bin`` file beside it,
        in ``.tflite`` for LiteRT; a SavedModel is a folder.
    format : {"onnx", "openvino", "litert", "saved_model"}, optional
        By default as the path ends.
    precision : {"float32", "float16", "int8"}
        In which weights are kept. float16 halves the file and is computed in float32. int8 is
        computed in, too: smaller and faster still, at a cost in accuracy that is to be measured.
        ONNX and LiteRT have all three, OpenVINO the first two, a SavedModel the first.
    calibration_images : array-like, optional
        For int8, and only for it: images as for `fit`, a hundred or more, from which the range of
        values inside the network is measured. Training images will do.

    Raises
    ------
    TypeError, NotFittedError, ValueError
        If a parameter is not as above, or the network cannot be exported so.
    ImportError
        If the format needs a package that is not installed, a later Keras or another backend.
    OSError
        If the file cannot be written, or would replace what is not from an export.

    Examples
    --------
    >>> from tlclassify import TransferClassifier, export, load_exported
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(60, random_state=0)
    >>> clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X, y)
    >>> path = export(clf, "shapes.onnx")  # doctest: +SKIP
    >>> load_exported(path).predict(X[:2])  # doctest: +SKIP
    """
    is_extractor = isinstance(clf, FeatureExtractor)
    check_is_fitted(clf, "model_") if is_extractor else check_fitted(clf)
    path, framing, images = Path(path), clf.blueprint_.framing, None
    chosen = _choose_format(format, path)
    check_choice("precision", precision, chosen.precisions)
    # ONNX Runtime is what measures the ranges and writes the quantized graph.
    quantizer = ("onnxruntime",) if (chosen.name, precision) == ("onnx", "int8") else ()
    check_format(chosen, f"format={chosen.name!r}", also=quantizer)
    if (calibration_images is None) == (precision == "int8"):
        raise ValueError(
            "calibration_images must be images for precision='int8', a hundred or more of those "
            "that clf was fitted on, and None for any other; received "
            f"{type(calibration_images).__name__} for precision={precision!r}."
        )
    if calibration_images is not None:
        name, shape = "calibration_images", clf.image_shape_
        source = reopen_images(calibration_images, shape, clf.pixel_range_, framing, name=name)
        images = partial(read_batches, source, clf.batch_size)
    labels, dtype_name = ([], "") if is_extractor else encode_labels_as_json(clf.classes_)
    metadata = ExportMetadata(
        classes=labels,
        classes_dtype=dtype_name,
        n_features=clf.n_features_ if is_extractor else 0,
        image_shape=clf.image_shape_,  # type: ignore[arg-type]
        pixel_range=clf.pixel_range_,  # type: ignore[arg-type]
        aspect=framing.aspect,  # type: ignore[arg-type]
        fill=framing.fill,
        backbone=clf.blueprint_.backbone_name,
        weights_licence=clf.blueprint_.weights_licence,
        precision=precision,
        version=list_versions()["tlclassify"],
    )
    with put_in_place(path, is_folder=not chosen.suffix) as draft:
        chosen.write(clf.model_, draft, metadata, images)
    return path


def _choose_format(name: str | None, path: Path) -> Format:
    """Return the format of this name, or the one whose files end as the path does."""
    by_name = {row.name: row for row in FORMATS}
    by_suffix = {row.suffix: row for row in FORMATS}
    row = by_suffix.get(path.suffix)
    if name is not None:
        row = by_name[check_choice("format", name, [*by_name])]
    if row is None or row.suffix not in {"", path.suffix}:
        raise ValueError(
            f"path must end in {', '.join(filter(None, by_suffix))}, or in nothing for the folder "
            f"of a SavedModel, as its format does; received {str(path)!r} for format={name!r}."
        )
    return row


@contextmanager
def put_in_place(path: Path, *, is_folder: bool) -> Iterator[Path]:
    """Yield where to write an export; it takes the place of an older one when it is whole."""
    parts = [path] if is_folder else list_files(path)
    _check_place(path, parts, is_folder=is_folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    drafts = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    new, old = drafts / "new", drafts / "old"
    new.mkdir()
    old.mkdir()
    moves = [(new / part.name, part) for part in parts]
    if is_folder or len(parts) > 1:
        # A folder, or an .xml with its .bin, takes several steps: the old parts go, the weights
        # first, and the new ones come, the weights last. So no two files that do not belong
        # together are ever there under their names, whenever the process is killed.
        there = [part for part in reversed(parts) if part.exists()]
        moves = [(part, old / part.name) for part in there] + moves
    begun = []
    try:
        yield new / path.name
        for source, target in moves:
            # Where a file is replaced, there is no way back, and no need of one.
            if not target.exists():
                begun.append((source, target))
            source.replace(target)
    except BaseException:
        for source, target in reversed(begun):
            if target.exists() and not source.exists():
                target.replace(source)
        # What could not be put back stays where it is.
        if not any(old.iterdir()):
            shutil.rmtree(drafts, ignore_errors=True)
        raise
    shutil.rmtree(drafts, ignore_errors=True)


def _check_place(path: Path, parts: list[Path], *, is_folder: bool) -> None:
    """Check that nothing would be replaced but an older export, or one file of this name."""
    obstacle = None
    if is_folder or path.is_dir():
        is_export = is_folder and (path / "assets.extra" / METADATA_FILE).is_file()
        obstacle = path if path.exists() and not is_export else None
    else:
        # The first of a pair knows the digest of the second.
        known = path.read_bytes() if path.is_file() else b""
        for file in parts[1:]:
            if file.exists() and not (file.is_file() and digest_file(file).encode() in known):
                obstacle = file
    if obstacle is not None:
        raise FileExistsError(
            f"path must name what is not there yet, or an older export; received {str(path)!r}, "
            f"which would replace {str(obstacle)!r}. Choose another name, or move that away."
        )
