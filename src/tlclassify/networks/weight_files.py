"""Load a file of weights into a network, or say why it does not fit."""

import warnings
from pathlib import Path

import keras
import numpy as np


def load_weight_file(model: keras.Model, path: Path, name: str) -> None:
    """Load weights from a Keras ``.h5``, ``.weights.h5`` or ``.keras`` file, or from ``.npz``.

    An ``.npz`` holds plain arrays in the order of ``model.weights``; it is read without pickle.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no weights file, or belongs to another network.
    """
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
            _load_keras_file(model, path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise ValueError(
            f"weights: {str(path)!r} does not hold the weights of {name!r} without its top "
            f"({error}). Pass a file saved from the same network built with include_top=False."
        ) from error


def _load_keras_file(model: keras.Model, path: Path) -> None:
    with warnings.catch_warnings():
        # Keras only warns of layers that it does not find in the file, and leaves them random.
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message=".*optimizer")
        model.load_weights(path)
