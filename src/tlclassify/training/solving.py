"""The linear head solved: a logistic regression with a penalty, as scikit-learn states it."""

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dgemm, sgemm
from scipy.linalg.lapack import dtrtri
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import log_softmax
from sklearn.metrics import log_loss

_MAX_ITERATIONS = 1_000
# Of the loss's slope in the coordinates below: some labels in ten thousand may change after it.
_TOLERANCE = 1e-4
_JITTER = 1e-6
# The share of the penalty in which all directions are alike (`make bench BENCH=penalty`).
ALIKE = 0.9


def solve_logistic(
    x: NDArray[np.float32],
    targets: NDArray[np.intp],
    weights: NDArray[np.float32] | None,
    *,
    C: float,
    n_classes: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return kernel and bias at which weighted log loss and penalty are lowest together."""
    share = np.ones(len(x)) if weights is None else weights.astype(np.float64)
    penalty = 1 / (C * share.sum())
    share, n_features, basis = share / share.sum(), x.shape[1], None
    if len(x) < n_features:
        # The kernel lies in the span of the images, which has no more dimensions than they are.
        basis, corner = np.linalg.qr(x.T)
        x = np.ascontiguousarray(corner.T)
    members = csr_array((share, targets, np.arange(len(x) + 1)), (len(x), n_classes))
    metric, to_kernel = _choose_coordinates(x, members, penalty, n_features=n_features)
    x = x @ np.float32(to_kernel)
    rows, bias_scale = np.arange(len(x)), np.sqrt(n_classes)

    # Products by SciPy, as its minimizer's: NumPy's come from another library with threads of its
    # own, and while one waits for work it takes a core from the other. It copies what is not in
    # columns, so arrays in rows are given transposed.
    def loss_and_slope(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        kernel, bias = np.split(flat.reshape(-1, n_classes), [-1])
        logits = np.float64(sgemm(1, x.T, kernel, trans_a=True)) + bias * bias_scale
        logs = log_softmax(logits, axis=1)
        pull = dgemm(1, metric.T, kernel)
        loss = np.sum(pull * kernel) / 2 - share @ logs[rows, targets]
        errors = np.exp(logs)
        errors[rows, targets] -= 1
        errors *= share[:, None]
        slope = sgemm(1, x.T, errors) + pull
        return loss, np.append(slope, errors.sum(axis=0) * bias_scale)

    found = minimize(
        loss_and_slope,
        np.zeros((x.shape[1] + 1) * n_classes),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_ITERATIONS, "gtol": _TOLERANCE, "ftol": 0},
    )
    kernel, bias = np.split(found.x.reshape(-1, n_classes), [-1])
    kernel = to_kernel @ kernel
    return kernel if basis is None else basis @ kernel, bias[0] * bias_scale


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


def _choose_coordinates(
    x: NDArray[np.float32], members: csr_array, penalty: float, *, n_features: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the penalty's square form in new coordinates of a kernel, and the way back."""
    totals = np.maximum(members.sum(axis=0), np.finfo(float).tiny)[:, None]
    means = members.T @ x / totals
    within = np.float32(np.sqrt(members.data))[:, None] * (x - np.float32(means)[members.indices])
    scatter = np.float64(within.T @ within)
    # Directions in which images of one class differ say little about the class, and cost more.
    metric = scatter * ((1 - ALIKE) * n_features / max(np.trace(scatter), _JITTER))
    metric.flat[:: len(metric) + 1] += ALIKE
    metric *= penalty
    # Images of one kind have features that go together, so that the loss is steep in few directions
    # and flat in most. By the features' covariance it is made about as steep in all of them: half
    # as many steps of L-BFGS, a quarter of the time.
    curvature = (scatter + means.T @ (totals * means)) / len(totals) + metric
    curvature.flat[:: len(curvature) + 1] += _JITTER * curvature.max()
    to_kernel = dtrtri(np.linalg.cholesky(curvature), lower=True)[0].T
    return to_kernel.T @ metric @ to_kernel, to_kernel
