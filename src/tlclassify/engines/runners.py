"""What runs a network over images: Keras itself, or an engine that runs it faster."""

import warnings
from contextlib import suppress
from textwrap import shorten
from threading import Lock
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.parameters import check_choice
from tlclassify.engines.converters import check_converter, compile_network
from tlclassify.engines.portable import narrow_layers
from tlclassify.engines.rows import AUTO, ENGINE_NAMES, list_engines
from tlclassify.networks.graphs import fingerprint_model, last_training

KERAS = "keras"
_REASON_LENGTH = 300
_reopening = Lock()


class Runner:
    """A network and the engine that runs it, opened when the first batch comes.

    Threads may share it.

    Parameters
    ----------
    network : keras.Model
        From images of a fixed size to one output.
    engine : {"keras", "auto", "openvino", "openvino_bfloat16", "onnxruntime"}
        As `check_engine` takes it. "auto" means Keras for a network that does not compute in
        float32, and turns to Keras where converting fails.

    Attributes
    ----------
    engine : str
        What runs the network, or is going to.

    Raises
    ------
    ValueError
        If an engine is named and cannot run the network; or as `check_engine`.
    ImportError, RuntimeError
        As `check_engine`.

    Warns
    -----
    UserWarning
        If "auto" turned to Keras because converting failed.
    """

    def __init__(self, network: keras.Model, engine: str) -> None:
        self.network = network
        self.asked = engine
        self.engine = check_engine(engine)
        self._opening = Lock()
        self._opened: Any = None
        self._fingerprint = ""
        self._training = last_training()
        if self.engine != KERAS and (narrow := narrow_layers(network)):
            if engine != AUTO:
                reason = f"its layer {narrow[0]!r} does not compute in float32"
                raise _refusal(engine, reason)
            self.engine = KERAS

    def predict_on_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's output for one batch of images."""
        output: NDArray[np.float32] = self.open().predict_on_batch(images)
        return output

    def open(self) -> Any:
        """Return what runs the network, made ready where it is not yet."""
        with self._opening:
            if self.engine != KERAS and self._opened is None:
                self._compile()
            return self.network if self.engine == KERAS else self._opened

    def fingerprint(self) -> str:
        """Return the network's fingerprint, and close an engine that has other weights."""
        training, found = last_training(), fingerprint_model(self.network)
        with self._opening:
            if found != self._fingerprint:
                self._opened = None
            self._training = training
        return found

    def catch_up(self) -> None:
        """Close an engine whose network has been trained on since it was opened."""
        if self._opened is not None and self._training is not last_training():
            self.fingerprint()

    def _compile(self) -> None:
        # Asked for first: what is trained meanwhile is then noticed by the next call.
        self._training = last_training()
        self._fingerprint = fingerprint_model(self.network)
        try:
            self._opened = compile_network(self.network, engine=self.engine)
        except Exception as error:
            # Converters and runtimes raise what they like.
            reason = _innermost(error)
            if self.asked != AUTO:
                raise _refusal(self.asked, reason) from error
            failed, self.engine = self.engine, KERAS
            warnings.warn(
                f"engine='auto' runs this network on Keras: {failed} cannot ({reason}).",
                stacklevel=2,
            )


def _refusal(engine: str, reason: str) -> ValueError:
    return ValueError(f"engine={engine!r} cannot run this network ({reason}). Pass engine='keras'.")


def _innermost(error: BaseException) -> str:
    """Return what went wrong at the bottom, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return shorten(str(error) or repr(error), _REASON_LENGTH).rstrip(".")


def reopen_runner(estimator: Any, network: keras.Model) -> Runner:
    """Return an estimator's runner, a new one if its network or its engine is another by now.

    Parameters
    ----------
    estimator : FeatureExtractor or TransferClassifier
        With an `engine`, and the runner of the last call, if any, as ``_runner``.
    network : keras.Model

    Returns
    -------
    Runner
        It has the network's weights of today, whoever has trained it.
    """
    with _reopening:
        runner: Runner | None = getattr(estimator, "_runner", None)
        if runner is None or runner.network is not network or runner.asked != estimator.engine:
            runner = estimator._runner = Runner(network, estimator.engine)  # noqa: SLF001
    runner.catch_up()
    return runner


def check_engine(engine: Any) -> str:
    """Return the name of the engine meant.

    Parameters
    ----------
    engine : {"keras", "auto", "openvino", "openvino_bfloat16", "onnxruntime"}
        "auto": OpenVINO where it is installed, else ONNX Runtime with the packages that convert
        for it, else Keras; and Keras where that does not run on TensorFlow.

    Raises
    ------
    ValueError
        If the name is unknown, or the processor lacks what the engine computes with.
    ImportError
        If the engine is not installed, or what converts for it.
    RuntimeError
        If Keras does not run on TensorFlow, whose graphs other engines take.
    """
    check_choice("engine", engine, (KERAS, *ENGINE_NAMES))
    on_tensorflow = keras.backend.backend() == "tensorflow"
    if engine == AUTO:
        return _first_ready() if on_tensorflow else KERAS
    if engine == KERAS:
        return KERAS
    if not on_tensorflow:
        raise RuntimeError(
            f"engine={engine!r} needs Keras on TensorFlow, whose graphs it takes; received the "
            f"backend {keras.backend.backend()!r}. Pass engine='keras'."
        )
    check_converter(engine)
    return str(engine)


def _first_ready() -> str:
    for name in list_engines():
        with suppress(ImportError):
            check_converter(name)
            return name
    return KERAS


def key_of_engine(key: str, engine: str) -> str:
    """Return under which name outputs are kept: those of engines but Keras by a name of their own.

    They differ by roundings, and so does all that is computed from them.
    """
    return key if engine == KERAS else f"{key}-{engine}"
