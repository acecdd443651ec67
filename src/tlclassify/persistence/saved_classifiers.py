"""Fitted classifiers into files and out of them, held against what the files say."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify.analysis.calibration import with_temperature
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.evaluation.origins import list_versions
from tlclassify.networks.backbones import get_backbone, list_backbones
from tlclassify.networks.blueprints import (
    Blueprint,
    answer_probe,
    build_head_again,
    build_network_again,
)
from tlclassify.networks.heads import Head, HeadBuilder, Statistics
from tlclassify.persistence.manifests import (
    FORMAT,
    FORMAT_VERSION,
    Manifest,
    encode_classes,
    encode_history,
    encode_members,
    member_name,
    parse_manifest,
)
from tlclassify.persistence.saved_files import (
    DAMAGE,
    MAX_FILE_BYTES,
    check_members,
    create_archive,
    open_archive,
    read_array,
    read_manifest,
    verify_members,
    write_array,
    write_manifest,
)
from tlclassify.persistence.saved_parameters import SavedFunction, encode_parameters, encode_value

# The first leaves room for convolutions that a GPU computes in 19 bits.
_TOLERANCE, _TOLERANCE_OF_HALF_PRECISION = 0.01, 0.05
_SINGLE_PRECISION = ("float32", "float64")


@dataclass(frozen=True)
class Source:
    """What messages say of where a saved classifier comes from.

    Parameters
    ----------
    name : str
    complaint : str
        That it is not what it must be; what is wrong with it follows.
    advice : str
        What to do.
    """

    name: str
    complaint: str
    advice: str


def write_classifier(clf: TransferClassifier, file: BinaryIO) -> None:
    """Write a fitted classifier, an array at a time, and hold what was written against the limits.

    Parameters
    ----------
    clf : TransferClassifier
    file : binary file
        To be written and read.

    Raises
    ------
    TypeError, ValueError
        If it has parameters that no file holds, answers with NaN, or is beyond the limits of a
        file.
    """
    blueprint: Blueprint = clf.blueprint_
    head = blueprint.head
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": list_versions(),
        "backbone": blueprint.backbone_name,
        "weights": encode_value(blueprint.weights, name="weights"),
        "head": encode_value(head, name="head"),
        "image_size": blueprint.image_size,
        "dtype_policy": blueprint.dtype_policy,
        "parameters": encode_parameters(clf, backbone=blueprint.backbone_name),
        "classes": encode_classes(clf.classes_),
        "class_counts": blueprint.class_counts,
        "image_shape": list(clf.image_shape_),
        "pixel_range": clf.pixel_range_,
        "n_features": clf.n_features_,
        "temperature": clf.temperature_,
        "history": encode_history(clf.history_),
        "probe": _finite_answer(clf).tolist(),
    }
    with _refusing_what_load_would():
        with create_archive(file) as archive:
            members = {
                name: write_array(archive, name, _values(variable))
                for name, variable in _list_arrays(clf).items()
            }
            write_manifest(archive, manifest | {"arrays": encode_members(members)})
        _open(file)


def _finite_answer(clf: TransferClassifier) -> NDArray[np.float64]:
    answer = answer_probe(clf.backbone_, clf.head_, image_shape=clf.image_shape_)
    if not np.isfinite(answer).all():
        raise ValueError(
            "clf must answer with finite probabilities, to be saved or pickled; received NaN or "
            "infinity for the probe image. Fit it again, at a lower learning_rate."
        )
    return answer


@contextmanager
def _refusing_what_load_would() -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        problem = str(error).rstrip(".")
        if isinstance(error, zipfile.LargeZipFile):
            problem = f"its arrays are too large or too many for {MAX_FILE_BYTES:,} bytes"
        raise ValueError(
            "clf must fit into a file that load reads, to be saved or pickled; received one that "
            f"does not: {problem}. Correct its parameters with set_params, or fit it with fewer "
            "weights, classes or epochs."
        ) from error


def _open(file: BinaryIO) -> tuple[zipfile.ZipFile, Manifest]:
    """Open a file whose manifest and members are within the limits and agree.

    Raises
    ------
    Any of DAMAGE
    """
    archive = open_archive(file)
    manifest = parse_manifest(read_manifest(archive))
    check_members(archive, manifest.arrays)
    return archive, manifest


def _list_arrays(clf: TransferClassifier) -> dict[str, Any]:
    """Return name: variable or array for all that a file holds."""
    layers = {layer.name: layer for layer in clf.head_.layers}
    parts: dict[str, list[Any]] = {"backbone": clf.backbone_.weights, "standardization": []}
    if isinstance(clf.blueprint_.head, Head) and "standardization" in layers:
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
def _refusing(source: Source) -> Iterator[None]:
    """Turn all that a bad file can cause into one kind of error."""
    try:
        yield
    except DAMAGE as error:
        problem = str(error).rstrip(".")
        raise ValueError(f"{source.complaint}: {problem}. {source.advice}") from error


def read_classifier(
    file: BinaryIO,
    source: Source,
    *,
    head: HeadBuilder | None = None,
    blueprint: Blueprint | None = None,
) -> TransferClassifier:
    """Return the classifier in a file, once all about it has been checked.

    Parameters
    ----------
    file : binary file
    source : Source
        For messages.
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
        archive, manifest = _open(file)
        verify_members(archive, manifest.arrays)
    if blueprint is None:
        blueprint = _choose_blueprint(manifest, source.name, head)
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
    return Blueprint(
        manifest.backbone,
        manifest.weights,
        chosen,  # type: ignore[arg-type]
        manifest.image_size,
        manifest.dtype_policy,
        manifest.class_counts,
    )


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
    network = build_network_again(blueprint, image_shape=manifest.image_shape)
    if network.output.shape[-1] != manifest.n_features:
        raise ValueError(
            f"the backbone {row.name!r} gives {network.output.shape[-1]} features, and it has "
            f"{manifest.n_features}"
        )
    _fill(network, "backbone", manifest, archive)
    # Only now: a Head on features of this width has the shapes that the manifest was held to.
    top = build_head_again(
        blueprint,
        features_shape=network.output.shape[1:],
        n_classes=len(manifest.classes),
        statistics=_read_statistics(manifest, archive),
    )
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
    clf.blueprint_ = blueprint
    clf.backbone_, clf.head_ = network, top
    clf.history_ = manifest.history
    clf.classes_ = manifest.classes
    clf.image_shape_ = manifest.image_shape
    clf.n_features_ = manifest.n_features
    clf.pixel_range_ = manifest.pixel_range
    return with_temperature(clf, manifest.temperature)


def _check_answer(clf: TransferClassifier, manifest: Manifest) -> None:
    tolerance = _TOLERANCE
    if manifest.dtype_policy not in _SINGLE_PRECISION:
        tolerance = _TOLERANCE_OF_HALF_PRECISION
    answer = answer_probe(clf.backbone_, clf.head_, image_shape=clf.image_shape_)
    if not np.isfinite(answer).all():
        raise ValueError(
            "its probe image gets probabilities that are not finite, so that its numbers have been "
            "changed"
        )
    difference = np.abs(answer - manifest.probe).max()
    if difference > tolerance:
        raise ValueError(
            f"its probe image gets probabilities that differ by {difference:.2g} from those at "
            "the time of saving, so that the network built here is another one, or its numbers "
            "have been changed"
        )
