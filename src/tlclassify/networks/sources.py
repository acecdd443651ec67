"""Where backbones come from beside functions: keras.applications, models, files of weights."""

import inspect
import os
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlclassify.networks.rows import Backbone


def check_model(model: keras.Model) -> None:
    """Check that a model goes from square images to one feature map."""
    inputs, outputs = (
        [tuple(tensor.shape) for tensor in getattr(model, end, None) or []]
        for end in ("inputs", "outputs")
    )
    if [len(shape) for shape in inputs + outputs] == [4, 4] and len(inputs) == 1:
        _, height, width, n_channels = inputs[0]
        if height == width and n_channels == 3:
            return
    raise ValueError(
        "backbone must be a functional or built Sequential keras.Model from square RGB images "
        "(None, size, size, 3) to a feature map (None, rows, columns, n_features); received "
        f"{model.name!r} from {inputs} to {outputs}. Cut off what lies above its feature map: "
        "keras.Model(model.input, model.get_layer(...).output)."
    )


def build_application(row: Backbone, x: keras.KerasTensor, *, published: bool) -> keras.KerasTensor:
    """Return the feature map of a function of ``keras.applications``."""
    application = getattr(keras.applications, str(row.builder))
    options: dict[str, Any] = {"alpha": row.width} if row.width != 1.0 else {}
    if "include_preprocessing" in inspect.signature(application).parameters:
        options["include_preprocessing"] = False
    with warnings.catch_warnings():
        # Keras warns that MobileNet's weights were made at 224 px; the row says so.
        warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
        try:
            return application(
                include_top=False,
                weights="imagenet" if published else None,
                input_tensor=x,
                **options,
            ).output
        except Exception as error:
            # Keras raises a bare Exception when a download fails.
            if not published or isinstance(error, ValueError):
                raise
            folder = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
            raise ConnectionError(
                f"weights='pretrained': the ImageNet weights of {row.name!r} are neither in "
                f"{folder} nor could they be downloaded ({error}). Three ways on: put the file "
                "there or pass its path as weights=...; use backbone='mobilenet_micro', whose "
                "weights come with the package; or pass weights=None to start from random weights."
            ) from error


def copy_above(
    model: keras.Model, images: keras.KerasTensor, scaled: keras.KerasTensor
) -> keras.KerasTensor:
    """Return the output of a copy of a model's layers, put on scaled images in place of its input.

    Laid out in one graph, and not a model inside another, it can be cut like any other network.
    """
    check_model(model)

    def call(operation: Any, *args: Any, **options: Any) -> Any:
        args, options = keras.tree.map_structure(
            lambda value: scaled if value is images else value, (args, options)
        )
        return operation(*args, **options)

    # Of a Sequential, Keras copies layers in another way.
    graph = keras.Model(model.inputs[0], model.outputs[0])
    return keras.models.clone_model(graph, input_tensors=images, call_function=call).output


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
