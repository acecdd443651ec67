"""The registry of backbones, and the way from a row to a network on raw RGB images."""

import inspect
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from tlclassify._checks.images import STRETCHED, Framing
from tlclassify._checks.parameters import check_process, close_match_hint
from tlclassify.inputs.images import ImageSource, measure_side, open_images
from tlclassify.inputs.splits import seeded
from tlclassify.networks.cuts import SCALING, output_at, parts_of
from tlclassify.networks.rows import BUILT_IN, Backbone, BackboneNames, Scaling
from tlclassify.networks.sources import check_model, copy_above, copy_layer, load_weight_file
from tlclassify.networks.steps import build_resizing

AnyBackbone = str | Backbone | Callable[[Any], Any] | Sequence[Any]
_registry: dict[str, Backbone] = {row.name: row for row in BUILT_IN}
_SMALLEST_GOOD_MAP = 3
_ENLARGEMENT, _LARGEST_ENLARGED = 1.5, 224


def list_backbones() -> list[str]:
    """Return the names of all registered backbones, shown as a table with what belongs to them.

    Examples
    --------
    >>> from tlclassify import list_backbones
    >>> list_backbones()[:3]
    ['mobilenet_micro', 'mobilenet', 'mobilenet_050']
    """
    return BackboneNames(_registry.values())


def get_backbone(backbone: AnyBackbone) -> Backbone:
    """Return the row of a backbone: a registered one's by its name, a row as it is.

    Parameters
    ----------
    backbone : str, Backbone, keras.Model, callable or sequence of them
        A model or a function gets a row as by `register_backbone`, on raw RGB in [0, 255]. Several
        backbones make one row, whose features are those of all of them side by side.

    Raises
    ------
    ValueError, TypeError
        If no backbone has this name, or if it does not go from images to features.

    Examples
    --------
    >>> from tlclassify import get_backbone
    >>> get_backbone("resnet50").n_features
    2048
    """
    if isinstance(backbone, Backbone):
        return backbone
    if isinstance(backbone, list | tuple):
        return _join([get_backbone(part) for part in backbone])
    if callable(backbone):
        row = _make_row(backbone)
        # TensorFlow takes no network that is called "<lambda>".
        return replace(row, name=row.name.strip("<>") or "backbone")
    if not isinstance(backbone, str):
        raise TypeError(
            "backbone must be a name, a Backbone, a keras.Model, a function or a list of them; "
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
    """Add a backbone to the registry, for this process, and return its row.

    Parameters
    ----------
    backbone : Backbone, keras.Model or callable
        A whole row; or what its `builder` would be, with the rest of it in the other parameters.
    name, scaling, native_size, weights : optional
        Fields of the row. By default the name of the model or function, no scaling, the size of the
        model's input, else 224, and a model's own weights.

    Raises
    ------
    ValueError
        If the name is taken, or a row comes with what it holds itself.

    Examples
    --------
    >>> import keras
    >>> from tlclassify import register_backbone
    >>> def two_filters(images):
    ...     return keras.layers.Conv2D(2, 3, strides=2, activation="relu")(images)
    >>> register_backbone(two_filters, native_size=32).name
    'two_filters'
    """
    options = {"name": name, "scaling": scaling, "native_size": native_size, "weights": weights}
    given = {key: value for key, value in options.items() if value is not None}
    if isinstance(backbone, Backbone) and given:
        raise ValueError(
            "register_backbone takes name, scaling, native_size and weights only with a function "
            "or model; received them with a Backbone. Use dataclasses.replace on the row."
        )
    row = _make_row(backbone, **given) if callable(backbone) else get_backbone(backbone)
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


def _make_row(builder: Callable[[Any], Any], **options: Any) -> Backbone:
    """Return the row of a function or model; the options are fields of it."""
    side = None
    if isinstance(builder, keras.Model):
        check_model(builder)
        side = builder.inputs[0].shape[1]
    size = options.get("native_size") or side or 224
    name = str(getattr(builder, "name", None) or getattr(builder, "__name__", ""))
    row = Backbone(name, builder, native_size=size, small_size=side or min(size, 128), min_size=1)
    return replace(row, **options)


def _join(rows: Sequence[Backbone]) -> Backbone:
    """Return one row for several backbones."""
    names = [row.name for row in rows]
    if not rows or len({*names}) < len(rows) or any(len(row.parts) > 1 for row in rows):
        raise ValueError(f"backbone must be a list of different backbones; received {names}.")
    if len(rows) == 1:
        return rows[0]
    widths = [row.n_features for row in rows if row.n_features is not None]
    sizes = [row.n_parameters for row in rows if row.n_parameters is not None]
    return Backbone(
        "_and_".join(names),
        tuple(rows),
        native_size=max(row.native_size for row in rows),
        n_features=sum(widths) if len(widths) == len(rows) else None,
        n_parameters=sum(sizes) if len(sizes) == len(rows) else None,
        licence="; ".join(f"{row.name}: {row.licence or 'unknown'}" for row in rows),
        paper="; ".join(row.paper for row in rows if row.paper),
    )


def choose_image_size(backbone: Backbone, side: int) -> int:
    """Return the pixels a side, by the row's policy, at which a backbone should see images."""
    # Chosen by what a solved head gets on few images (the guide's page on backbones).
    nearest, enlarged = round(side / 32), math.ceil(_ENLARGEMENT * side / 32)
    size = 32 * max(nearest, min(enlarged, _LARGEST_ENLARGED // 32))
    return min(max(size, backbone.small_size), backbone.native_size)


def build_backbone(
    backbone: str | Backbone | Callable[[Any], Any],
    *,
    image_shape: tuple[int, int],
    image_size: int | None = None,
    weights: str | Path | None = "pretrained",
    framing: Framing = STRETCHED,
    random_state: int | None = None,
) -> keras.Model:
    """Build the network from raw images, uint8, to its feature map; resizing and scaling inside."""
    check_process()
    check_settings()
    row = get_backbone(backbone)
    size = image_size or choose_image_size(row, int(framing.side(image_shape)))
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
        x = keras.layers.Rescaling(
            row.scaling.scale, row.scaling.offset, dtype="float32", name=SCALING
        )(build_resizing(inputs, size, framing))
        x = keras.ops.take(x, [2, 1, 0], axis=-1) if row.scaling.bgr else x
        if isinstance(row.builder, str):
            features = _build_application(row, x, published=source == "imagenet")
        elif own is not None:
            features = copy_above(own, inputs, x)
        else:
            features = row.builder(x)
    shape = getattr(features, "shape", ())
    if len(shape) not in {2, 3, 4} or None in shape[1:]:
        raise ValueError(
            f"backbone {row.name!r} must end in a feature map (None, rows, columns, n_features), "
            "in tokens (None, n_tokens, n_features) or in features (None, n_features); received "
            f"{shape or type(features).__name__}."
        )
    model = keras.Model(inputs, features, name=row.name)
    if source is not None and source != "imagenet":
        load_weight_file(model, Path(source), row.name)
    elif own is not None and weights == "pretrained":
        model.set_weights(own.get_weights())
    _warn_if_small(model, row, size)
    return model


def _build_application(
    row: Backbone, x: keras.KerasTensor, *, published: bool
) -> keras.KerasTensor:
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


def _warn_if_small(model: keras.Model, row: Backbone, size: int) -> None:
    shape = model.output_shape
    height, width = shape[1:3] if len(shape) == 4 else (_SMALLEST_GOOD_MAP,) * 2
    if min(height, width) < _SMALLEST_GOOD_MAP:
        better = min(row.native_size, max(row.small_size, size * 2))
        warnings.warn(
            f"image_size={size} leaves {row.name!r} a feature map of {height}x{width}: most of "
            "what it sees lies in the padding, and accuracy suffers (MobileNet on CIFAR-10: 0.52 "
            f"at 32 px, 0.83 at 96 px). Try image_size={better}.",
            stacklevel=3,
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


def open_for_backbone(
    X: Any, row: Backbone, image_size: int | None, aspect: str
) -> tuple[ImageSource, tuple[int, ...]]:
    """Check images; return them, and the size at which each part of a backbone sees them."""
    source = replace(open_images(X), framing=row.frame(aspect))
    side = measure_side(source)
    sizes = tuple(image_size or choose_image_size(part, side) for part in row.parts)
    return (replace(source, file_shape=(max(sizes),) * 2) if source.is_files else source), sizes


def take_backbone(network: keras.Model, row: Backbone) -> Backbone:
    """Return a row whose pretrained weights are those that a network built from `row` has now."""
    if len(row.parts) > 1:
        pairs = zip(parts_of(network), row.parts, strict=True)
        return replace(row, builder=tuple(take_backbone(*pair) for pair in pairs))
    above = keras.Model(output_at(network, SCALING), network.output, name=row.name)
    copy = keras.models.clone_model(above, clone_function=copy_layer)
    copy.set_weights(above.get_weights())
    size = above.input.shape[1]
    # The order of channels is changed above the scaling.
    scaling = replace(row.scaling, bgr=False)
    own = {"builder": copy, "scaling": scaling, "weights": None, "n_parameters": None}
    return replace(row, **own, native_size=size, small_size=size, min_size=1)
