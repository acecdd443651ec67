"""Where networks come from beside keras.applications: built here, a user's, files of weights."""

import warnings
from pathlib import Path
from textwrap import shorten
from types import FunctionType
from typing import Any

import keras
import numpy as np

from tlclassify.networks.cuts import SCALING, flat_layers

# Each output of a depthwise 3x3 convolution sums 9 inputs; Keras's own "he_normal" counts the
# inputs of all channels, and 13 such layers would let untrained features vanish.
_DEPTHWISE_STDDEV = (2 / 9) ** 0.5
_REASON_LENGTH = 300


def build_alexnet(x: keras.KerasTensor) -> keras.KerasTensor:
    """Build the convolutional part of AlexNet as a single tower, from images of 63 pixels up."""
    # Batch normalisation stands where the paper had local response normalisation, which Keras does
    # not offer and later work found to add nothing.
    x = _convolution(x, 96, 11, strides=4, name="conv1")
    x = keras.layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = _convolution(x, 256, 5, name="conv2")
    x = keras.layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = _convolution(x, 384, 3, name="conv3")
    x = _convolution(x, 384, 3, name="conv4")
    x = _convolution(x, 256, 3, name="conv5")
    return keras.layers.MaxPooling2D(3, 2, name="pool5")(x)


def build_mobilenet_micro(x: keras.KerasTensor) -> keras.KerasTensor:
    """Build a MobileNet v1 of width 0.5, with ReLU for ReLU6, whose strides suit 32 pixels."""
    # It halves its input three times, so that 32 pixels end in a 4x4 feature map, not in 1x1.
    x = _convolution(x, 16, 3, name="conv1")
    filters = (32, 64, 64, 128, 128, *[256] * 6, 512, 512)
    for number, n_filters in enumerate(filters, start=1):
        x = keras.layers.DepthwiseConv2D(
            3,
            2 if number in {1, 4, 6} else 1,
            padding="same",
            use_bias=False,
            depthwise_initializer=keras.initializers.RandomNormal(stddev=_DEPTHWISE_STDDEV),
            name=f"conv_dw_{number}",
        )(x)
        x = keras.layers.BatchNormalization(name=f"conv_dw_{number}_bn")(x)
        x = keras.layers.ReLU(name=f"conv_dw_{number}_relu")(x)
        x = _convolution(x, n_filters, 1, name=f"conv_pw_{number}")
    return x


def _convolution(
    x: keras.KerasTensor, filters: int, kernel_size: int, *, name: str, strides: int = 1
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def check_model(model: keras.Model) -> None:
    """Check that a model goes from square images to one output: a map, tokens or features."""
    inputs, outputs = (
        [tuple(tensor.shape) for tensor in getattr(model, end, None) or []]
        for end in ("inputs", "outputs")
    )
    if [len(shape) for shape in inputs + outputs] in ([4, 2], [4, 3], [4, 4]):
        _, height, width, n_channels = inputs[0]
        activation = getattr(model.layers[-1], "activation", None)
        ends_in_softmax = activation is keras.activations.softmax
        if SCALING in {layer.name for layer in model.layers}:
            raise ValueError(
                f"backbone must have no layer called {SCALING!r}, as ours is; received "
                f"{model.name!r}. Name it otherwise."
            )
        if height == width and n_channels == 3 and not ends_in_softmax:
            return
    raise ValueError(
        "backbone must be a functional or built Sequential keras.Model from square RGB images "
        "(None, size, size, 3) to a feature map (None, rows, columns, n_features), tokens (None, "
        "n_tokens, n_features) or features (None, n_features), not to probabilities; received "
        f"{model.name!r} from {inputs} to {outputs}. Cut off what lies above its features: "
        "keras.Model(model.input, model.get_layer(...).output)."
    )


def own_objects(layer: Any) -> dict[str, Any]:
    """Return the user's own classes and functions in a layer, by the names that Keras looks for."""
    layers = flat_layers(layer) if isinstance(layer, keras.Layer) else [layer]
    functions = (x for part in layers for x in vars(part).values() if isinstance(x, FunctionType))
    # A lambda has no name to be looked up by, and what is wrapped is a method of a layer.
    named = (x for x in functions if x.__name__ != "<lambda>" and not hasattr(x, "__wrapped__"))
    return {
        keras.saving.get_registered_name(each): each
        for each in (*map(type, layers), *named)
        if not each.__module__.startswith("keras.")
    }


def copy_layer(layer: Any, *, name: str = "backbone") -> Any:
    """Return a copy of a user's layer, model or operation, with weights of its own."""
    try:
        with keras.saving.custom_object_scope(own_objects(layer)):
            return type(layer).from_config(layer.get_config())
    except Exception as error:
        # Layers of one's own raise what they like.
        raise ValueError(
            f"{name} must have layers that Keras can copy; received {layer.name!r}, of which Keras "
            f"says: {shorten(str(error), _REASON_LENGTH).rstrip('.')}. Give the layer's class a "
            "get_config and an __init__ that takes **kwargs; write a lambda as a function."
        ) from error


def copy_above(
    model: keras.Model, images: keras.KerasTensor, scaled: keras.KerasTensor
) -> keras.KerasTensor:
    """Return the output of a copy of a model whose input is replaced by scaled images."""
    # Laid out in one graph, and not a model inside another, it can be cut like any other network.
    check_model(model)

    def call(operation: Any, *args: Any, **options: Any) -> Any:
        args, options = keras.tree.map_structure(
            lambda value: scaled if value is images else value, (args, options)
        )
        return operation(*args, **options)

    # Of a Sequential, Keras copies layers in another way.
    graph = keras.Model(model.inputs[0], model.outputs[0])
    options: dict[str, Any] = {"clone_function": copy_layer, "call_function": call}
    if type(model) not in {type(graph), keras.Sequential}:
        # Such a model knows how it is built, where its layers may not.
        copy = copy_layer(model)
        graph = keras.Model(copy.inputs[0], copy.outputs[0])
        options["clone_function"] = lambda layer: layer
    return keras.models.clone_model(graph, input_tensors=images, **options).output


def load_weight_file(model: keras.Model, path: Path, name: str) -> None:
    """Load weights from a file in a Keras format, or from arrays in their order in ``.npz``."""
    if not path.is_file():
        raise FileNotFoundError(
            f"weights: there is no file {str(path)!r}. Pass the path of a Keras weights file, "
            "'pretrained' or None."
        )
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                model.set_weights([arrays[key].astype(np.float32) for key in sorted(arrays)])
        else:
            with warnings.catch_warnings():
                # Keras only warns of layers not found in the file, and leaves them random.
                warnings.simplefilter("error", UserWarning)
                warnings.filterwarnings("ignore", message=".*optimizer")
                model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise ValueError(
            f"weights: {str(path)!r} does not hold the weights of {name!r} without its top "
            f"({error}). Pass a file saved from the same network built with include_top=False."
        ) from error
