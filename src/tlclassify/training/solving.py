"""The linear head solved: a logistic regression with a penalty, as scikit-learn states it."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import log_softmax

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
    # On images of one kind the features go together, so that the loss is steep in few directions
    # and flat in most. Here L-BFGS walks in coordinates in which it is about as steep in all of
    # them, by the features' covariance: half as many steps, a quarter of the time.
    share = np.ones(len(x)) if weights is None else weights.astype(np.float64)
    penalty = 1 / (C * share.sum())
    share = (share / share.sum())[:, None]
    basis, rows, n_features = None, np.arange(len(x)), x.shape[1]
    if len(x) < x.shape[1]:
        # The kernel lies in the span of the images, which has no more dimensions than they are.
        basis, corner = np.linalg.qr(x.T)
        x = np.ascontiguousarray(corner.T)
    metric = penalty * _measure_penalty(x, targets, share, n_features, n_classes)
    curvature = (x.T @ (share.astype(np.float32) * x)).astype(np.float64) / n_classes
    curvature += metric
    curvature.flat[:: len(curvature) + 1] += _JITTER * curvature.max()
    root, bias_scale = np.linalg.cholesky(curvature), np.sqrt(n_classes)

    def place(flat: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        *kernel, bias = flat.reshape(-1, n_classes)
        return solve_triangular(root, np.array(kernel), lower=True, trans=1), bias * bias_scale

    def loss_and_slope(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        kernel, bias = place(flat)
        logs = log_softmax((x @ kernel.astype(np.float32)).astype(np.float64) + bias, axis=1)
        pull = metric @ kernel
        loss = np.sum(pull * kernel) / 2 - share[:, 0] @ logs[rows, targets]
        errors = np.exp(logs)
        errors[rows, targets] -= 1
        errors *= share
        slope = x.T @ errors.astype(np.float32) + pull
        by_kernel = solve_triangular(root, slope, lower=True)
        return float(loss), np.vstack([by_kernel, errors.sum(axis=0) * bias_scale]).ravel()

    found = minimize(
        loss_and_slope,
        np.zeros((x.shape[1] + 1) * n_classes),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_ITERATIONS, "gtol": _TOLERANCE, "ftol": 0},
    )
    kernel, bias = place(found.x)
    return kernel if basis is None else basis @ kernel, bias


def _measure_penalty(
    x: NDArray[np.float32],
    targets: NDArray[np.intp],
    share: NDArray[np.float64],
    n_features: int,
    n_classes: int,
) -> NDArray[np.float64]:
    """Return the square form by which a kernel is penalized, on average over the features 1."""
    # Directions in which images of one class differ say little about the class, and cost more.
    members = csr_array((share[:, 0], targets, np.arange(len(x) + 1)), (len(x), n_classes))
    totals = np.maximum(members.sum(axis=0), np.finfo(float).tiny)[:, None]
    within = np.sqrt(share) * (x - ((members.T @ x) / totals)[targets])
    scatter: NDArray[np.float64] = within.T @ within
    scatter *= (1 - ALIKE) * n_features / max(np.trace(scatter), _JITTER)
    scatter.flat[:: len(scatter) + 1] += ALIKE
    return scatter
