"""A functional model as a graph: its tensors, its layers, and what it computes."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from tlclassify.inputs.splits import seeded

SCALING = "scaling"
_process: list[int] = []


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


def reduce_network(network: keras.Model) -> dict[str, Any]:
    """Return what pickle keeps of a network: Keras's own reduction, and the user's own layers."""
    classes = {keras.saving.get_registered_name(c): c for c in map(type, flat_layers(network))}
    # Keras finds classes that are not registered only where it is told of them.
    own = {name: c for name, c in classes.items() if not c.__module__.startswith("keras.")}
    return {"reduced": network.__reduce__(), "classes": own}


def rebuild_network(state: dict[str, Any]) -> keras.Model:
    """Return a network of its own from what `reduce_network` has kept."""
    silence_retracing_notes()
    build, arguments = state["reduced"]
    # Keras draws seeds for layers that have none from Python's own generator.
    with seeded(0), keras.saving.custom_object_scope(state["classes"]):
        return build(*arguments)


def narrow_layers(network: keras.Model) -> list[str]:
    """Return the names of layers that do not compute in float32; converters know nothing else."""
    return [
        layer.name
        for layer in flat_layers(network)
        if not isinstance(layer, keras.layers.InputLayer)
        and keras.backend.standardize_dtype(layer.compute_dtype) != "float32"
    ]


def check_process() -> None:
    """Refuse to use Keras in a process forked from one that has used it: it would wait for ever."""
    if not _process:
        _process.append(os.getpid())
    if _process[0] != os.getpid():
        raise RuntimeError(
            "networks cannot run in a process forked from one that has used Keras: its threads are "
            "gone. Start processes anew, by multiprocessing.get_context('spawn') or joblib's loky."
        )


def check_settings() -> None:
    """Check that Keras's own settings are those under which networks are built and kept here."""
    for name, wanted in (("image_data_format", "channels_last"), ("floatx", "float32")):
        found = getattr(keras.config, name)()
        if found != wanted:
            raise ValueError(
                f"keras.config.{name}() must be {wanted!r}; received {found!r}. Call "
                f"keras.config.set_{name}({wanted!r}), or change it in keras.json. (For another "
                "precision use keras.config.set_dtype_policy.)"
            )


def silence_retracing_notes() -> None:
    """Keep TensorFlow from advising, from the fifth network on, against running so many.

    It takes what Keras compiles for each of them for one function, defined on the same line.
    """
    logging.getLogger("tensorflow").addFilter(_is_of_interest)


def _is_of_interest(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return "triggered tf.function retracing" not in message or "TensorFlowTrainer" not in message


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
