"""What runs a network over images: Keras itself, or an engine that runs it faster."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify._validation import check_choice
from tlclassify.converters import compile_network
from tlclassify.engines import AUTO, choose_engine, list_engines

KERAS = "keras"
_BFLOAT16 = "openvino_bfloat16"
ENGINES = (KERAS, AUTO, "openvino", _BFLOAT16, "onnxruntime")


class Runner:
    """A network and the engine that runs it, opened when the first batch comes.

    Parameters
    ----------
    network : keras.Model
        From images of a fixed size to one output.
    engine : {"keras", "auto", "openvino", "openvino_bfloat16", "onnxruntime"}
        As `check_engine` takes it.
    """

    def __init__(self, network: keras.Model, engine: str) -> None:
        self.network = network
        self.asked = engine
        self.engine = check_engine(engine)
        self._opened: Any = network if self.engine == KERAS else None

    def predict_on_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's output for one batch of images."""
        if self._opened is None:
            name, precision = _runtime_of(self.engine)
            self._opened = compile_network(self.network, engine=name, precision=precision)
        output: NDArray[np.float32] = self._opened.predict_on_batch(images)
        return output


def reopen_runner(estimator: Any, network: keras.Model) -> Runner:
    """Return an estimator's runner, a new one if its network or its engine is another by now.

    Parameters
    ----------
    estimator : FeatureExtractor or TransferClassifier
        With an `engine`, and the runner of the last call, if any, as ``_runner``.
    network : keras.Model
    """
    last = getattr(estimator, "_runner", None)
    if last is None or last.network is not network or last.asked != estimator.engine:
        return Runner(network, estimator.engine)
    return last  # type: ignore[no-any-return]


def check_engine(engine: Any) -> str:
    """Return the name of the engine meant: of "auto", the fastest that computes in float32.

    Raises
    ------
    ValueError
        If the name is unknown.
    ImportError
        If the engine is not installed.
    RuntimeError
        If Keras does not run on TensorFlow, whose graphs other engines take.
    """
    check_choice("engine", engine, ENGINES)
    on_tensorflow = keras.backend.backend() == "tensorflow"
    if engine == KERAS or (engine == AUTO and not (on_tensorflow and list_engines())):
        return KERAS
    if not on_tensorflow:
        raise RuntimeError(
            f"engine={engine!r} needs Keras on TensorFlow, whose graphs it takes; received the "
            f"backend {keras.backend.backend()!r}. Pass engine='keras'."
        )
    name, precision = _runtime_of(engine)
    chosen = choose_engine(name, precision=precision).name
    return chosen if engine == AUTO else str(engine)


def _runtime_of(engine: str) -> tuple[str, str]:
    """Return the runtime and the precision that an engine's name stands for."""
    return ("openvino", "bfloat16") if engine == _BFLOAT16 else (engine, "float32")


def key_of_engine(key: str, engine: str) -> str:
    """Return under which name outputs are kept: those of engines but Keras by a name of their own.

    They differ by roundings, and so does all that is computed from them.
    """
    return key if engine == KERAS else f"{key}-{engine}"
