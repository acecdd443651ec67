"""What a network computes, as one SHA-256: its graph, its settings and its weights."""

import hashlib
import json
from typing import Any

import keras
import numpy as np

from tlclassify.graphs import inputs_of, outputs_of


def fingerprint_model(model: keras.Model) -> str:
    """Return a digest that is equal for networks that compute the same function.

    Layer names are left out, which Keras numbers anew in every process and model, and so is
    whether a layer is trainable, which changes nothing in inference.

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
        wiring = [numbers[id(tensor)] for tensor in inputs_of(operation)]
        record = [type(operation).__name__, _of_the_function(operation.get_config()), wiring]
        digest.update(json.dumps(record, sort_keys=True, default=repr).encode())
        for tensor in outputs_of(operation):
            numbers[id(tensor)] = len(numbers)
    for weight in model.get_weights():
        digest.update(f"{weight.dtype}{weight.shape}".encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _of_the_function(config: Any) -> Any:
    if isinstance(config, dict):
        kept = config.keys() - {"name", "trainable"}
        return {key: _of_the_function(config[key]) for key in kept}
    if isinstance(config, list | tuple):
        return [_of_the_function(value) for value in config]
    return config
