"""The registry of backbones, and the way from a row to a network on raw RGB images."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from tlclassify._checks.parameters import close_match_hint
from tlclassify.inputs.splits import seeded
from tlclassify.networks.graphs import check_process
from tlclassify.networks.rows import BUILT_IN, Backbone, Scaling
from tlclassify.networks.weight_files import load_weight_file

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


def get_backbone(name: str | Backbone) -> Backbone:
    """Return the row of a registered backbone; a row is returned as it is.

    Raises
    ------
    ValueError
        If no backbone has this name; the nearest one is named.

    Examples
    --------
    >>> from tlclassify import get_backbone
    >>> get_backbone("resnet50").n_features
    2048
    """
    if isinstance(name, Backbone):
        return name
    if name not in _registry:
        hint = close_match_hint(name, _registry)
        raise ValueError(
            f"backbone must be a registered name or a Backbone; received {name!r}.{hint} "
            "list_backbones() shows all names, register_backbone adds one."
        )
    return _registry[name]


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
    backbone : Backbone or callable
        A whole row; or a function that maps a ``keras.KerasTensor`` of scaled images to a
        feature map of shape (None, height, width, n_features).
    name : str, optional
        The name for a function; by default the function's own.
    scaling : Scaling, optional
        For a function: what raw RGB goes through first. By default nothing.
    native_size : int, optional
        For a function: pixels a side at which it was trained. By default 224.
    weights : path, optional
        For a function: the file that ``weights="pretrained"`` loads.

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
    if isinstance(backbone, Backbone):
        if any(value is not None for value in (name, scaling, native_size, weights)):
            raise ValueError(
                "register_backbone takes name, scaling, native_size and weights only with a "
                "function; received them with a Backbone. Use dataclasses.replace on the row."
            )
        row = backbone
    elif callable(backbone):
        own_name = str(name or getattr(backbone, "__name__", ""))
        size = native_size or 224
        row = Backbone(
            own_name,
            backbone,
            scaling or Scaling(),
            native_size=size,
            small_size=min(size, 96),
            min_size=1,
            weights=weights,
        )
    else:
        raise TypeError(
            f"backbone must be a Backbone or a function; received {type(backbone).__name__}."
        )
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


def choose_image_size(backbone: Backbone, longer_side: int) -> int:
    """Return the size at which a backbone should see images, by its row's policy.

    Images under the row's small size are enlarged to it; others are brought to the nearest
    multiple of 32 up to the native size.

    Parameters
    ----------
    backbone : Backbone
    longer_side : int
        Pixels of the images' longer side.

    Returns
    -------
    int
        Pixels a side.
    """
    if longer_side < backbone.small_size:
        return backbone.small_size
    nearest = 32 * max(1, int(longer_side / 32 + 0.5))
    return min(max(nearest, backbone.small_size), backbone.native_size)


def build_backbone(
    backbone: str | Backbone,
    *,
    image_shape: tuple[int, int],
    image_size: int | None = None,
    weights: str | Path | None = "pretrained",
    random_state: int | None = None,
) -> keras.Model:
    """Build the network from raw RGB images to its feature map, resizing and scaling inside.

    Parameters
    ----------
    backbone : str or Backbone
    image_shape : (height, width)
        Pixels of the images as they come.
    image_size : int, optional
        Pixels a side at which the network sees them; by default the row's policy.
    weights : {"pretrained"}, path or None, default "pretrained"
        The row's published weights, a file in a Keras format, or random ones.
    random_state : int, optional
        Seed of random weights.

    Returns
    -------
    keras.Model
        uint8 RGB of shape (n, height, width, 3) to float32 (n, rows, columns, n_features).

    Raises
    ------
    ValueError
        If the size is too small for the network, or the file belongs to another one.
    FileNotFoundError
        If the weights file is not there.
    ConnectionError
        If weights are wanted that are neither here nor to be downloaded.

    Warns
    -----
    UserWarning
        If the feature map is smaller than 3x3, where little of the network's detail is left.

    Examples
    --------
    >>> from tlclassify.networks.backbones import build_backbone
    >>> build_backbone("mobilenet_micro", image_shape=(32, 32)).output_shape
    (None, 4, 4, 512)
    """
    check_process()
    row = get_backbone(backbone)
    size = image_size or choose_image_size(row, max(image_shape))
    if size < row.min_size:
        raise ValueError(
            f"image_size must be at least {row.min_size} for {row.name!r}; received {size}."
        )
    if weights == "pretrained" and row.weights is None:
        raise ValueError(
            f"weights='pretrained' is not possible for {row.name!r}, which has no public weights; "
            "pass a path, or weights=None to train from random weights."
        )
    source = row.weights if weights == "pretrained" else weights
    with seeded(random_state):
        inputs = keras.Input((*image_shape, 3), dtype="uint8", name="images")
        x = _resize_and_scale(inputs, row.scaling, size)
        model = keras.Model(inputs, _feature_map(row, x, source), name=row.name)
    if source is not None and source != "imagenet":
        load_weight_file(model, Path(source), row.name)
    _warn_if_small(model, row, size)
    return model


def _resize_and_scale(inputs: keras.KerasTensor, scaling: Scaling, size: int) -> keras.KerasTensor:
    # Resized as uint8, pixels would be rounded again by some of Keras's backends.
    x, shape = keras.ops.cast(inputs, "float32"), inputs.shape[1:3]
    if shape != (size, size):
        # Enlarged bicubically, CIFAR-10 is classified 0.8 points better than bilinearly; when
        # shrinking, pixels would be skipped without antialiasing.
        x = keras.layers.Resizing(
            size,
            size,
            interpolation="bicubic",
            antialias=max(shape) > size,
            dtype="float32",
            name="resizing",
        )(x)
    x = keras.layers.Rescaling(scaling.scale, scaling.offset, dtype="float32", name="scaling")(x)
    return keras.ops.flip(x, axis=-1) if scaling.bgr else x


def _feature_map(
    row: Backbone, x: keras.KerasTensor, source: str | Path | None
) -> keras.KerasTensor:
    if not isinstance(row.builder, str):
        return row.builder(x)
    application = getattr(keras.applications, row.builder)
    options = {"alpha": row.width} if row.width != 1.0 else {}
    published = source == "imagenet"
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
            raise ConnectionError(_download_message(row, error)) from error


def _download_message(row: Backbone, error: Exception) -> str:
    folder = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    return (
        f"weights='pretrained': the ImageNet weights of {row.name!r} are neither in {folder} nor "
        f"could they be downloaded ({error}). Three ways on: put the file there or pass its path "
        "as weights=...; use backbone='mobilenet_micro', whose weights come with the package; "
        "or pass weights=None to start from random weights."
    )


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
