"""What a network computes, in one number: equal for networks that compute the same."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from tlclassify.networks.cuts import flat_layers


def narrow_layers(network: keras.Model) -> list[str]:
    """Return the names of layers that do not compute in float32; converters know nothing else."""
    return [
        layer.name
        for layer in flat_layers(network)
        if not isinstance(layer, keras.layers.InputLayer)
        and keras.backend.standardize_dtype(layer.compute_dtype) != "float32"
    ]


def fingerprint_model(model: keras.Model) -> str:
    """Return a SHA-256 that is equal for networks that compute the same function.

    Of its graph, its settings and its weights, which takes some 30 ms for MobileNet. Names of
    layers are left out, which Keras numbers anew in every process and model, and so is whether a
    layer is trainable, which changes nothing in inference.
    """
    digest = hashlib.sha256(keras.backend.backend().encode())
    digest.update(json.dumps(_describe(model), sort_keys=True, default=repr).encode())
    for weight in model.get_weights():
        digest.update(_digest_array(weight).encode())
    return digest.hexdigest()


def _describe(model: keras.Model) -> list[Any]:
    """Return the calls that a model is made of, inputs first; not those of its layers elsewhere."""
    nodes: Mapping[int, list[Any]] = model._nodes_by_depth  # noqa: SLF001
    numbers: dict[int, int] = {}
    records = []
    for depth in sorted(nodes, reverse=True):
        for node in nodes[depth]:
            operation = node.operation
            is_graph = hasattr(operation, "_nodes_by_depth")
            config = _describe(operation) if is_graph else _without_names(operation.get_config())
            # Constants too: in `x * 2` the operation's own settings lack the 2.
            arguments = keras.tree.map_structure(
                partial(_write, numbers=numbers), (node.arguments.args, node.arguments.kwargs)
            )
            records.append([type(operation).__name__, config, arguments])
            for tensor in node.outputs:
                numbers[id(tensor)] = len(numbers)
    return records


def _write(argument: Any, *, numbers: Mapping[int, int]) -> Any:
    if isinstance(argument, keras.KerasTensor):
        return f"tensor {numbers.get(id(argument))}"
    if keras.ops.is_tensor(argument) or isinstance(argument, np.ndarray | keras.Variable):
        return _digest_array(np.asarray(keras.ops.convert_to_numpy(argument)))
    return argument


def _digest_array(array: np.ndarray[Any, Any]) -> str:
    digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _without_names(config: Any) -> Any:
    if isinstance(config, dict):
        # A policy of precision has nothing but its name.
        if "DTypePolicy" in str(config.get("class_name")):
            return config
        kept = config.keys() - {"name", "trainable"}
        return {key: _without_names(config[key]) for key in kept}
    if isinstance(config, list | tuple):
        return [_without_names(value) for value in config]
    return config
