"""What a network computes, as one SHA-256; and a sign that it may compute another by now."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

_last_training = [object()]


def fingerprint_model(model: keras.Model) -> str:
    """Return a digest that is equal for networks that compute the same function.

    Of its graph, its settings and its weights, which takes some 30 ms for MobileNet. Layer names
    are left out, which Keras numbers anew in every process and model, and so is whether a layer is
    trainable, which changes nothing in inference.

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
    for step in _steps_of(model):
        # Constants too: in `x * 2` the operation's own settings lack the 2.
        arguments = (step.arguments.args, step.arguments.kwargs)
        written = keras.tree.map_structure(partial(_write, numbers=numbers), arguments)
        operation = step.operation
        record = [type(operation).__name__, _of_the_function(operation.get_config()), written]
        digest.update(json.dumps(record, sort_keys=True, default=repr).encode())
        for tensor in step.outputs:
            numbers[id(tensor)] = len(numbers)
    for weight in model.get_weights():
        digest.update(_digest_array(weight))
    return digest.hexdigest()


def _steps_of(model: keras.Model) -> Iterator[Any]:
    """Yield the calls that a model is made of, inputs first; not those of its layers elsewhere."""
    steps: Mapping[int, list[Any]] = model._nodes_by_depth  # noqa: SLF001
    for depth in sorted(steps, reverse=True):
        yield from steps[depth]


def _write(argument: Any, *, numbers: Mapping[int, int]) -> Any:
    if isinstance(argument, keras.KerasTensor):
        return f"tensor {numbers.get(id(argument))}"
    if keras.ops.is_tensor(argument) or isinstance(argument, np.ndarray | keras.Variable):
        return _digest_array(np.asarray(keras.ops.convert_to_numpy(argument))).hex()
    return argument


def _digest_array(array: np.ndarray[Any, Any]) -> bytes:
    digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


def _of_the_function(config: Any) -> Any:
    if isinstance(config, dict):
        kept = config.keys() - {"name", "trainable"}
        return {key: _of_the_function(config[key]) for key in kept}
    if isinstance(config, list | tuple):
        return [_of_the_function(value) for value in config]
    return config


def note_training() -> None:
    """Say that weights have just been changed."""
    _last_training[0] = object()


def last_training() -> object:
    """Return an object that is another one once any weights have been trained in this process.

    As long as it is the same, every network computes what it did. It costs nothing to ask, where
    a fingerprint takes longer than a network takes for an image.
    """
    return _last_training[0]
