"""The options of TensorFlow's own converter to LiteRT, which Keras hands on but does not name.

LiteRT's files are written by TensorFlow alone: no other backend of Keras has a converter, so this
one file names it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["converter_options"]


def converter_options(
    precision: str, images: Callable[[], Iterator[NDArray[np.uint8]]] | None
) -> dict[str, Any]:
    """Return what `keras.Model.export` is to hand on to the converter.

    Parameters
    ----------
    precision : {"float32", "float16", "int8"}
        In which weights are kept; in int8 they and all activations are computed in too.
    images : callable, optional
        Returns batches of images, from which the range of activations is measured for int8.

    Returns
    -------
    dict
    """
    if precision == "float32":
        return {}
    import tensorflow as tf

    options: dict[str, Any] = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if precision == "float16":
        return {**options, "target_spec": {"supported_types": [tf.float16]}}
    assert images is not None
    found = images

    def samples() -> Iterator[list[NDArray[np.uint8]]]:
        yield from ([image[None]] for batch in found() for image in batch)

    return {**options, "representative_dataset": samples}
