"""The configurable head: what turns a backbone's features into class probabilities."""

import random
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from tlclassify._checks.parameters import COUNT, Interval, check_choice, check_parameters, listed
from tlclassify.networks.sources import copy_layer

HeadBuilder = Callable[[Any, int], Any]
"""A function (feature map: KerasTensor, n_classes: int) -> class probabilities: KerasTensor.

Or a Keras layer from a feature map to probabilities, such as a ``keras.Sequential``.
"""

AUTO = "auto"
# Up to so many images a hidden layer loses accuracy, after that it gains (`make bench`).
_MOST_IMAGES_OF_LINEAR = 3_000
# Below this the root gives way to a straight line, which has a slope at zero.
_FAINT = 1e-3
_ACTIVATIONS = ("relu", "gelu", "silu", "elu", "selu", "tanh", "leaky_relu")
POOLINGS = ("avg", "max", "flatten", "first", "first_avg")
# Of vectors, tokens and feature maps, by the axes that they have.
_POOLINGS_OF = {2: POOLINGS[:1], 3: POOLINGS, 4: POOLINGS[:3]}

STANDARDIZATION = "root_standardization"


class Statistics(NamedTuple):
    """Mean and variance by which the features' roots are standardised: (n_features,) each."""

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]


@dataclass(eq=False, repr=False)
class Head(BaseEstimator):  # type: ignore[misc]
    """Pooling, hidden layers and a softmax layer, as parameters.

    Parameters
    ----------
    hidden_units : "auto" or sequence of int, default "auto"
        Units of each hidden layer; (): a linear head. "auto": linear up to 3,000 training images,
        and one hidden layer of 512 units for more.
    dropout : float or sequence of float in [0, 1), default 0.5
        Where the head is trained by epochs: the fraction of the features and of each hidden layer's
        output dropped; a sequence: one for each hidden layer, and the features stay whole.
    activation : str, default "relu"
        Activation of the hidden layers, by its Keras name.
    batch_norm : bool, default False
        Whether batch normalisation follows each hidden layer's activation.
    pooling : {"avg", "max", "flatten", "first", "first_avg"}, default "avg"
        How a feature map (rows, columns, channels) or tokens (tokens, channels) become a vector.
        Of tokens alone: "first": the first one, often made to stand for the image; "first_avg": it
        and, beside it, the mean of all. What is a vector already stays as it is.
    C : float, optional
        Inverse strength of the penalty of a head that is solved exactly, as in
        `sklearn.linear_model.LogisticRegression`; a tenth of it is measured by the scatter within
        classes. None: 10 / n_features.

    Examples
    --------
    >>> from tlclassify import Head
    >>> Head(hidden_units=(256,), dropout=0.3)
    Head(dropout=0.3, hidden_units=(256,))
    """

    hidden_units: str | Sequence[int] = "auto"
    _: KW_ONLY
    dropout: float | Sequence[float] = 0.5
    activation: str = "relu"
    batch_norm: bool = False
    pooling: str = "avg"
    C: float | None = None


_PRESETS = {
    "linear": Head(()),
    "mlp": Head((512,)),
    "article": Head((1024, 512, 256, 128), dropout=(0.0, 0.4, 0.3, 0.2), pooling="flatten"),
    "article_plain": Head((1024, 512, 256, 128), dropout=0.0, pooling="flatten"),
}


def list_heads() -> list[str]:
    """Return the names of the presets.

    Examples
    --------
    >>> from tlclassify.networks.heads import list_heads
    >>> list_heads()
    ['linear', 'mlp', 'article', 'article_plain']
    """
    return list(_PRESETS)


def get_head(head: str | Head | HeadBuilder, *, n_images: int | None = None) -> Head | HeadBuilder:
    """Return a checked head; of a preset or `Head` a copy, with layers for so many images."""
    if isinstance(head, str):
        head = _PRESETS[check_choice("head", head, tuple(_PRESETS))]
    if isinstance(head, Head):
        units = head.hidden_units
        units = () if isinstance(units, str) and units == AUTO else units
        if isinstance(units, str) or not isinstance(units, Sequence):
            raise ValueError(  # noqa: TRY004 - as all that is wrong with parameters
                f"hidden_units must be {AUTO!r} or a sequence of integers; received {units!r}."
            )
        rates = head.dropout if isinstance(head.dropout, Sequence) else [head.dropout]
        fits = rates is not head.dropout or len(rates) == len(units)
        problem = (
            f"dropout must be one number, or {len(units)} for as many hidden layers; "
            f"received {head.dropout!r}"
        )
        check_parameters(
            *(("hidden_units", number, COUNT) for number in units),
            *(("dropout", rate, Interval(0, 1, closed="left")) for rate in rates),
            ("activation", head.activation, _ACTIVATIONS),
            ("pooling", head.pooling, POOLINGS),
            ("C", head.C, Interval(0, closed="right", optional=True)),
            problems=[None if fits else problem],
        )
        copy: Head = clone(head)
        if copy.hidden_units == AUTO and n_images is not None:
            copy.hidden_units = () if n_images <= _MOST_IMAGES_OF_LINEAR else (512,)
        return copy
    if callable(head):
        return head
    raise TypeError(
        "head must be a Head, the name of a preset, a Keras layer or a function "
        f"(feature_map, n_classes) -> probabilities; received {type(head).__name__}."
    )


def build_pooling(head: Head | HeadBuilder, feature_map: keras.KerasTensor) -> keras.KerasTensor:
    """Return what has no weights, run once per image: a `Head`'s pooling, else the map itself."""
    if not isinstance(head, Head):
        return feature_map
    rank, x = len(feature_map.shape), feature_map
    if head.pooling not in _POOLINGS_OF[rank]:
        raise ValueError(
            f"pooling must be one of {listed(_POOLINGS_OF[rank])} for a backbone with an output of "
            f"shape {tuple(x.shape)}; received {head.pooling!r}."
        )
    # A network is cut at layers only, and so must end in one.
    if rank == 2 and isinstance(x._keras_history.operation, keras.Layer):  # noqa: SLF001
        return x
    if head.pooling == "flatten" or rank == 2:
        return keras.layers.Flatten(name="pooling")(x)
    if head.pooling == "first":
        return keras.layers.Flatten(name="pooling")(x[:, 0])
    if head.pooling == "first_avg":
        mean = keras.layers.GlobalAveragePooling1D(name="mean_of_tokens")(x)
        return keras.layers.Concatenate(name="pooling")([x[:, 0], mean])
    kind = {"avg": "Average", "max": "Max"}[head.pooling]
    layer = getattr(keras.layers, f"Global{kind}Pooling{rank - 2}D")
    return layer(name="pooling")(x)


def _drop(x: keras.KerasTensor, rate: float, name: str) -> keras.KerasTensor:
    """Drop a share of the features, if any, by a seed drawn here: PyTorch heeds no other."""
    if not rate:
        return x
    return keras.layers.Dropout(rate, seed=random.randint(1, 10**9), name=name)(x)  # noqa: S311


def build_head(
    head: Head | HeadBuilder,
    n_classes: int,
    *,
    features_shape: Sequence[int],
    statistics: Statistics | None = None,
) -> keras.Model:
    """Build the part of the head that has weights: features to class probabilities, float32."""
    # By a name that no layer of a head of someone's own is likely to have.
    inputs = keras.Input(features_shape, name="input_of_head")
    if isinstance(head, Head):
        x = inputs
        if statistics is not None:
            # Faint features then say as much as strong ones, and one learning rate and one penalty
            # suit every backbone.
            x = x / keras.ops.sqrt(keras.ops.abs(x) + _FAINT)
            x = keras.layers.Normalization(
                mean=statistics.mean, variance=statistics.variance, name=STANDARDIZATION
            )(x)
        # In float32 under any policy of mixed precision, so that probabilities sum to 1. It is made
        # first: layers draw their seeds in the order in which they are made.
        last = keras.layers.Dense(
            n_classes, activation="softmax", dtype="float32", name="probabilities"
        )
        rates = head.dropout
        if not isinstance(rates, Sequence):
            # One number is for the features too, a sequence leaves them whole.
            x = _drop(x, rates, "features_dropout")
            rates = [rates] * len(head.hidden_units)
        for number, (units, rate) in enumerate(zip(head.hidden_units, rates, strict=True), start=1):
            x = keras.layers.Dense(units, activation=head.activation, name=f"hidden_{number}")(x)
            if head.batch_norm:
                x = keras.layers.BatchNormalization(name=f"hidden_{number}_bn")(x)
            x = _drop(x, rate, f"hidden_{number}_dropout")
        outputs = last(x)
    else:
        if isinstance(head, keras.Layer):
            # A copy, so that two fits share no weights.
            outputs = copy_layer(head, name="head")(inputs)
        else:
            outputs = head(inputs, n_classes)
        shape = getattr(outputs, "shape", None)
        if shape is None or tuple(shape) != (None, n_classes):
            raise ValueError(
                f"head must return class probabilities of shape (None, {n_classes}) as a "
                f"KerasTensor; received {shape or type(outputs).__name__}. From what it gets, "
                f"{(None, *features_shape)}, begin with keras.layers.GlobalAveragePooling2D() or "
                f"the like, and end with keras.layers.Dense({n_classes}, activation='softmax')."
            )
    return keras.Model(inputs, outputs, name="head")


def measure_features(
    features: NDArray[np.float32], weights: NDArray[np.float32] | None = None
) -> Statistics:
    """Return the mean of each feature's root, and for each the mean variance of them all."""
    # A variance of its own for each would make as much of noise as of what tells classes apart: on
    # few images it costs up to a point and a half (`make bench`).
    roots = features / np.sqrt(np.abs(features) + _FAINT)
    mean = np.average(roots, axis=0, weights=weights)
    variance = np.average((roots - mean) ** 2, weights=weights, axis=0).mean()
    variances = np.full_like(mean, max(variance, 1e-12), dtype=np.float32)
    return Statistics(mean.astype(np.float32), variances)


def add_table(top: keras.Model, outputs: Sequence[NDArray[np.float32]]) -> keras.Model:
    """Return a head, its layers shared, that looks its features up by their row numbers."""
    # A batch of row numbers costs nothing to hand over, a batch of features takes a copy that is
    # slower than training a linear head on it.
    table = outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
    rows = keras.Input((), dtype="int32", name="rows")
    lookup = keras.layers.Embedding(
        *table.shape,
        embeddings_initializer="zeros",
        weights=[table],
        trainable=False,
        dtype="float32",
        name="stored_features",
    )
    return keras.Model(rows, top(lookup(rows)))
