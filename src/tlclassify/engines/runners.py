"""What runs a network over images: Keras itself, or an engine that runs it faster."""

import warnings
from contextlib import suppress
from textwrap import shorten
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.parameters import check_choice
from tlclassify.engines.converters import check_format, compile_network, format_of
from tlclassify.engines.rows import AUTO, ENGINE_NAMES, list_engines

if TYPE_CHECKING:
    import keras

KERAS = "keras"
_REASON_LENGTH = 300
_reopening = Lock()


class Runner:
    """A network and the engine that runs it, opened when the first batch comes.

    Threads may share it. `engine` is what runs the network, or is going to: "auto" means Keras for
    a network that does not compute in float32, and turns to Keras, with a warning, where
    converting fails. An engine that is named and cannot run it is a ValueError.
    """

    def __init__(self, network: "keras.Model", engine: str) -> None:
        from tlclassify.networks.fingerprints import narrow_layers

        self.network = network
        self.asked = engine
        self.engine = check_engine(engine)
        self._opening = Lock()
        self._opened: Any = None
        self._fingerprint = ""
        self._training = _last_training()
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
        training, found = _last_training(), _fingerprint(self.network)
        with self._opening:
            if found != self._fingerprint:
                self._opened = None
            self._training = training
        return found

    def catch_up(self) -> None:
        """Close an engine whose network has been trained on since it was opened."""
        if self._opened is not None and self._training is not _last_training():
            self.fingerprint()

    def _compile(self) -> None:
        # Asked for first: what is trained meanwhile is then noticed by the next call.
        self._training = _last_training()
        self._fingerprint = _fingerprint(self.network)
        try:
            self._opened = compile_network(self.network, engine=self.engine)
        except Exception as error:
            # Converters and runtimes raise what they like.
            innermost: BaseException = error
            while innermost.__cause__ is not None:
                innermost = innermost.__cause__
            reason = shorten(str(innermost) or repr(innermost), _REASON_LENGTH).rstrip(".")
            if self.asked != AUTO:
                raise _refusal(self.asked, reason) from error
            failed, self.engine = self.engine, KERAS
            warnings.warn(
                f"engine='auto' runs this network on Keras: {failed} cannot ({reason}).",
                stacklevel=2,
            )


def _fingerprint(network: "keras.Model") -> str:
    # Not when this room is imported, which runs exported graphs without Keras too.
    from tlclassify.networks.fingerprints import fingerprint_model

    return fingerprint_model(network)


def _last_training() -> object:
    from tlclassify.networks.cuts import last_training

    return last_training()


def _refusal(engine: str, reason: str) -> ValueError:
    return ValueError(f"engine={engine!r} cannot run this network ({reason}). Pass engine='keras'.")


def reopen_runner(estimator: Any, network: "keras.Model") -> Runner:
    """Return an estimator's runner, a new one if its network or its engine is another by now.

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

    "auto" is OpenVINO where it is installed, else ONNX Runtime, each with what converts for it,
    else Keras. A ValueError or ImportError says why another engine cannot be used here.
    """
    check_choice("engine", engine, (KERAS, *ENGINE_NAMES))
    if engine == KERAS:
        return KERAS
    if engine != AUTO:
        check_format(format_of(engine), f"engine={engine!r}")
        return str(engine)
    for name in list_engines():
        with suppress(ImportError):
            return check_engine(name)
    return KERAS
