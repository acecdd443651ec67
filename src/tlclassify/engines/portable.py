"""A network in steps that every runtime has, and runs fast: what is exported."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

__all__ = ["build_portable", "export_graph", "narrow_layers"]


def build_portable(network: keras.Model) -> keras.Model:
    """Return a network that computes the same, without the steps that runtimes trip over.

    Bicubic resizing is another function in every runtime, and a slow one in some. From a fixed
    size to a fixed size it is linear, in rows and in columns: two products with matrices, which
    are read off the layer itself, so that any interpolation stays what it was in training. Two
    further steps are written in another way that all converters understand.

    Parameters
    ----------
    network : keras.Model
        A functional model on images of a fixed size.

    Returns
    -------
    keras.Model
        From the same images to the same output. All other layers are shared.

    Raises
    ------
    ValueError
        If a layer computes in less than float32, which exporters do not know; or if it resizes
        and does more than that, such as crop, pad or round.
    """
    narrow = narrow_layers(network)
    if narrow:
        raise ValueError(
            f"clf must compute in float32 to be exported; received one whose layer {narrow[0]!r} "
            "does not. Fit it without keras.mixed_precision, and choose precision= when you export."
        )
    return keras.models.clone_model(
        network,
        clone_function=lambda operation: operation,
        call_function=_take_step,
        recursive=True,
    )


def _take_step(operation: Any, *tensors: Any, **options: Any) -> Any:
    if isinstance(operation, keras.layers.Resizing):
        return _resize(operation, *tensors)
    if isinstance(operation, keras.layers.Normalization):
        return _standardize(operation, *tensors)
    # What keras.ops.flip leaves in a graph; its class has no public name.
    if type(operation).__name__ == "Flip" and operation.axis == -1 and tensors[0].shape[-1]:
        return _reverse_channels(*tensors)
    return operation(*tensors, **options)


def _resize(layer: keras.layers.Resizing, x: keras.KerasTensor) -> keras.KerasTensor:
    _check_resizing(layer, x)
    height, width = x.shape[1:3]
    x = keras.ops.transpose(x, (0, 3, 1, 2))
    x = _multiply(x, resizing_matrix(layer, width, axis="width"))
    x = keras.ops.transpose(x, (0, 1, 3, 2))
    x = _multiply(x, resizing_matrix(layer, height, axis="height"))
    return keras.ops.transpose(x, (0, 3, 2, 1))


def _check_resizing(layer: keras.layers.Resizing, x: keras.KerasTensor) -> None:
    """Check that a layer is a product with two matrices: it neither cuts, fills up nor rounds."""
    found = {
        "crop_to_aspect_ratio=True": layer.crop_to_aspect_ratio,
        "pad_to_aspect_ratio=True": layer.pad_to_aspect_ratio,
        f"data_format={layer.data_format!r}": layer.data_format != "channels_last",
        f"input of dtype {x.dtype}": not keras.backend.is_float_dtype(x.dtype),
        f"input of shape {x.shape}": len(x.shape) != 4 or None in x.shape[1:],
    }
    problems = [problem for problem, is_one in found.items() if is_one]
    if problems:
        raise ValueError(
            f"the network's layer {layer.name!r} must resize whole images of one size, floating "
            f"point with channels last, to run elsewhere; received {', '.join(problems)}. Crop or "
            "pad with other layers, and cast with keras.ops.cast before it."
        )


def _multiply(x: keras.KerasTensor, matrix: NDArray[np.float32]) -> keras.KerasTensor:
    # In two dimensions a runtime hands the product to its matrix kernel as it is; in four, some
    # make a loop of it, and some work out shapes at every call. The matrix stands on the right,
    # because LiteRT's int8 product with a constant on the left is wrong, save for small ones.
    rows = keras.ops.reshape(x, (-1, matrix.shape[0]))
    return keras.ops.reshape(keras.ops.matmul(rows, matrix), (-1, *x.shape[1:3], matrix.shape[1]))


def resizing_matrix(layer: keras.layers.Resizing, n: int, *, axis: str) -> NDArray[np.float32]:
    """Return what a row of pixels is multiplied by when it is resized.

    Parameters
    ----------
    layer : keras.layers.Resizing
        One that neither crops nor pads.
    n : int
        Pixels of the row.
    axis : {"height", "width"}
        To which of the layer's two sizes the row is brought.

    Returns
    -------
    ndarray of shape (n, n_resized), float32
    """
    # As images of one row: each pixel is 1 in one of them, and 0 in the others.
    config = {**layer.get_config(), "height": 1, "width": getattr(layer, axis), "dtype": "float32"}
    along_width = keras.layers.Resizing.from_config(config)
    images = np.eye(n, dtype=np.float32)[:, None, :, None]
    return np.asarray(keras.ops.convert_to_numpy(along_width(images)))[:, 0, :, 0]


def _standardize(layer: keras.layers.Normalization, x: keras.KerasTensor) -> keras.KerasTensor:
    # Keras keeps mean and variance outside the graph's variables, where tf2onnx loses them.
    mean, variance = (keras.ops.convert_to_numpy(v) for v in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        return keras.ops.add(keras.ops.multiply(x, deviation), mean)
    return keras.ops.divide(keras.ops.subtract(x, mean), deviation)


def _reverse_channels(x: keras.KerasTensor) -> keras.KerasTensor:
    # ONNX can only reverse sequences, by several transpositions.
    return keras.ops.take(x, np.arange(x.shape[-1])[::-1], axis=-1)


def narrow_layers(network: keras.Model) -> list[str]:
    """Return the names of layers that do not compute in float32; exporters know nothing else."""
    return [
        layer.name
        for layer in network._flatten_layers()  # noqa: SLF001 - inside nested models too
        if not isinstance(layer, keras.layers.InputLayer)
        and keras.backend.standardize_dtype(layer.compute_dtype) != "float32"
    ]


def export_graph(
    network: keras.Model,
    path: Path,
    format: str,  # noqa: A002 - Keras's word
    *,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write a network in one of Keras's own formats.

    Parameters
    ----------
    network : keras.Model
        As `build_portable` returns it.
    path : Path
    format : {"onnx", "openvino", "litert", "tf_saved_model"}
    options : mapping, optional
        Further options of ``keras.Model.export``.
    """
    # Without a signature Keras refuses networks that nothing was run through yet.
    images = keras.InputSpec(dtype=network.input.dtype, shape=network.input.shape, name="images")
    with warnings.catch_warnings():
        # Keras looks for a name that NumPy is about to give another meaning.
        warnings.filterwarnings("ignore", message="In the future `np.object`")
        network.export(
            str(path), format=format, verbose=False, input_signature=[images], **(options or {})
        )
