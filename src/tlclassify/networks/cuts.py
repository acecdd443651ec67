"""A network as a graph: where it can be cut in two, what lies above, and what it computes."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tlclassify._checks.parameters import Interval, close_match_hint, listed

EVERYTHING = "all"
SCALING, BESIDE = "scaling", "features_side_by_side"
# Another object once any weights have been trained in this process. It costs nothing to look at,
# where a fingerprint takes longer than a network takes for an image.
_last_training = [object()]
_N_BLOCKS, _FRACTION = Interval(0, integer=True), Interval(0, 1, closed="left")


def inputs_of(operation: Any) -> list[Any]:
    """Return the tensors that an operation takes; an input layer takes none."""
    if isinstance(operation, keras.layers.InputLayer):
        return []
    # Not `operation.input`: for a whole model inside another one, that is a tensor inside it.
    return keras.tree.flatten(keras.Operation.input.fget(operation))  # type: ignore[no-any-return]


def outputs_of(operation: Any) -> list[Any]:
    """Return the tensors that an operation gives."""
    return keras.tree.flatten(keras.Operation.output.fget(operation))  # type: ignore[no-any-return]


def _calls_in(network: keras.Model) -> dict[Any, Any]:
    """Return how each operation is called in a network, for it may have been called elsewhere."""
    nodes = network._nodes_by_depth  # noqa: SLF001
    return {node.operation: node for depth in sorted(nodes) for node in nodes[depth]}


def output_at(network: keras.Model, layer: str) -> keras.KerasTensor:
    """Return the one output of a layer of this name."""
    return _calls_in(network)[network.get_layer(layer)].outputs[0]


def flat_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Return a layer or model and all layers inside it, to which Keras has no public way."""
    return list(layer._flatten_layers())  # noqa: SLF001


def parts_of(network: keras.Model) -> list[keras.Model]:
    """Return the networks of several backbones, whose features stand side by side, or itself."""
    if network.operations[-1].name != BESIDE:
        return [network]
    return [layer for layer in network.layers if isinstance(layer, keras.Model)]


def cut_points(model: keras.Model) -> list[str]:
    """Return the layers whose one output carries all that lies above them, from the input up."""
    operations, calls = list(model.operations), _calls_in(model)
    last_use = {
        id(tensor): position
        for position, operation in enumerate(operations)
        for tensor in calls[operation].input_tensors
    }
    last_use[id(model.output)] = len(operations)
    # Walking up, a layer is a cut point when its output is the only tensor still needed.
    live: set[int] = set()
    found = []
    for position, operation in enumerate(operations):
        outputs = {id(tensor) for tensor in calls[operation].outputs}
        live |= outputs
        live = {tensor for tensor in live if last_use.get(tensor, -1) > position}
        if live == outputs and len(live) == 1 and isinstance(operation, keras.layers.Layer):
            found.append(operation.name)
    return found


def block_starts(model: keras.Model) -> list[str]:
    """Return the cut point under each block, from the lowest block to the highest."""
    # A block is what lies between neighbouring cut points and holds a kernel: a residual block, or
    # a convolution with the normalisation and activation after it. A depthwise convolution and the
    # convolution after it are one block.
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
    if isinstance(value, str) or value in _N_BLOCKS or value in _FRACTION:
        return None
    if value in Interval(1, 1):
        return (
            f"{name} must be {EVERYTHING!r} for the whole backbone or the integer 1 for its "
            f"uppermost block; received {value!r}, which could mean both"
        )
    return (
        f"{name} must be a number of blocks, a fraction between 0 and 1, {EVERYTHING!r} or a "
        f"layer's name; received {value!r}"
    )


def find_cut(model: keras.Model, unfreeze: float | str, *, name: str = "unfreeze") -> str:
    """Return the layer above which a stage trains; an error lists those that are possible."""
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
    if unfreeze not in _N_BLOCKS:
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
    """Make exactly the layers above a cut trainable; batch normalisation if it is to "train"."""
    freeze(network)
    for layer in layers_above(network, cut):
        layer.trainable = True
        for part in flat_layers(layer):
            # Keras runs an unfrozen one in training mode inside `fit`, whatever was said.
            if isinstance(part, keras.layers.BatchNormalization):
                part.trainable = batch_norm == "train"


def rate_factors(
    network: keras.Model, variables: Sequence[keras.Variable], layer_decay: float
) -> list[float]:
    """Return what each variable's learning rate is multiplied by; 1 for the head's, and others."""
    # Of the network's `layer_decay` to the power of their block's number, from 1 at the top.
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
    """Return an object that is another one once any weights have been trained."""
    return _last_training[0]


def narrow_layers(network: keras.Model) -> list[str]:
    """Return the names of layers that do not compute in float32; converters know nothing else."""
    return [
        layer.name
        for layer in flat_layers(network)
        if not isinstance(layer, keras.layers.InputLayer)
        and keras.backend.standardize_dtype(layer.compute_dtype) != "float32"
    ]


def fingerprint_model(model: keras.Model) -> str:
    """Return a SHA-256 of graph, settings and weights: equal for networks that compute the same."""
    numbers: dict[int, int] = {}

    def write(value: Any) -> str:
        if isinstance(value, keras.KerasTensor):
            return f"tensor {numbers.get(id(value))}"
        if keras.ops.is_tensor(value) or isinstance(value, np.ndarray | keras.Variable):
            return _digest_array(np.asarray(keras.ops.convert_to_numpy(value)))
        return repr(value)

    digest = hashlib.sha256(keras.backend.backend().encode())
    digest.update(json.dumps(_describe(model, numbers), sort_keys=True, default=write).encode())
    for weight in model.get_weights():
        digest.update(_digest_array(weight).encode())
    return digest.hexdigest()


def _describe(model: keras.Model, numbers: dict[int, int]) -> list[Any]:
    """Return the calls that a model is made of, and number its tensors, inputs first."""
    # Not those of its layers elsewhere.
    nodes = model._nodes_by_depth  # noqa: SLF001
    records = []
    for depth in sorted(nodes, reverse=True):
        for node in nodes[depth]:
            operation = node.operation
            if hasattr(operation, "_nodes_by_depth"):
                config = _describe(operation, numbers)
            else:
                config = _without_names(operation.get_config())
            # Constants too: in `x * 2` the operation's own settings lack the 2.
            arguments = [node.arguments.args, node.arguments.kwargs]
            records.append([type(operation).__name__, config, arguments])
            for tensor in node.outputs:
                numbers.setdefault(id(tensor), len(numbers))
    return records


def _digest_array(array: np.ndarray[Any, Any]) -> str:
    digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _without_names(config: Any) -> Any:
    # Keras numbers names anew in every process; what is trainable changes nothing in inference.
    if isinstance(config, dict):
        # A policy of precision has nothing but its name.
        if "DTypePolicy" in str(config.get("class_name")):
            return config
        kept = config.keys() - {"name", "trainable"}
        return {key: _without_names(config[key]) for key in kept}
    if isinstance(config, list | tuple):
        return [_without_names(value) for value in config]
    return config
