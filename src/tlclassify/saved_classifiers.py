"""Fitted classifiers into files and out of them, held against what the files say."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import keras
import numpy as np

from tlclassify.backbones import get_backbone, list_backbones
from tlclassify.blueprints import Blueprint, answer_probe, build_again
from tlclassify.calibration import with_temperature
from tlclassify.classifier import TransferClassifier
from tlclassify.evaluation.origins import list_versions
from tlclassify.heads import Head, HeadBuilder, Statistics
from tlclassify.manifests import (
    FORMAT,
    FORMAT_VERSION,
    Manifest,
    encode_classes,
    encode_history,
    encode_members,
    member_name,
    parse_manifest,
)
from tlclassify.saved_files import (
    DAMAGE,
    check_members,
    create_archive,
    open_archive,
    parse_manifest_text,
    read_array,
    read_manifest,
    write_array,
    write_manifest,
)
from tlclassify.saved_parameters import SavedFunction, encode_parameters, encode_value

# The first leaves room for convolutions that a GPU computes in 19 bits.
_TOLERANCE, _TOLERANCE_OF_HALF_PRECISION = 0.01, 0.05
_SINGLE_PRECISION = ("float32", "float64")


def write_classifier(clf: TransferClassifier, file: BinaryIO) -> None:
    """Write a fitted classifier, an array at a time.

    Raises
    ------
    TypeError, ValueError
        If it has parameters that no file holds, or is beyond the limits of a file.
    """
    blueprint: Blueprint = clf._blueprint  # noqa: SLF001
    head = blueprint.head
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": list_versions(),
        "backbone": blueprint.backbone_name,
        "head": encode_value(head, name="head"),
        "image_size": blueprint.image_size,
        "dtype_policy": blueprint.dtype_policy,
        "parameters": encode_parameters(clf, backbone=blueprint.backbone_name),
        "classes": encode_classes(clf.classes_),
        "class_counts": clf._class_counts,  # noqa: SLF001
        "image_shape": list(clf.image_shape_),
        "pixel_range": clf.pixel_range_,
        "n_features": clf.n_features_,
        "temperature": clf.temperature_,
        "history": encode_history(clf.history_),
    }
    try:
        manifest["probe"] = answer_probe(clf.model_, clf.image_shape_).tolist()
        with create_archive(file) as archive:
            members = {
                name: write_array(archive, name, _values(variable))
                for name, variable in _list_arrays(clf).items()
            }
            content = write_manifest(archive, manifest | {"arrays": encode_members(members)})
        # What has been saved must load: the limits of a file hold here too.
        parse_manifest(parse_manifest_text(content))
    except (ValueError, zipfile.LargeZipFile) as error:
        raise ValueError(f"clf cannot be saved: {error}.") from error


def _list_arrays(clf: TransferClassifier) -> dict[str, Any]:
    """Return name: variable or array for all that a file holds."""
    layers = {layer.name: layer for layer in clf.head_.layers}
    parts: dict[str, list[Any]] = {"backbone": clf.backbone_.weights, "standardization": []}
    if isinstance(clf._blueprint.head, Head) and "standardization" in layers:  # noqa: SLF001
        layer = layers["standardization"]
        parts["standardization"] = [
            np.asarray(statistic, dtype=np.float32)
            for statistic in (layer.input_mean, layer.input_variance)
        ]
    parts["head"] = clf.head_.weights
    return {
        member_name(part, number): array
        for part, arrays in parts.items()
        for number, array in enumerate(arrays)
    }


def _values(variable: Any) -> Any:
    values = np.asarray(keras.ops.convert_to_numpy(variable))
    # NumPy has no bfloat16 of its own; float32 holds all its values.
    return values.astype(np.float32) if variable.dtype == "bfloat16" else values


@contextmanager
def _refusing(source: str) -> Iterator[None]:
    """Turn all that a bad file can cause into one kind of error."""
    try:
        yield
    except DAMAGE as error:
        raise ValueError(
            f"path must name a whole file that save wrote; {source} is none: {error}. Copy it "
            "again from where it is whole, or save it again."
        ) from error


def read_classifier(
    file: BinaryIO,
    source: str,
    *,
    head: HeadBuilder | None = None,
    blueprint: Blueprint | None = None,
) -> TransferClassifier:
    """Return the classifier in a file, once all about it has been checked.

    Parameters
    ----------
    file : binary file
    source : str
        What messages call it.
    head : callable, optional
        The function that built the head.
    blueprint : Blueprint, optional
        What is known of the networks from elsewhere; the file's word then does not count.

    Raises
    ------
    ValueError
        If there is anything wrong with the file.
    """
    with _refusing(source):
        archive = open_archive(file)
        manifest = parse_manifest(read_manifest(archive))
        check_members(archive, manifest.arrays)
    if blueprint is None:
        blueprint = _choose_blueprint(manifest, source, head)
    with _refusing(source):
        network, top = _build(manifest, blueprint, archive)
        clf = _assemble(manifest, blueprint, network, top)
        _check_answer(clf, manifest)
    return clf


def _choose_blueprint(manifest: Manifest, source: str, head: HeadBuilder | None) -> Blueprint:
    check_registered(manifest.backbone, source)
    if isinstance(manifest.head, SavedFunction) and head is None:
        raise ValueError(
            f"head must be the function that built the head of {source}, once "
            f"{manifest.head.name!r}; received None. Call load(path, head=function)."
        )
    if isinstance(manifest.head, Head) and head is not None:
        raise ValueError(
            f"head must be None for {source}, whose head is in the file; received a function. "
            "Call load(path)."
        )
    chosen = manifest.head if head is None else head
    return Blueprint(manifest.backbone, chosen, manifest.image_size, manifest.dtype_policy)  # type: ignore[arg-type]


def check_registered(name: str, source: str) -> None:
    """Check that a backbone can be built here.

    Raises
    ------
    ValueError
    """
    if name not in list_backbones():
        raise ValueError(
            f"{source} was saved with the backbone {name[:100]!r}, which is not registered here. "
            f"Call register_backbone(..., name={name[:100]!r}) with the same network first."
        )


def _build(
    manifest: Manifest, blueprint: Blueprint, archive: zipfile.ZipFile
) -> tuple[keras.Model, keras.Model]:
    """Build the networks and give them their weights."""
    row = get_backbone(blueprint.backbone)
    n_parameters = sum(manifest.arrays[name].n_values for name in manifest.part("backbone"))
    # Before the network takes memory: a small file must not name a large one.
    if row.n_parameters not in {None, n_parameters}:
        raise ValueError(
            f"it has {n_parameters:,} weights for the backbone {row.name!r} of {row.n_parameters:,}"
        )
    network, top = build_again(
        blueprint,
        image_shape=manifest.image_shape,
        n_classes=len(manifest.classes),
        statistics=_read_statistics(manifest, archive),
    )
    if network.output.shape[-1] != manifest.n_features:
        raise ValueError(
            f"the backbone {row.name!r} gives {network.output.shape[-1]} features, and it has "
            f"{manifest.n_features}"
        )
    _fill(network, "backbone", manifest, archive)
    _fill(top, "head", manifest, archive)
    return network, top


def _read_statistics(manifest: Manifest, archive: zipfile.ZipFile) -> Statistics | None:
    names = manifest.part("standardization")
    if not names:
        return None
    mean, variance = (read_array(archive, name, manifest.arrays[name]) for name in names)
    return mean, variance


def _fill(model: keras.Model, part: str, manifest: Manifest, archive: zipfile.ZipFile) -> None:
    names = manifest.part(part)
    if [tuple(w.shape) for w in model.weights] != [manifest.arrays[n].shape for n in names]:
        raise ValueError(
            f"its {part} has {len(names)} arrays of other shapes than the {len(model.weights)} "
            "weights of the network that is built here by that name"
        )
    for name, variable in zip(names, model.weights, strict=True):
        variable.assign(read_array(archive, name, manifest.arrays[name]))
    for layer in model._flatten_layers():  # noqa: SLF001 - inside composite layers too
        if isinstance(layer, keras.layers.Normalization):
            # It computes with copies of its weights.
            layer.finalize_state()


def _assemble(
    manifest: Manifest, blueprint: Blueprint, network: keras.Model, top: keras.Model
) -> TransferClassifier:
    params = dict(manifest.parameters)
    if isinstance(params["head"], SavedFunction):
        params["head"] = blueprint.head
    clf = TransferClassifier(**params)
    clf._blueprint = blueprint  # noqa: SLF001
    clf.backbone_, clf.head_ = network, top
    clf._is_tuned = any(row["stage"] != "head" for row in manifest.history)  # noqa: SLF001
    clf.history_ = manifest.history
    clf.classes_ = manifest.classes
    clf._class_counts = manifest.class_counts  # noqa: SLF001
    clf.image_shape_ = manifest.image_shape
    clf.n_features_ = manifest.n_features
    clf.pixel_range_ = manifest.pixel_range
    return with_temperature(clf, manifest.temperature)


def _check_answer(clf: TransferClassifier, manifest: Manifest) -> None:
    tolerance = _TOLERANCE
    if manifest.dtype_policy not in _SINGLE_PRECISION:
        tolerance = _TOLERANCE_OF_HALF_PRECISION
    # A temperature below 1 makes small differences larger.
    tolerance /= min(1.0, manifest.temperature)
    answer = answer_probe(clf.model_, clf.image_shape_)
    difference = np.abs(answer - manifest.probe).max()
    # Written so that NaN is refused.
    if not difference <= tolerance:
        raise ValueError(
            f"its probe image gets probabilities that differ by {difference:.2g} from those at "
            "the time of saving, so that the network built here is another one, or its numbers "
            "have been changed"
        )
