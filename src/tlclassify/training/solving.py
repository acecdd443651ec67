"""A linear head on stored features is a convex problem: solved exactly, the same way every time."""

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from tlclassify._checks.parameters import listed

_C_TIMES_FEATURES = 10.0
_MAX_ITERATIONS = 1_000


def solve_head(
    top: keras.Model,
    features: NDArray[np.float32],
    targets: NDArray[np.intp],
    weights: NDArray[np.float32] | None,
    *,
    C: float | None,
    classes: NDArray[np.intp],
) -> float:
    """Give a linear head the weights of a logistic regression on what its last layer reads.

    Return the inverse strength of its penalty.
    """
    last = top.get_layer("probabilities")
    x = keras.ops.convert_to_numpy(keras.Model(top.input, last.input)(features))
    n_classes = len(classes)
    if absent := set(range(n_classes)) - set(targets.tolist()):
        raise ValueError(
            "y must hold images of every class where the head is solved; received none of "
            f"{listed(classes[sorted(absent)].tolist())}, which the head knows from the last fit. "
            "Add some, or pass head_stage=Stage(), which trains on from there."
        )
    C = _C_TIMES_FEATURES / x.shape[1] if C is None else float(C)
    # With two classes scikit-learn has one vector where a softmax layer has two, each half of it,
    # so that the penalty on them is half as large.
    solver = LogisticRegression(C=2 * C if n_classes == 2 else C, max_iter=_MAX_ITERATIONS)
    found = solver.fit(x, targets, sample_weight=weights)
    kernel, bias = found.coef_.T, found.intercept_
    if n_classes == 2:
        kernel, bias = np.hstack([-kernel, kernel]) / 2, np.hstack([-bias, bias]) / 2
    last.set_weights([kernel, bias])
    return C


def measure_head(
    top: keras.Model,
    features: NDArray[np.float32],
    targets: NDArray[np.intp],
    weights: NDArray[np.float32] | None = None,
) -> dict[str, float]:
    """Return loss and accuracy of a head, as Keras names them."""
    p = keras.ops.convert_to_numpy(top(features)).astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    loss = log_loss(targets, p, sample_weight=weights, labels=np.arange(p.shape[1]))
    accuracy = np.average(p.argmax(axis=1) == targets, weights=weights)
    return {"loss": float(loss), "accuracy": float(accuracy)}
