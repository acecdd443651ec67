"""A stage of training as parameters: which part of the network, how long, how fast."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import keras
from sklearn.base import BaseEstimator, clone

from tlclassify._checks.parameters import (
    COUNT_OR_NONE,
    Interval,
    check_choice,
    check_parameters,
)
from tlclassify.networks.cuts import unfreeze_problem

__all__ = ["Stage", "get_stage"]

EXACT = "exact"
OPTIMIZERS = {
    "adamw": keras.optimizers.AdamW,
    "adam": keras.optimizers.Adam,
    "sgd": keras.optimizers.SGD,
}
_PLATEAU = {"patience": 2, "factor": 0.2}
_LOWEST_RATE = _PLATEAU["factor"] ** 2
_IMPROVEMENT = 1e-3
PLATEAU_ARTICLE = {"patience": 3, "factor": 0.01, "min_lr": 1e-5}
_ALLOWED: dict[str, Interval | Sequence[str]] = {
    "epochs": COUNT_OR_NONE,
    "learning_rate": Interval(0, closed="right", optional=True),
    "schedule": ("plateau", "plateau_article", "cosine", "constant"),
    "batch_size": COUNT_OR_NONE,
    "optimizer": tuple(OPTIMIZERS),
    "weight_decay": Interval(0, optional=True),
    "patience": COUNT_OR_NONE,
    "batch_norm": ("frozen", "train"),
    "layer_decay": Interval(0, 1, closed="right"),
    "label_smoothing": Interval(0, 1, closed="left"),
    "start_share": Interval(0, 1, closed="left", optional=True),
}


@dataclass(eq=False, repr=False)
class Stage(BaseEstimator):  # type: ignore[misc]
    """One training run: which part of the network, how long and how fast.

    Parameters
    ----------
    epochs : int or None, default 100
        Passes over the training images at most. None, which the presets have: 12, and where these
        are few steps of the optimizer as many as make 360, but at most 30.
    unfreeze : int, float or str, default 0
        What is trained beside the head. An integer: that many blocks from the top; a float
        between 0 and 1: that fraction of the blocks; "all": the whole backbone; a layer's name:
        everything above it. What lies below is run once per image.
    learning_rate : float, optional
        At its highest. None: 2e-3 for the head alone, else 3e-4.
    schedule : {"plateau", "plateau_article", "cosine", "constant"}, default "plateau"
        "plateau": after 2 epochs without improvement the learning rate falls to a fifth, twice at
        most. "plateau_article": after 3 without a better accuracy to a hundredth, never under 1e-5.
        "cosine": up in the first tenth of the steps, then down to 0 along a half cosine.
    batch_size : int, optional
        Images per step of the optimizer. None: a sixteenth of the training images, as a power of
        two from 16 to 512 for the head alone; else 32 up to 2,000 images, 64 for more.
    optimizer : {"adamw", "adam", "sgd"}, default "adamw"
        By Keras's names; "sgd" has momentum 0.9.
    weight_decay : float, optional
        Share of the learning rate that each step takes of every kernel, and of nothing else. None:
        with "adamw" 1.0 for the head alone, else 0.05; 0.0 with the others.
    patience : int or None, default 5
        Epochs without a validation loss (without validation, a training loss) lower by more than
        0.001 that end the stage; None: all are run. The best epoch's weights are kept either way,
        and with validation those before the stage if they were better still.
    batch_norm : {"frozen", "train"}, default "frozen"
        Whether the backbone's batch normalisation stays as it was trained, or follows the images:
        its statistics, scale and offset. The head's own is always trained.
    layer_decay : float in (0, 1], default 1.0
        Each block's learning rate, and weight decay with it, over that of the block above it; the
        head has the full one.
    label_smoothing : float in [0, 1), default 0.0
        Probability that training targets take from the true class and give to all alike; the
        validation loss is of the labels as they are.
    start_share : float in [0, 1) or None, default 0.0
        Share of the weights before the stage in the average with its best epoch's that it ends
        with; of few images it is often better than both (Wortsman et al., Robust fine-tuning of
        zero-shot models, 2022). With validation, the lowest loss decides between the three. None,
        which the presets have: 0.5 above the head up to 2,000 images, else 0.0, as where nothing
        was trained before.

    Examples
    --------
    >>> from tlclassify import Stage
    >>> Stage(epochs=20, learning_rate=3e-3)
    Stage(epochs=20, learning_rate=0.003)
    """

    epochs: int | None = 100
    _: KW_ONLY
    unfreeze: float | str = 0
    learning_rate: float | None = None
    schedule: str = "plateau"
    batch_size: int | None = None
    optimizer: str = "adamw"
    weight_decay: float | None = None
    patience: int | None = 5
    batch_norm: str = "frozen"
    layer_decay: float = 1.0
    label_smoothing: float = 0.0
    start_share: float | None = 0.0


_TOP = Stage(
    None,
    unfreeze=0.5,
    schedule="cosine",
    patience=None,
    label_smoothing=0.1,
    start_share=None,
)
_PRESETS = {"top": _TOP, "all": clone(_TOP).set_params(unfreeze="all")}


def get_stage(stage: Any, *, name: str) -> Stage:
    """Return a checked stage, for a preset's name a copy; all its problems are raised together."""
    if isinstance(stage, str):
        return clone(_PRESETS[check_choice(name, stage, tuple(_PRESETS))])  # type: ignore[no-any-return]
    if not isinstance(stage, Stage):
        names = "'top' or 'all'" if name == "fine_tune_stage" else "'auto' or 'exact'"
        raise TypeError(
            f"{name} must be a Stage, {names} or None; received {type(stage).__name__}."
        )
    check_parameters(
        *((f"{name}__{key}", getattr(stage, key), allowed) for key, allowed in _ALLOWED.items()),
        problems=[unfreeze_problem(f"{name}__unfreeze", stage.unfreeze)],
    )
    return stage


def resolve_stage(stage: Stage, n_images: int) -> Stage:
    """Return a copy whose None are replaced by the numbers that they stand for."""
    if stage.unfreeze == 0:
        # Few images in large batches would be few steps.
        sixteenth = 2 ** math.ceil(math.log2(max(n_images / 16, 1)))
        defaults = {"learning_rate": 2e-3, "weight_decay": 1.0, "start_share": 0.0}
        defaults["batch_size"] = min(max(sixteenth, 16), 512)
    else:
        batch_size, start_share = (32, 0.5) if n_images <= 2_000 else (64, 0.0)
        defaults = {"learning_rate": 3e-4, "weight_decay": 0.05, "start_share": start_share}
        defaults["batch_size"] = batch_size
    if stage.optimizer != "adamw":
        defaults["weight_decay"] = 0.0
    n_steps = math.ceil(n_images / (stage.batch_size or defaults["batch_size"]))  # an epoch
    defaults["epochs"] = min(max(12, math.ceil(360 / n_steps)), 30)
    chosen = {key: value for key, value in defaults.items() if getattr(stage, key) is None}
    return clone(stage).set_params(**chosen)  # type: ignore[no-any-return]


def build_callbacks(stage: Stage, watched: str) -> list[keras.callbacks.Callback]:
    """Return what ends a resolved stage early, or lowers its rate, by the loss that is watched."""
    callbacks: list[keras.callbacks.Callback] = []
    options: dict[str, Any] = {"monitor": watched, "mode": "min", "min_delta": _IMPROVEMENT}
    if stage.patience is not None:
        callbacks.append(keras.callbacks.EarlyStopping(**options, patience=stage.patience))
    if stage.schedule == "plateau":
        options |= _PLATEAU | {"min_lr": _LOWEST_RATE * stage.learning_rate}  # type: ignore[operator]
    elif stage.schedule == "plateau_article":
        options = {"monitor": watched.replace("loss", "accuracy"), "mode": "max", **PLATEAU_ARTICLE}
    if stage.schedule.startswith("plateau"):
        callbacks.append(keras.callbacks.ReduceLROnPlateau(**options))
    return callbacks
