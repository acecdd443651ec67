"""The registry of backbones, and the way from a row to a network on raw RGB images."""

import inspect
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlclassify._checks.parameters import close_match_hint
from tlclassify.inputs.splits import seeded
from tlclassify.networks.graphs import check_process, check_settings, silence_retracing_notes
from tlclassify.networks.rows import BUILT_IN, Backbone, Scaling
from tlclassify.networks.views import build_resizing, build_scaling

__all__ = [
    "Backbone",
    "Scaling",
    "build_backbone",
    "choose_image_size",
    "get_backbone",
    "list_backbones",
    "register_backbone",
]

_registry: dict[str, Backbone] = {row.name: row for row in BUILT_IN}
_SMALLEST_GOOD_MAP = 3


def list_backbones() -> list[str]:
    """Return the names of all registered backbones.

    Examples
    --------
    >>> from tlclassify import list_backbones
    >>> list_backbones()[:3]
    ['mobilenet_micro', 'mobilenet', 'mobilenet_050']
    """
    return list(_registry)


def get_backbone(backbone: str | Backbone | Callable[[Any], Any]) -> Backbone:
    """Return the row of a registered backbone; a row is returned as it is.

    Parameters
    ----------
    backbone : str, Backbone, keras.Model or callable
        A model or a function gets a row of its own, on raw RGB in [0, 255]. See
        `register_backbone`.

    Raises
    ------
    ValueError
        If no backbone has this name; the nearest one is named. Or if a model does not go from
        images to a feature map.
    TypeError
        If it is none of the four.

    Examples
    --------
    >>> from tlclassify import get_backbone
    >>> get_backbone("resnet50").n_features
    2048
    """
    if isinstance(backbone, Backbone):
        return backbone
    if callable(backbone):
        return _make_row(backbone)
    if not isinstance(backbone, str):
        raise TypeError(
            "backbone must be a name, a Backbone, a keras.Model or a function; "
            f"received {type(backbone).__name__}."
        )
    if backbone not in _registry:
        hint = close_match_hint(backbone, _registry)
        raise ValueError(
            f"backbone must be a registered name or a Backbone; received {backbone!r}.{hint} "
            "list_backbones() shows all names. Each process has its own: in a worker, register it "
            "there too, or pass the Backbone itself instead of its name."
        )
    return _registry[backbone]


def register_backbone(
    backbone: Backbone | Callable[[Any], Any],
    *,
    name: str | None = None,
    scaling: Scaling | None = None,
    native_size: int | None = None,
    weights: str | Path | None = None,
) -> Backbone:
    """Add a backbone to the registry, for this process.

    Parameters
    ----------
    backbone : Backbone, keras.Model or callable
        A whole row; a functional model from images to a feature map of shape
        (None, height, width, n_features), of which each network is a copy; or a function that
        maps a ``keras.KerasTensor`` of scaled images to such a feature map.
    name : str, optional
        The name for a model or function; by default its own.
    scaling : Scaling, optional
        For a model or function: what raw RGB goes through first. By default nothing.
    native_size : int, optional
        For a model or function: pixels a side at which it was trained. By default those of the
        model's input, else 224.
    weights : path, optional
        For a model or function: the file that ``weights="pretrained"`` loads. By default a
        model's own weights.

    Returns
    -------
    Backbone
        The row as registered.

    Raises
    ------
    ValueError
        If the name is taken, or if a row comes with parameters that a row holds itself.

    Examples
    --------
    >>> import keras
    >>> from tlclassify import register_backbone
    >>> def two_filters(images):
    ...     return keras.layers.Conv2D(2, 3, strides=2, activation="relu")(images)
    >>> register_backbone(two_filters, native_size=32).name
    'two_filters'
    """
    options = (name, scaling, native_size, weights)
    if isinstance(backbone, Backbone) and any(value is not None for value in options):
        raise ValueError(
            "register_backbone takes name, scaling, native_size and weights only with a function "
            "or model; received them with a Backbone. Use dataclasses.replace on the row."
        )
    row = _make_row(backbone, *options) if callable(backbone) else get_backbone(backbone)
    if not row.name.isidentifier():
        raise ValueError(
            f"name must be a Python identifier; received {row.name!r}. Pass name='...'."
        )
    if row.name in _registry:
        raise ValueError(
            f"name {row.name!r} is already registered; choose another name for the new backbone."
        )
    _registry[row.name] = row
    return row


def _make_row(
    builder: Callable[[Any], Any],
    name: str | None = None,
    scaling: Scaling | None = None,
    native_size: int | None = None,
    weights: str | Path | None = None,
) -> Backbone:
    side = None
    if isinstance(builder, keras.Model):
        _check_model(builder)
        side = builder.inputs[0].shape[1]
    size = native_size or side or 224
    return Backbone(
        str(name or getattr(builder, "name", None) or getattr(builder, "__name__", "")),
        builder,
        scaling or Scaling(),
        native_size=size,
        small_size=side or min(size, 96),
        min_size=1,
        weights=weights,
    )


def _check_model(model: keras.Model) -> None:
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


def choose_image_size(backbone: Backbone, longer_side: int) -> int:
    """Return the pixels a side at which a backbone should see images, by its row's policy.

    Images under the row's small size are enlarged to it; others are brought to the nearest
    multiple of 32 up to the native size.
    """
    if longer_side < backbone.small_size:
        return backbone.small_size
    nearest = 32 * max(1, int(longer_side / 32 + 0.5))
    return min(max(nearest, backbone.small_size), backbone.native_size)


def build_backbone(
    backbone: str | Backbone | Callable[[Any], Any],
    *,
    image_shape: tuple[int, int],
    image_size: int | None = None,
    weights: str | Path | None = "pretrained",
    random_state: int | None = None,
) -> keras.Model:
    """Build the network from raw images, uint8, to its feature map; resizing and scaling inside.

    Examples
    --------
    >>> from tlclassify.networks.backbones import build_backbone
    >>> build_backbone("mobilenet_micro", image_shape=(32, 32)).output_shape
    (None, 4, 4, 512)
    """
    check_process()
    check_settings()
    silence_retracing_notes()
    row = get_backbone(backbone)
    size = image_size or choose_image_size(row, max(image_shape))
    if size < row.min_size:
        raise ValueError(
            f"image_size must be at least {row.min_size} for {row.name!r}; received {size}."
        )
    own = row.builder if isinstance(row.builder, keras.Model) else None
    if weights == "pretrained" and row.weights is None and own is None:
        raise ValueError(
            f"weights='pretrained' is not possible for {row.name!r}, which has no public weights; "
            "pass a path, or weights=None to train from random weights."
        )
    source = row.weights if weights == "pretrained" else weights
    with seeded(random_state):
        inputs = keras.Input((*image_shape, 3), dtype="uint8", name="images")
        x = build_scaling(build_resizing(inputs, size), row.scaling)
        if isinstance(row.builder, str):
            features = _build_application(row, x, published=source == "imagenet")
        elif own is not None:
            features = _copy_above(own, inputs, x)
        else:
            features = row.builder(x)
    shape = getattr(features, "shape", None)
    if shape is None or len(shape) != 4:
        raise ValueError(
            f"backbone {row.name!r} must end in a feature map of shape (None, rows, columns, "
            f"n_features); received {shape or type(features).__name__}."
        )
    model = keras.Model(inputs, features, name=row.name)
    if source is not None and source != "imagenet":
        _load_weight_file(model, Path(source), row.name)
    elif own is not None and weights == "pretrained":
        model.set_weights(own.get_weights())
    _warn_if_small(model, row, size)
    return model


def _build_application(
    row: Backbone, x: keras.KerasTensor, *, published: bool
) -> keras.KerasTensor:
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


def _copy_above(
    model: keras.Model, images: keras.KerasTensor, scaled: keras.KerasTensor
) -> keras.KerasTensor:
    """Return the output of a copy of a model's layers, put on scaled images in place of its input.

    Laid out in one graph, and not a model inside another, it can be cut like any other network.
    """
    _check_model(model)

    def call(operation: Any, *args: Any, **options: Any) -> Any:
        args, options = keras.tree.map_structure(
            lambda value: scaled if value is images else value, (args, options)
        )
        return operation(*args, **options)

    # Of a Sequential, Keras copies layers in another way.
    graph = keras.Model(model.inputs[0], model.outputs[0])
    return keras.models.clone_model(graph, input_tensors=images, call_function=call).output


def _load_weight_file(model: keras.Model, path: Path, name: str) -> None:
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


def _warn_if_small(model: keras.Model, row: Backbone, size: int) -> None:
    height, width = model.output_shape[1:3]
    if min(height, width) < _SMALLEST_GOOD_MAP:
        better = min(row.native_size, max(row.small_size, size * 2))
        warnings.warn(
            f"image_size={size} leaves {row.name!r} a feature map of {height}x{width}: most of "
            "what it sees lies in the padding, and accuracy suffers (MobileNet on CIFAR-10: 0.52 "
            f"at 32 px, 0.83 at 96 px). Try image_size={better}.",
            stacklevel=3,
        )
