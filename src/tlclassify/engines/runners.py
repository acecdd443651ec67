"""What runs a network over images: Keras itself, or an engine that runs it faster."""

import math
import warnings
from collections.abc import Iterator
from contextlib import suppress
from textwrap import shorten
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.parameters import COUNT, check_choice, check_parameters, check_process
from tlclassify.engines.converters import check_format, compile_network, format_of
from tlclassify.engines.runtimes import AUTO, ENGINE_NAMES, list_engines
from tlclassify.inputs.images import read_batches

if TYPE_CHECKING:
    import keras

KERAS = "keras"
_REASON_LENGTH = 300
_reopening = Lock()


class Runner:
    """A network and the engine that runs it, opened at the first batch; threads may share it."""

    def __init__(self, network: "keras.Model", engine: str) -> None:
        from tlclassify.networks.cuts import narrow_layers

        self.network, self.asked = network, engine
        # What runs the network, or is going to.
        self.engine = check_engine(engine)
        self._opening = Lock()
        self._opened: Any = None
        self._fingerprint = ""
        self.training: object = None
        if self.engine != KERAS and (narrow := narrow_layers(network)):
            self._turn_to_keras(f"its layer {narrow[0]!r} does not compute in float32")

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
        # Not when this room is imported, which runs exported graphs without Keras too.
        from tlclassify.networks.cuts import fingerprint_model, last_training

        # Looked at first: what is trained meanwhile is then noticed by the next call.
        training, found = last_training(), fingerprint_model(self.network)
        with self._opening:
            if found != self._fingerprint:
                self._opened = None
            self._fingerprint, self.training = found, training
        return found

    def _compile(self) -> None:
        try:
            self._opened = compile_network(self.network, engine=self.engine)
        except Exception as error:  # noqa: BLE001 - converters and runtimes raise what they like
            innermost: BaseException = error
            while innermost.__cause__ is not None:
                innermost = innermost.__cause__
            reason = shorten(str(innermost) or repr(innermost), _REASON_LENGTH).rstrip(".")
            failed = self.engine
            self._turn_to_keras(reason, error)
            warnings.warn(
                f"engine='auto' runs this network on Keras: {failed} cannot ({reason}).",
                stacklevel=2,
            )

    def _turn_to_keras(self, reason: str, error: Exception | None = None) -> None:
        """Leave the network to Keras, unless another engine was asked for by its name."""
        if self.asked != AUTO:
            raise ValueError(
                f"engine={self.asked!r} cannot run this network ({reason}). Pass engine='keras'."
            ) from error
        self.engine = KERAS


def reopen_runner(estimator: Any, network: "keras.Model") -> Runner:
    """Return an estimator's runner, whose weights are those of today, whoever has trained it."""
    from tlclassify.networks.cuts import last_training

    check_parameters(("batch_size", estimator.batch_size, COUNT))
    with _reopening:
        runners: dict[keras.Model, Runner] = vars(estimator).setdefault("_runners", {})
        if network not in runners or runners[network].asked != estimator.engine:
            runners[network] = Runner(network, estimator.engine)
        runner = runners[network]
    if runner.engine != KERAS and runner.training is not last_training():
        runner.fingerprint()
    return runner


def check_engine(engine: Any) -> str:
    """Return the engine meant, which can be used here: for "auto" the first that can, or Keras."""
    if engine == AUTO:
        for name in list_engines():
            with suppress(ImportError):
                return check_engine(name)
        return KERAS
    if engine != KERAS:
        check_choice("engine", engine, (KERAS, *ENGINE_NAMES))
        check_format(format_of(engine), f"engine={engine!r}")
    return str(engine)


def round_up(n: int, n_devices: int) -> int:
    """Return the least number of images, `n` or more, that devices share evenly."""
    return math.ceil(n / n_devices) * n_devices


def fill_up(batch: Any, n_filled: int) -> Any:
    """Return a batch of so many images, its first ones again where there are fewer."""
    if isinstance(batch, tuple):
        return tuple(fill_up(part, n_filled) for part in batch)
    return batch if len(batch) == n_filled else batch[np.arange(n_filled) % len(batch)]


def count_devices(network: Any) -> int:
    """Return among how many devices Keras divides each batch, all of one machine."""
    import keras

    found, strategy = (
        keras.distribution.distribution(),
        getattr(network, "distribute_strategy", None),
    )
    if strategy:  # TensorFlow's, also of one device
        nodes = strategy.cluster_resolver and strategy.cluster_resolver.cluster_spec().as_dict()
        n_devices, n_hosts = strategy.num_replicas_in_sync, sum(map(len, (nodes or {}).values()))
    elif found is None:
        return 1
    else:
        mesh = found.device_mesh
        n_devices = mesh.shape[mesh.axis_names.index(found.batch_dim_name)]
        n_hosts = getattr(found, "num_processes", 1)
    if n_hosts > 1:
        raise RuntimeError(
            f"a batch must be divided among devices of one process; received {n_hosts} processes. "
            "Start one process, with MirroredStrategy on TensorFlow, DataParallel on JAX."
        )
    return int(n_devices)


def divide(network: "keras.Model", batch: Any, n_devices: int) -> Any:
    """Return a batch of which each of several devices gets its part; its length must allow it."""
    import keras

    if found := keras.distribution.distribution():
        distribute = keras.distribution.distribute_tensor
        return keras.tree.map_structure(
            lambda x: distribute(x, found.get_data_layout(x.shape)), batch
        )

    def take(context: Any) -> Any:
        number = context.replica_id_in_sync_group
        return keras.tree.map_structure(
            lambda x: keras.ops.convert_to_tensor(np.split(x, n_devices)[number]), batch
        )

    return network.distribute_strategy.experimental_distribute_values_from_function(take)


def run_batches(
    model: Any, source: Any, *, batch_size: int, progress: Any = None
) -> Iterator[NDArray[np.float32]]:
    """Yield the output of a network or Runner over a source, batch by batch, in inference mode."""
    check_process()
    runner, n_devices = model.open() if isinstance(model, Runner) else model, 1
    if hasattr(runner, "layers"):  # Keras's own
        n_devices = count_devices(runner)
    for batch in read_batches(source, batch_size):
        # Filled up to a power of two, so that a graph is compiled for few sizes only.
        n = len(batch[0]) if isinstance(batch, tuple) else len(batch)
        n_filled = max(n, min(batch_size, 1 << (n - 1).bit_length()))
        filled = fill_up(batch, round_up(n_filled, n_devices))
        if n_devices > 1:
            filled = divide(runner, filled, n_devices)
        output = runner.predict_on_batch(filled)
        yield np.asarray(output[:n], dtype=np.float32)
        if progress is not None:
            progress.update(n)
