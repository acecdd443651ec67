"""A classifier's parameters as JSON, and back, checked like those of a fit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from tlclassify._checks.parameters import number_problem, raise_problems, run_problems
from tlclassify.estimators.classifier import TransferClassifier
from tlclassify.inputs.augmentation import Augmentation, get_augmentation
from tlclassify.networks.heads import Head, get_head
from tlclassify.training.stages import Stage, check_stage, get_stage

NOT_KEPT = ("callbacks", "cache_dir", "engine")
_RECORDS: dict[str, Any] = {"Augmentation": Augmentation, "Head": Head, "Stage": Stage}
_NOT_FINITE = ("nan", "inf", "-inf")


@dataclass(frozen=True)
class SavedFunction:
    """Where a saved classifier had a function of the user's own, which no file holds."""

    name: str


def encode_value(value: Any, *, name: str) -> Any:
    """Return a value in types that JSON has; what it lacks becomes an object of one entry.

    Raises
    ------
    TypeError
        If the value, or one inside it, is of a type that a file does not hold.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    return _encode_composite(value, name)


def _encode_composite(value: Any, name: str) -> Any:
    kind = type(value).__name__
    if type(value) is _RECORDS.get(kind):
        params = value.get_params(deep=False)
        return {kind: {key: encode_value(params[key], name=f"{name}__{key}") for key in params}}
    if isinstance(value, list | tuple):
        items = [encode_value(item, name=name) for item in value]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, PurePath):
        return {"path": str(value)}
    if isinstance(value, Mapping):
        return {
            "pairs": [[encode_value(part, name=name) for part in item] for item in value.items()]
        }
    if callable(value):
        function = getattr(value, "__qualname__", kind)
        return {"function": f"{getattr(value, '__module__', '')}.{function}"}
    raise TypeError(
        f"{name} must be of a type that a file holds: None, a number, text, a path, a Head, Stage "
        f"or Augmentation, or a list, tuple or dict of such; received {kind}. Set it to None, "
        "save, and set it again after loading."
    )


def decode_value(value: Any) -> Any:
    """Return what `encode_value` was given.

    Raises
    ------
    ValueError, TypeError
        If it was not made by `encode_value`.
    """
    if isinstance(value, list):
        return [decode_value(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise ValueError(f"an encoded value must have one entry; received {len(value)}")
    ((kind, content),) = value.items()
    return _decode_composite(kind, content)


def _decode_composite(kind: str, content: Any) -> Any:
    if kind in _RECORDS and isinstance(content, dict):
        return _RECORDS[kind](**{key: decode_value(item) for key, item in content.items()})
    if kind == "float" and content in _NOT_FINITE:
        return float(content)
    if kind == "tuple" and isinstance(content, list):
        return tuple(decode_value(content))
    if kind == "pairs" and isinstance(content, list):
        return {decode_value(key): decode_value(item) for key, item in content}
    if kind in {"path", "function"} and isinstance(content, str):
        return Path(content) if kind == "path" else SavedFunction(content)
    raise ValueError(f"an encoded value must be of a known kind; received {kind!r}")


def encode_parameters(clf: TransferClassifier, *, backbone: str) -> dict[str, Any]:
    """Return the parameters that a file keeps.

    Parameters
    ----------
    clf : TransferClassifier
    backbone : str
        What stands for a row that is not registered.

    Raises
    ------
    TypeError
        If one of them cannot be kept.
    """
    params = clf.get_params(deep=False)
    kept = {name: value for name, value in params.items() if name not in NOT_KEPT}
    if not isinstance(kept["backbone"], str):
        kept["backbone"] = backbone
    if isinstance(kept["random_state"], np.random.RandomState):
        kept["random_state"] = None
    return {name: encode_value(value, name=name) for name, value in kept.items()}


def decode_parameters(encoded: Any) -> dict[str, Any]:
    """Return parameters for `TransferClassifier`, those not encoded at their defaults.

    Raises
    ------
    ValueError, TypeError
        If one is unknown or not valid.
    """
    params: dict[str, Any] = TransferClassifier().get_params(deep=False)
    if not isinstance(encoded, dict):
        raise TypeError(f"parameters must be an object; received {type(encoded).__name__}")
    unknown = sorted(encoded.keys() - (params.keys() - set(NOT_KEPT)))
    if unknown:
        raise ValueError(f"parameters must be those of TransferClassifier; received {unknown[:5]}")
    params |= {name: decode_value(value) for name, value in encoded.items()}
    _check_parts(params)
    fraction = params["validation_fraction"]
    raise_problems(
        [
            *run_problems(params["image_size"], params["batch_size"]),
            number_problem("validation_fraction", fraction, low=0, high=1, high_included=False),
            *(
                f"{name} must be {allowed}; received {params[name]!r}"
                for name, (types, allowed) in _PLAIN.items()
                if not isinstance(params[name], types)
            ),
            _class_weight_problem(params["class_weight"]),
        ]
    )
    return params


_PLAIN: dict[str, tuple[tuple[type, ...], str]] = {
    "backbone": ((str,), "a name"),
    "weights": ((str, Path, type(None)), "text, a path or None"),
    "warm_start": ((bool,), "True or False"),
    "random_state": ((int, type(None)), "an integer or None"),
    "verbose": ((int,), "an integer"),
}


def _check_parts(params: dict[str, Any]) -> None:
    if not isinstance(params["head"], SavedFunction):
        get_head(params["head"])
    if params["augmentation"] is not None:
        get_augmentation(params["augmentation"])
    if params["head_stage"] is not None:
        check_stage(params["head_stage"], name="head_stage")
    if params["fine_tune_stage"] is not None:
        get_stage(params["fine_tune_stage"], name="fine_tune_stage")


def _class_weight_problem(value: Any) -> str | None:
    if value is None or value == "balanced":
        return None
    if isinstance(value, dict):
        problems = (number_problem("class_weight", weight, low=0) for weight in value.values())
        return next((problem for problem in problems if problem), None)
    return f"class_weight must be None, 'balanced' or a dict; received {value!r}"
