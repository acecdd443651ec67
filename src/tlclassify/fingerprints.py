"""What a network computes, as one SHA-256: its graph, its settings and its weights."""

import hashlib
import json
from typing import Any

import keras
import numpy as np


def fingerprint_model(model: keras.Model) -> str:
    """Return a digest that is equal for networks that compute the same function.

    Layer names are left out: Keras numbers them anew in every process and model.

    Parameters
    ----------
    model : keras.Model
        A functional model.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(keras.backend.backend().encode())
    numbers: dict[int, int] = {}
    for operation in model.operations:
        is_input = isinstance(operation, keras.layers.InputLayer)
        sources = [] if is_input else keras.tree.flatten(operation.input)
        wiring = [numbers[id(tensor)] for tensor in sources]
        record = [type(operation).__name__, _without_names(operation.get_config()), wiring]
        digest.update(json.dumps(record, sort_keys=True, default=repr).encode())
        for tensor in keras.tree.flatten(operation.output):
            numbers[id(tensor)] = len(numbers)
    for weight in model.get_weights():
        digest.update(f"{weight.dtype}{weight.shape}".encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _without_names(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: _without_names(value) for key, value in config.items() if key != "name"}
    if isinstance(config, list | tuple):
        return [_without_names(value) for value in config]
    return config
