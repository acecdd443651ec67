"""What a network computes, in one number: equal for networks that compute the same."""

import hashlib
import json
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
