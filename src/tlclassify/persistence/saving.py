"""Classifiers as files that hold numbers and text, and nothing that runs."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
from msgspec import MsgspecError
from numpy.typing import NDArray
from safetensors import SafetensorError

from tlclassify._checks.files import write_whole
from tlclassify._checks.parameters import check_type
from tlclassify.analysis.calibration import with_temperature
from tlclassify.engines.metadata import decode_labels_from_json
from tlclassify.estimators.classifier import TransferClassifier, check_fitted
from tlclassify.evaluation import EvaluationReport
from tlclassify.evaluation.text import History
from tlclassify.networks.backbones import get_backbone, list_backbones
from tlclassify.networks.blueprints import Blueprint, as_in_the_fit, build_frozen
from tlclassify.networks.cuts import flat_layers
from tlclassify.networks.heads import STANDARDIZATION, Head, HeadBuilder, Statistics, build_head
from tlclassify.networks.rows import Backbone
from tlclassify.persistence import saved_file
from tlclassify.persistence.model_card import build_model_card

_BACKBONE, _HEAD, _MARKS = "backbone", "head", "marks"
# Room for convolutions that a GPU computes in 19 bits; half precision gets more.
_TOLERANCES = {"float32": 0.01, "float64": 0.01}
_DAMAGE = (SafetensorError, MsgspecError, ValueError, TypeError, OverflowError, RecursionError)


def save(
    clf: TransferClassifier,
    path: str | Path,
    *,
    card: bool = False,
    report: EvaluationReport | None = None,
) -> None:
    """Write a fitted classifier to one file, which `load` reads without running anything in it.

    What was there under its name is replaced only when the file is whole.

    Parameters
    ----------
    clf : TransferClassifier
        Fitted. All is kept but `callbacks`, `cache_dir`, `engine`, a `random_state` that is no
        integer, and code of your own: of a backbone, head or augmentation that is a function, a
        layer or a model, the weights are kept, and `load` takes the rest as its argument.
    path : path
        Its folder is made if need be. Any suffix will do; ours is ``.tlc``.
    card : bool
        Whether to write a model card beside it, in Markdown, at `path` with ``.md`` appended.
    report : EvaluationReport, optional
        For the card: how good the classifier is.

    Raises
    ------
    TypeError, NotFittedError, ValueError
        If a parameter is not as above, no file holds those of `clf`, or it answers with NaN.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from tlclassify import TransferClassifier, load, save
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(60, random_state=0)
    >>> clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(clf, f"{folder}/shapes.tlc")
    ...     loaded = load(f"{folder}/shapes.tlc")
    >>> bool((loaded.predict_proba(X) == clf.predict_proba(X)).all())
    True
    """
    advice = "Pass a pipeline's last step, a search's best_estimator_, an extractor's classifier."
    check_fitted(clf, advice=advice)
    if report is not None:
        check_type("report", report, EvaluationReport, "an EvaluationReport or None")
        if not card:
            raise ValueError(
                "report must be None without a card; received one. Pass card=True too."
            )
        if not np.array_equal(report.classes, clf.classes_):
            raise ValueError(
                f"report must be of the {len(clf.classes_)} classes of clf; received one of "
                f"{report.n_classes} others. Make it with evaluate(clf, X_test, y_test)."
            )
    try:
        text = saved_file.encode_manifest(clf)
    except (MsgspecError, ValueError) as error:
        raise ValueError(
            f"clf must fit into a file that load reads; received one that does not: {error}. "
            "Correct its parameters with set_params, or fit it with fewer layers or a lower "
            "learning_rate."
        ) from error
    # By names that sort in the order of the weights.
    parts = {_BACKBONE: clf.backbone_.weights, _HEAD: clf.head_.weights, _MARKS: [clf.image_marks_]}
    for layer in clf.head_.layers if isinstance(clf.blueprint_.head, Head) else ():
        if layer.name == STANDARDIZATION:
            parts[STANDARDIZATION] = [layer.input_mean, layer.input_variance]
    arrays = {}
    for part, variables in parts.items():
        for number, variable in enumerate(variables):
            array = np.asarray(keras.ops.convert_to_numpy(variable), order="C")
            # NumPy has no bfloat16 of its own; float32 holds all its values.
            is_narrow = array.dtype.name == "bfloat16"
            arrays[f"{part}/{number:05d}"] = array.astype(np.float32) if is_narrow else array
    saved_file.write_file(path, text, arrays)
    if card:
        write_whole(f"{path}.md", build_model_card(clf, report=report).encode())


def load(
    path: str | Path,
    *,
    backbone: Backbone | Callable[[Any], Any] | None = None,
    head: HeadBuilder | None = None,
) -> TransferClassifier:
    """Read a classifier that `save` wrote, and hold it against what it answered then.

    Nothing in the file is run, and no more memory is taken than for its backbone, for the file
    itself, and for classifying one image. `callbacks` and `cache_dir` are None, `engine` "keras".

    Parameters
    ----------
    path : path
    backbone : Backbone, keras.Model or callable, optional
        What the fit was given, where that was not the name of a registered backbone.
    head : callable or keras.Layer, optional
        What the fit was given, where that was neither a `Head` nor a preset's name.

    Raises
    ------
    OSError
        If there is no file of this name.
    ValueError
        If the file is damaged, none of ours, of another format, or answers differently; or if its
        backbone is not registered, or `backbone` or `head` is missing or not asked for.
    """
    path = Path(path)
    with _refusing(path, _DAMAGE):
        manifest, parts = saved_file.read_file(path)
    for name in keras.tree.flatten(manifest.backbone if backbone is None else []):
        if isinstance(name, str) and name not in list_backbones():
            raise ValueError(
                f"{str(path)!r} was saved with the backbone {name[:100]!r}, which is not "
                f"registered here. Call register_backbone(..., name={name[:100]!r}) with the same "
                "network first."
            )
    known: dict[str, Any] = {name: getattr(manifest, name) for name in saved_file.IN_BLUEPRINT}
    known["image_sizes"] = tuple(manifest.image_sizes)
    known[_BACKBONE] = _choose(_BACKBONE, manifest.backbone, backbone, path)
    known[_HEAD] = _choose(_HEAD, manifest.head, head, path)
    with _refusing(path, (ValueError,)):
        clf = _rebuild(manifest, parts, known)
        difference = np.abs(saved_file.answer_probe(clf) - manifest.probe).max()
        # NaN is no less than anything.
        if not difference <= _TOLERANCES.get(manifest.dtype_policy, 0.05):
            raise ValueError(
                f"its probe image gets probabilities that differ by {difference:.2g} from those at "
                "the time of saving, so that the network built here is another one"
            )
    return clf


@contextmanager
def _refusing(path: Path, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn all that a bad file can cause into one kind of error."""
    try:
        yield
    except errors as error:
        raise ValueError(
            f"path must name a whole file that save wrote; {str(path)!r} is none: "
            f"{str(error).rstrip('.')}. Copy it again from where it is whole, or save it again."
        ) from error


def _choose(word: str, saved: Any, given: Any, path: Path) -> Any:
    """Return a part as the file says, or as the caller gives it where the file cannot say."""
    allowed, is_own = "None, because the file says itself how it is built", False
    if isinstance(saved, saved_file.Function):
        allowed, is_own = f"what the fit was given as {word}, once {saved.name[:100]!r}", True
    if is_own != (given is not None):
        raise ValueError(
            f"{word} must be {allowed}; received {type(given).__name__} for {str(path)!r}."
        )
    return given if is_own else saved_file.from_value(saved)


def _rebuild(
    manifest: saved_file.Manifest, parts: dict[str, list[NDArray[Any]]], known: dict[str, Any]
) -> TransferClassifier:
    """Return a classifier as `fit` leaves it, its networks built and given their weights."""
    row = get_backbone(known[_BACKBONE])
    blueprint = Blueprint(**known, framing=row.frame(manifest.aspect))
    n_parameters = sum(array.size for array in parts[_BACKBONE])
    # Before a network takes memory: a small file must not name a large one.
    if row.n_parameters not in {None, n_parameters}:
        raise ValueError(
            f"it has {n_parameters:,} weights for the backbone {row.name!r} of {row.n_parameters:,}"
        )
    n_classes = len(manifest.classes)
    with as_in_the_fit(blueprint):
        bare = replace(blueprint, weights=None)
        network = build_frozen(bare, image_shape=manifest.image_shape[:2])
        _fill(network, parts[_BACKBONE])
        features_shape = network.output.shape[1:]
        if isinstance(blueprint.head, Head):
            widths = [features_shape[-1], *blueprint.head.hidden_units, n_classes]
            if [array.shape for array in parts[_HEAD] if array.ndim == 2] != [*pairwise(widths)]:
                raise ValueError("it has arrays for the head that do not fit the head's layers")
        found = parts[STANDARDIZATION]
        statistics = Statistics(*found) if found else None
        top = build_head(
            blueprint.head, n_classes, features_shape=features_shape, statistics=statistics
        )
        _fill(top, parts[_HEAD])
    params = {"aspect": manifest.aspect} | saved_file.from_value(manifest.parameters)
    for name in (_BACKBONE, _HEAD):
        if isinstance(params.get(name), saved_file.Function):
            params[name] = getattr(blueprint, name)
    clf = TransferClassifier(**params)
    clf.blueprint_ = blueprint
    clf.backbone_, clf.head_ = network, top
    clf.history_ = History(
        {key: math.nan if value is None else value for key, value in row.items()}
        for row in manifest.history
    )
    clf.classes_ = decode_labels_from_json(manifest.classes, manifest.classes_dtype)
    clf.image_shape_, clf.pixel_range_ = manifest.image_shape, manifest.pixel_range
    clf.n_features_ = int(network.output.shape[-1])
    clf.image_marks_ = np.concatenate([np.empty(0, np.uint64), *parts[_MARKS]])
    return with_temperature(clf, manifest.temperature)


def _fill(model: keras.Model, weights: list[NDArray[Any]]) -> None:
    """Give a network its weights."""
    model.set_weights(weights)
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.Normalization):
            # It computes with copies of its weights.
            layer.finalize_state()
