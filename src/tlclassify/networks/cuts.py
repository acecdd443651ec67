"""A network as a graph: where it can be cut in two, and what lies above and below."""

import logging
import math
import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import keras

from tlclassify._checks.parameters import close_match_hint, listed
from tlclassify.inputs.augmentation import N_VIEW_NUMBERS

EVERYTHING = "all"
_last_training = [object()]
SCALING = "scaling"
_process: list[int] = []


def check_process() -> None:
    """Refuse to use Keras in a process forked from one that has used it: it would wait for ever.

    The first time, TensorFlow is kept from advising, from the fifth network on, against running so
    many: it takes what Keras compiles for each for one function, defined on the same line.
    """
    if not _process:
        _process.append(os.getpid())
        logging.getLogger("tensorflow").addFilter(_is_of_interest)
    if _process[0] != os.getpid():
        raise RuntimeError(
            "networks cannot run in a process forked from one that has used Keras: its threads are "
            "gone. Start processes anew, by multiprocessing.get_context('spawn') or joblib's loky."
        )


def _is_of_interest(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return "triggered tf.function retracing" not in message or "TensorFlowTrainer" not in message


def inputs_of(operation: Any) -> list[Any]:
    """Return the tensors that an operation takes; an input layer takes none."""
    if isinstance(operation, keras.layers.InputLayer):
        return []
    # Not `operation.input`: for a whole model inside another one, that is a tensor inside it.
    return keras.tree.flatten(keras.Operation.input.fget(operation))  # type: ignore[no-any-return]


def outputs_of(operation: Any) -> list[Any]:
    """Return the tensors that an operation gives."""
    return keras.tree.flatten(keras.Operation.output.fget(operation))  # type: ignore[no-any-return]


def output_at(network: keras.Model, layer: str) -> keras.KerasTensor:
    """Return the one output of a layer of this name."""
    return outputs_of(network.get_layer(layer))[0]


def flat_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Return a layer or model and all layers inside it, to which Keras has no public way."""
    return list(layer._flatten_layers())  # noqa: SLF001


def cut_points(model: keras.Model) -> list[str]:
    """Return the layers whose one output carries all that lies above them, from the input up.

    Walking the graph from the input, a layer is a cut point when its output is the only tensor
    that is still needed.
    """
    operations = list(model.operations)
    last_use = {
        id(tensor): position
        for position, operation in enumerate(operations)
        for tensor in inputs_of(operation)
    }
    last_use[id(model.output)] = len(operations)
    live: set[int] = set()
    found = []
    for position, operation in enumerate(operations):
        outputs = {id(tensor) for tensor in outputs_of(operation)}
        live |= outputs
        live = {tensor for tensor in live if last_use.get(tensor, -1) > position}
        if live == outputs and len(live) == 1 and isinstance(operation, keras.layers.Layer):
            found.append(operation.name)
    return found


def block_starts(model: keras.Model) -> list[str]:
    """Return the cut point under each block, from the lowest block to the highest.

    A block is what lies between neighbouring cut points and holds a kernel: a residual block, or
    a convolution with the normalisation and activation after it. A depthwise convolution and the
    convolution after it are one block.

    Examples
    --------
    >>> from tlclassify.networks.backbones import build_backbone
    >>> from tlclassify.networks.cuts import block_starts
    >>> model = build_backbone("mobilenet", image_shape=(96, 96), weights=None)
    >>> len(block_starts(model)), block_starts(model)[-2:]
    (14, ['conv_pw_11_relu', 'conv_pw_12_relu'])
    """
    points, operations = set(cut_points(model)), list(model.operations)
    starts: list[str] = []
    below, pending, goes_on = operations[0], [], False
    for operation in operations:
        if any(len(weight.shape) > 1 for weight in getattr(operation, "weights", ())):
            pending.append(operation)
        if operation.name not in points:
            continue
        if pending:
            if not goes_on:
                starts.append(below.name)
            goes_on = len(pending) == 1 and isinstance(pending[0], keras.layers.DepthwiseConv2D)
            pending, below = [], operation
        elif operation.name == SCALING or _size(operation) <= _size(below):
            # Padding makes an output larger: what is stored is then taken from before it.
            below = operation
    return starts


def _size(operation: Any) -> int:
    return math.prod(outputs_of(operation)[0].shape[1:])


def unfreeze_problem(name: str, value: Any) -> str | None:
    """Return what is wrong with a part of a network to train, or None."""
    if isinstance(value, str):
        return None
    if isinstance(value, Real) and not isinstance(value, bool):
        whole = isinstance(value, Integral)
        if value == 1 and not whole:
            return (
                f"{name} must be {EVERYTHING!r} for the whole backbone or the integer 1 for its "
                f"uppermost block; received {value!r}, which could mean both"
            )
        if 0 <= float(value) < 1 or (whole and float(value) > 0):
            return None
    return (
        f"{name} must be a number of blocks, a fraction between 0 and 1, {EVERYTHING!r} or a "
        f"layer's name; received {value!r}"
    )


def find_cut(model: keras.Model, unfreeze: float | str, *, name: str = "unfreeze") -> str:
    """Return the layer above which a stage trains; an error lists those that are possible.

    0: nothing under the head; an integer: blocks from the top; a float in (0, 1): that fraction
    of the blocks, rounded, at least one; "all": everything; else a layer's name.
    """
    if problem := unfreeze_problem(name, unfreeze):
        raise ValueError(f"{problem}.")
    points = cut_points(model)
    if unfreeze == EVERYTHING:
        return points[0]
    if isinstance(unfreeze, str):
        if unfreeze in points:
            return unfreeze
        raise ValueError(
            f"{name} must name a layer at which {model.name!r} can be cut; received "
            f"{unfreeze!r}.{close_match_hint(unfreeze, points)} Cut points, from the top: "
            f"{listed(points[::-1])}."
        )
    if unfreeze == 0:
        return points[-1]
    starts = block_starts(model)
    if isinstance(unfreeze, Real) and not isinstance(unfreeze, Integral):
        return starts[-max(1, round(float(unfreeze) * len(starts)))]
    if unfreeze > len(starts):
        raise ValueError(
            f"{name} must be at most {len(starts)}, the number of blocks of {model.name!r}; "
            f"received {unfreeze}. They start above: {listed(starts[::-1])} (from the top). Pass "
            f"{EVERYTHING!r} for the whole network."
        )
    return starts[-int(unfreeze)]


def layers_above(network: keras.Model, cut: str) -> list[keras.layers.Layer]:
    """Return the layers above a cut, from the lowest to the highest."""
    operations = list(network.operations)
    height = [operation.name for operation in operations].index(cut)
    return [item for item in operations[height + 1 :] if isinstance(item, keras.layers.Layer)]


def freeze(network: keras.Model) -> None:
    """Make no layer trainable."""
    # Keras passes over `network.trainable = False` where that is what it was already.
    for layer in network.layers:
        layer.trainable = False


def unfreeze_above(network: keras.Model, cut: str, *, batch_norm: str) -> None:
    """Make exactly the layers above a cut trainable; batch normalisation if it is to "train".

    Keras runs an unfrozen one in training mode inside `fit`, whatever it was called with.
    """
    freeze(network)
    for layer in layers_above(network, cut):
        layer.trainable = True
        for part in flat_layers(layer):
            if isinstance(part, keras.layers.BatchNormalization):
                part.trainable = batch_norm == "train"


def rate_factors(
    network: keras.Model, variables: Sequence[keras.Variable], layer_decay: float
) -> list[float]:
    """Return what each variable's learning rate is multiplied by.

    Those of the network get `layer_decay` to the power of their block's number, counted from 1 at
    the top; others, such as the head's, get 1.
    """
    starts = block_starts(network)
    factors: dict[int, float] = {}
    power = len(starts) + 1
    for operation in network.operations:
        for variable in getattr(operation, "trainable_variables", ()):
            factors[id(variable)] = layer_decay**power
        power -= operation.name in starts
    return [factors.get(id(variable), 1.0) for variable in variables]


def image_size(network: keras.Model) -> tuple[int, int]:
    """Return height and width in pixels at which a network sees images."""
    height, width = inputs_of(network.get_layer(SCALING))[0].shape[1:3]
    return height, width


def note_training() -> None:
    """Say that weights have just been changed."""
    _last_training[0] = object()


def last_training() -> object:
    """Return an object that is another one once any weights have been trained in this process.

    As long as it is the same, every network computes what it did. It costs nothing to ask, where
    a fingerprint takes longer than a network takes for an image.
    """
    return _last_training[0]


def build_view(images: keras.KerasTensor, numbers: keras.KerasTensor) -> keras.KerasTensor:
    """Return images, float32 in [0, 255], changed as their views say; not held to that range.

    Of a view's ten numbers eight are a projective transformation from its pixels to the image's,
    as ``keras.ops.image.affine_transform`` takes them; then what is added to each pixel, and what
    its deviation from its channel's mean is multiplied by.
    """
    x = keras.ops.image.affine_transform(
        images, numbers[:, :8], interpolation="bilinear", fill_mode="reflect"
    )
    added = keras.ops.reshape(numbers[:, 8], (-1, 1, 1, 1))
    contrast = keras.ops.reshape(numbers[:, 9], (-1, 1, 1, 1))
    mean = keras.ops.mean(x, axis=(1, 2), keepdims=True)
    # Written so that view 0 is the image itself to the last bit.
    return x + (contrast - 1) * (x - mean) + added


def add_views(network: keras.Model, output: keras.KerasTensor) -> keras.Model:
    """Return the way from images and the numbers of their views to a tensor above the scaling.

    The view is taken after resizing; layers are shared with the network.
    """
    (resized,) = inputs_of(network.get_layer(SCALING))
    numbers = keras.Input((N_VIEW_NUMBERS,), name="view")
    above = keras.Model(resized, output, name=network.name)
    return keras.Model([network.input, numbers], above(build_view(resized, numbers)))
