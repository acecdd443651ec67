"""The configurable head: what turns a backbone's features into class probabilities."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from tlclassify._checks.parameters import COUNT, Interval, check_choice, check_parameters

HeadBuilder = Callable[[Any, int], Any]
"""A function (feature map: KerasTensor, n_classes: int) -> class probabilities: KerasTensor.

Or a Keras layer from a feature map to probabilities, such as a ``keras.Sequential``.
"""

Statistics = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Mean and variance of each feature, two arrays of shape (n_features,)."""

_ACTIVATIONS = ("relu", "gelu", "silu", "elu", "selu", "tanh", "leaky_relu")
_POOLINGS = ("avg", "max", "flatten")


class Head(BaseEstimator):  # type: ignore[misc]
    """Pooling, hidden layers and a softmax layer, as parameters.

    Parameters
    ----------
    hidden_units : sequence of int, default (512,)
        Units of each hidden layer; (): a linear head.
    dropout : float or sequence of float in [0, 1), default 0.5
        One number: the fraction of the features and of each hidden layer's output dropped. A
        sequence: one fraction for each hidden layer, and the features stay whole.
    activation : str, default "relu"
        Activation of the hidden layers, by its Keras name.
    batch_norm : bool, default False
        Whether batch normalisation follows each hidden layer's activation.
    pooling : {"avg", "max", "flatten"}, default "avg"
        How the feature map (rows, columns, channels) becomes a vector.

    Examples
    --------
    >>> from tlclassify import Head
    >>> Head(hidden_units=(256,), dropout=0.3)
    Head(dropout=0.3, hidden_units=(256,))
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (512,),
        *,
        dropout: float | Sequence[float] = 0.5,
        activation: str = "relu",
        batch_norm: bool = False,
        pooling: str = "avg",
    ) -> None:
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.activation = activation
        self.batch_norm = batch_norm
        self.pooling = pooling


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


def get_head(head: str | Head | HeadBuilder) -> Head | HeadBuilder:
    """Return a checked head; of a preset or `Head` a copy."""
    if isinstance(head, str):
        head = _PRESETS[check_choice("head", head, tuple(_PRESETS))]
    if isinstance(head, Head):
        _check(head)
        return clone(head)  # type: ignore[no-any-return]
    if callable(head):
        return head
    raise TypeError(
        "head must be a Head, the name of a preset, a Keras layer or a function "
        f"(feature_map, n_classes) -> probabilities; received {type(head).__name__}."
    )


def _check(head: Head) -> None:
    if isinstance(head.hidden_units, str) or not isinstance(head.hidden_units, Sequence):
        raise ValueError(  # noqa: TRY004 - as all that is wrong with parameters
            f"hidden_units must be a sequence of integers; received {head.hidden_units!r}."
        )
    n_rates = len(head.dropout) if isinstance(head.dropout, Sequence) else None
    fits = n_rates in {None, len(head.hidden_units)}
    problem = (
        f"dropout must be one number, or {len(head.hidden_units)} for as many hidden layers; "
        f"received {head.dropout!r}"
    )
    fraction = Interval(0, 1, closed="left")
    check_parameters(
        *(("hidden_units", units, COUNT) for units in head.hidden_units),
        *(("dropout", rate, fraction) for rate in _dropout_rates(head)),
        ("activation", head.activation, _ACTIVATIONS),
        ("pooling", head.pooling, _POOLINGS),
        problems=[None if fits else problem],
    )


def _dropout_rates(head: Head) -> list[float]:
    """Return the fraction for the features, then one for each hidden layer."""
    if isinstance(head.dropout, Sequence):
        return [0.0, *head.dropout]
    return [head.dropout] * (1 + len(head.hidden_units))


def build_pooling(head: Head | HeadBuilder, feature_map: keras.KerasTensor) -> keras.KerasTensor:
    """Return the part of the head that has no weights, so that it is run once per image.

    The pooling of a `Head`; for a user's function or layer the feature map itself.
    """
    if not isinstance(head, Head):
        return feature_map
    layer = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
        "flatten": keras.layers.Flatten,
    }[head.pooling]
    return layer(name="pooling")(feature_map)


def build_head(
    head: Head | HeadBuilder,
    n_classes: int,
    *,
    features_shape: Sequence[int],
    statistics: Statistics | None = None,
) -> keras.Model:
    """Build the part of the head that has weights: features to class probabilities, float32.

    Given statistics, a `Head` first brings each feature to mean 0 and variance 1 over the training
    images, by fixed numbers: one learning rate then suits every backbone. Of a user's layer this
    is a copy, so that two fits share no weights.
    """
    inputs = keras.Input(features_shape, name="features")
    if isinstance(head, Head):
        x = inputs
        if statistics is not None:
            mean, variance = statistics
            x = keras.layers.Normalization(mean=mean, variance=variance, name="standardization")(x)
        # In float32 under any policy of mixed precision, so that probabilities sum to 1.
        outputs = keras.layers.Dense(
            n_classes, activation="softmax", dtype="float32", name="probabilities"
        )(_hidden_layers(head, x))
    else:
        is_layer = isinstance(head, keras.Layer)
        outputs = _copy(head)(inputs) if is_layer else head(inputs, n_classes)
        shape = getattr(outputs, "shape", None)
        if shape is None or tuple(shape) != (None, n_classes):
            raise ValueError(
                f"head must return class probabilities of shape (None, {n_classes}) as a "
                f"KerasTensor; received {shape or type(outputs).__name__}. It gets a feature map: "
                "begin with keras.layers.GlobalAveragePooling2D(), and end with "
                f"keras.layers.Dense({n_classes}, activation='softmax')."
            )
    return keras.Model(inputs, outputs, name="head")


def _copy(layer: keras.Layer) -> keras.Layer:
    return type(layer).from_config(layer.get_config())


def measure_features(features: NDArray[np.float32]) -> Statistics:
    """Return mean and variance of each feature, from an array of shape (n, n_features)."""
    variance = features.var(axis=0)
    # Features that are all but constant would be blown up into noise.
    floor = max(1e-3 * float(variance.mean()), 1e-12)
    return features.mean(axis=0), np.maximum(variance, floor)


def _hidden_layers(head: Head, x: keras.KerasTensor) -> keras.KerasTensor:
    features_rate, *rates = _dropout_rates(head)
    if features_rate:
        x = keras.layers.Dropout(features_rate, name="features_dropout")(x)
    for number, (units, rate) in enumerate(zip(head.hidden_units, rates, strict=True), start=1):
        x = keras.layers.Dense(units, activation=head.activation, name=f"hidden_{number}")(x)
        if head.batch_norm:
            x = keras.layers.BatchNormalization(name=f"hidden_{number}_bn")(x)
        if rate:
            x = keras.layers.Dropout(rate, name=f"hidden_{number}_dropout")(x)
    return x


def add_table(top: keras.Model, outputs: Sequence[NDArray[np.float32]]) -> keras.Model:
    """Return a head that looks its features up: from row numbers to class probabilities.

    A batch of row numbers costs nothing to hand over, a batch of features takes a copy that is
    slower than training a linear head on it. The head's layers are shared.
    """
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
