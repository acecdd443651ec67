"""The tensors between the operations of a functional model."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras

_process: list[int] = []


def check_process() -> None:
    """Refuse to use Keras in a process forked from one that has used it: it would wait for ever."""
    if not _process:
        _process.append(os.getpid())
    if _process[0] != os.getpid():
        raise RuntimeError(
            "networks cannot run in a process forked from one that has used Keras: its threads are "
            "gone. Start processes anew, by multiprocessing.get_context('spawn') or joblib's loky."
        )


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


def _is_of_interest(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in record.getMessage()


@contextmanager
def without_retracing_notes() -> Iterator[None]:
    """Silence TensorFlow's advice against compiling one function again and again.

    Every fit compiles a model of its own. TensorFlow takes them for one function, because Keras
    defines them on the same line, and would print its advice from the fifth fit on.
    """
    logger = logging.getLogger("tensorflow")
    # Of one's own, or the first thread to end would take away another's.
    own = partial(_is_of_interest)
    logger.addFilter(own)
    try:
        yield
    finally:
        logger.removeFilter(own)
