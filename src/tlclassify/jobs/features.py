"""A head from a folder of features, which may be larger than memory."""

import errno
import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from tlclassify._checks.parameters import check_type, import_extra
from tlclassify.activations.run import MEMORY_LIMIT_BYTES, StoredSource
from tlclassify.analysis.calibration import with_temperature
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.estimators.extractor import FeatureExtractor
from tlclassify.evaluation.text import History
from tlclassify.inputs.images import make_probe
from tlclassify.jobs.files import METADATA_KEY
from tlclassify.networks.heads import Head
from tlclassify.training.preparation import choose_head, prepare_fit

# Batches are made ahead of time otherwise, some hundred megabytes of them.
_ONE_BY_ONE = MappingProxyType({"batch_readahead": 1, "fragment_readahead": 1})
_TOLERANCE = 0.02  # between engines, bfloat16 among them, as a share of the largest feature


def fit_features(
    folder: str | Path,
    y: Mapping[str, Any],
    *,
    extractor: FeatureExtractor | TransferClassifier,
    classifier: TransferClassifier | None = None,
) -> TransferClassifier:
    """Train a head on the features that `predict_files` has written; no image is read.

    Features of more than 512 MiB lie in a temporary file. A head that is solved exactly, by default
    up to 3,000 images, takes them into memory.

    Parameters
    ----------
    folder : path
        The `output` of ``predict_files(..., what="features")``.
    y : mapping of path to label
        As a dict or a `pandas.Series`. Images without a label are left out.
    extractor : FeatureExtractor or TransferClassifier
        Fitted: what was exported or saved to make those features.
    classifier : TransferClassifier, optional
        Whose head, head's stage and other parameters of training are used.

    Returns
    -------
    TransferClassifier
        Fitted, for images as `extractor` takes them.

    Raises
    ------
    OSError, ValueError, TypeError, ImportError
        If there is no such folder; if its features are not those of `extractor`; if labels or
        parameters will not do, as in `TransferClassifier.fit`; without pyarrow.

    Examples
    --------
    >>> clf = fit_features("features", labels, extractor=extractor)  # doctest: +SKIP
    >>> clf.predict(["photo.jpg"])  # doctest: +SKIP
    """
    check_is_fitted(extractor, "model_")
    dataset = import_extra("pyarrow.dataset", "table", user="fit_features")
    rows = dataset.dataset(str(folder), format="parquet")
    network = getattr(extractor, "backbone_", None) or extractor.model_
    said = json.loads((rows.schema.metadata or {}).get(METADATA_KEY, "{}")).get("probe", ())
    probe = keras.ops.convert_to_numpy(network(make_probe(extractor.image_shape_)))[0]
    gap = np.abs(probe - said).max() if np.shape(said) == probe.shape else np.inf
    if not gap <= _TOLERANCE * np.abs(probe).max():
        raise ValueError(
            f"folder must have features of this extractor; {str(folder)!r} has those of another "
            "network, image size or pooling, or none. Pass what was exported for predict_files."
        )
    is_read = dataset.field("error").is_null()
    paths = rows.to_table(columns=["path"], filter=is_read)["path"].to_pylist()
    labels = [y[path] for path in paths if path in y]
    if not labels:
        raise ValueError(f"y must have paths of {str(folder)!r}; none of its {len(y):,} is there.")
    clf = _lend(extractor, network, clone(classifier or TransferClassifier()), len(labels))
    # Of the images nothing but number and shape is seen.
    black = np.broadcast_to(np.uint8(0), (len(labels), *extractor.image_shape_))
    fit = prepare_fit(clf, black, labels)
    parts = [part.images for part in (fit.training, fit.validation) if part is not None]
    places = np.argsort(np.concatenate([images.rows for images in parts]))
    shape, start = (len(labels), len(probe)), 0
    is_large = (n_bytes := 4 * math.prod(shape)) > MEMORY_LIMIT_BYTES
    if is_large and n_bytes > shutil.disk_usage(place := tempfile.gettempdir()).free:
        needed = f"{n_bytes / 2**30:,.1f} GiB of features need as much room in {place}"
        raise OSError(errno.ENOSPC, f"{needed}. Point TMPDIR to a larger disk")
    with tempfile.TemporaryFile() as file:
        make: Any = partial(np.memmap, file) if is_large else np.empty
        features = make(dtype=np.float32, shape=shape)
        for batch in rows.to_batches(columns=["path", "features"], filter=is_read, **_ONE_BY_ONE):
            has_label = np.array([path in y for path in batch["path"].to_pylist()], dtype=bool)
            found = batch.filter(has_label)["features"].flatten()
            values = found.to_numpy(zero_copy_only=False).reshape(-1, len(probe))
            features[places[start : start + len(values)]] = values
            start += len(values)
        ends = np.cumsum([len(images) for images in parts])[:-1]
        fit.at_lowest = [*map(StoredSource, np.split(features, ends), parts)]
        fit.run()
    clf.head_, clf.classes_, clf.blueprint_ = fit.top, fit.classes, fit.blueprint
    clf.history_, clf.image_marks_ = History(fit.history), np.empty(0, np.uint64)
    return with_temperature(clf.set_params(warm_start=False), 1.0)


def _lend(extractor: Any, network: keras.Model, clf: Any, n_images: int) -> Any:
    """Return a classifier that goes on from an extractor's network, as after a fit."""
    if clf.fine_tune_stage is not None or clf.augmentation is not None or clf.warm_start:
        raise ValueError(
            "classifier must train a new head on images as they are; received fine_tune_stage, "
            "augmentation or warm_start. Fit it on the images themselves."
        )
    head, below = choose_head(clf, n_images)[0], extractor.blueprint_.head
    for name, part in (("head", head), ("extractor's head", below)):
        check_type(name, part, Head, "a Head or a preset's name")
    names = ("backbone", "weights", "image_size", "aspect")
    clf.set_params(**{name: getattr(extractor, name) for name in names}, warm_start=True)
    clf.blueprint_ = replace(
        extractor.blueprint_, head=clone(head).set_params(pooling=below.pooling)
    )
    clf.model_ = clf.backbone_ = network
    clf.image_shape_, clf.pixel_range_ = extractor.image_shape_, extractor.pixel_range_
    clf.n_features_ = extractor.n_features_
    clf.head_, clf.classes_, clf.history_ = None, None, History()
    return clf
