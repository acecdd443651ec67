"""The tensors between the operations of a functional model."""

from typing import Any

import keras


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
