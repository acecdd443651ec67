"""Probabilities that mean what they say: temperature scaling on images held out."""

import copy
import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import softmax

from tlclassify._checks.parameters import check_labels, encode_labels
from tlclassify.estimators.classifier import TransferClassifier, check_fitted
from tlclassify.inputs.images import reopen_images
from tlclassify.networks.steps import SMALLEST_PROBABILITY, build_classifier


def calibrate(clf: TransferClassifier, X: Any, y: ArrayLike) -> TransferClassifier:
    """Return a copy of a fitted classifier whose probabilities are calibrated [1]_.

    Each row of probabilities p becomes softmax(log(p) / T). The temperature T makes the log loss
    on `X` and `y` lowest: above 1 where the classifier was too sure of itself, else below. No
    predicted label changes.

    Parameters
    ----------
    clf : TransferClassifier
        Fitted; it stays as it is. A temperature that it has already is replaced.
    X, y : array-like
        Images and labels, a few hundred or more. **Never those that the classifier was trained
        on**, of which it is rightly surer, nor is evaluated on.

    Returns
    -------
    TransferClassifier
        With `temperature_`, a float in [0.01, 100], which is inside its `model_` too. It shares its
        layers with `clf`: going on with either by `warm_start` changes both, and leaves a
        `temperature_` of 1.

    Raises
    ------
    TypeError, NotFittedError, ValueError
        If `clf`, the images or the labels are not as above. A UserWarning tells where the log loss
        has no lowest point in [0.01, 100], as where every image is classified correctly.

    References
    ----------
    .. [1] C. Guo et al. (2017), On calibration of modern neural networks, ICML.

    Examples
    --------
    >>> from tlclassify import TransferClassifier, calibrate
    >>> from tlclassify.datasets import make_shapes
    >>> X, y = make_shapes(200, random_state=0)
    >>> clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X[:100], y[:100])
    >>> 0.1 < calibrate(clf, X[100:], y[100:]).temperature_ < 10
    True
    """
    check_fitted(
        clf,
        advice="Calibrate another classifier with sklearn.calibration.CalibratedClassifierCV(clf, "
        'method="temperature"), of scikit-learn 1.8 or later.',
    )
    n_images = len(reopen_images(X, clf.image_shape_, clf.pixel_range_, clf.blueprint_.framing))
    targets = encode_labels(check_labels(y, n_samples=n_images), clf.classes_)
    raw = clf if clf.temperature_ == 1 else with_temperature(clf, 1.0)
    return with_temperature(clf, find_temperature(raw.predict_proba(X), targets))


def with_temperature(clf: TransferClassifier, temperature: float) -> TransferClassifier:
    """Return a copy of a fitted classifier that shares its layers, with another temperature."""
    calibrated = copy.copy(clf)
    mirrored = clf.blueprint_.is_mirrored
    calibrated.model_ = build_classifier(
        clf.backbone_, clf.head_, temperature=temperature, mirrored=mirrored
    )
    calibrated.temperature_ = temperature
    return calibrated


def find_temperature(probabilities: ArrayLike, targets: NDArray[np.intp]) -> float:
    """Return the temperature in [0.01, 100] at which the log loss of true columns is lowest."""
    p = np.asarray(probabilities, dtype=np.float64)
    logits = np.log(np.maximum(p / p.max(axis=1, keepdims=True), SMALLEST_PROBABILITY))
    of_target = logits[np.arange(len(logits)), targets]

    def slope(log_temperature: float) -> float:
        # Of the log loss by log(T), up to a positive factor. It never falls as T grows, so there
        # is one root, found to a precision that the flat bottom of the loss itself would not give.
        weights = softmax(logits * math.exp(-log_temperature), axis=1)
        return float(np.mean(of_target - (weights * logits).sum(axis=1)))

    low, high = math.log(0.01), math.log(100)
    if slope(low) < 0 < slope(high):
        return math.exp(brentq(slope, low, high, xtol=1e-12))
    if not logits.any():
        held, why = 1.0, "every class of every image of X is as probable"
    elif slope(low) < 0:
        held = 100.0
        why = "the probabilities say nothing about y. See whether X and y are in the same order"
    else:
        held, why = 0.01, "clf classifies every image of X correctly, and the surer the better"
        if of_target.any():
            why = "the probabilities of clf are almost the same for all classes"
        why += ". Pass more images, with some that the classifier gets wrong"
    warnings.warn(
        f"There is no temperature of clf at which the log loss is lowest; it is held at {held:g}, "
        f"because {why}.",
        UserWarning,
        stacklevel=3,  # to the line that calls calibrate
    )
    return held
