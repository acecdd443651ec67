"""The runtimes that run an exported graph without Keras: OpenVINO and ONNX Runtime."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from importlib.util import find_spec
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.parameters import check_choice
from tlclassify.engines.metadata import METADATA_KEY

AUTO = "auto"
# What one layer hands to the next on one core is kept this small, so that it stays in the cache.
_LAYER_BYTES = 7 * 2**20
_BATCH_SIZE = 64  # of most callers, of which every core is to get its lot
# OpenVINO's word for a precision, and the bytes of a value.
_PRECISIONS = {"openvino": ("f32", 4), "openvino_bfloat16": ("bf16", 2)}


class OpenVino:
    """A graph compiled by OpenVINO, in float32 or in bfloat16."""

    def __init__(self, path: Path, name: str, n_threads: int | None) -> None:
        self._core = import_module("openvino").Core()
        self.name, self._model = name, self._core.read_model(path)
        self.inputs = [_openvino_shape(port) for port in self._model.inputs]
        self.outputs = [_openvino_shape(port) for port in self._model.outputs]
        # OpenVINO keeps an ONNX file's own entries under "framework".
        places = ([METADATA_KEY], ["framework", METADATA_KEY])
        said = [self._model.get_rt_info(at) for at in places if self._model.has_rt_info(at)]
        self.metadata = str(said[0].astype(str)) if said else None
        # Left to itself, OpenVINO computes in bfloat16 wherever the processor can.
        hint, value_bytes = _PRECISIONS[name]
        self._options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint}
        if n_threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = n_threads
        self._lock = Lock()
        # How many images one core runs at once: a power of 2, of which batches are made. How many
        # cores there are is asked of the smallest network.
        openvino = import_module("openvino")
        port = openvino.opset13.parameter([1])
        smallest = openvino.Model([openvino.opset13.relu(port)], [port])
        options = self._options | {"PERFORMANCE_HINT": "LATENCY"}
        compiled = self._core.compile_model(smallest, "CPU", options)
        n_cores = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        ports = [port for step in self._model.get_ops() for port in step.outputs()]
        shapes = [
            _openvino_shape(port) for port in ports if port.get_partial_shape().rank.is_static
        ]
        of_images = [[side for side in shape if side] for shape in shapes if None in shape]
        widest = max(map(prod, of_images), default=1)
        n_rows = max(1, min(_LAYER_BYTES // (widest * value_bytes), _BATCH_SIZE // n_cores))
        self.n_rows = 1 << (n_rows.bit_length() - 1)

    def _compile(self, hint: str, n_rows: int) -> Any:
        model = self._model.clone()
        model.reshape([n_rows, *self.inputs[0][1:]])
        options = self._options | {"PERFORMANCE_HINT": hint}
        return self._core.compile_model(model, "CPU", options)

    # Compiled when they are first needed: most runs need one of them.

    @cached_property
    def _request(self) -> Any:
        """Takes any number of images, over which the cores divide each layer."""
        return self._compile("LATENCY", -1).create_infer_request()

    @cached_property
    def _queue(self) -> Any:
        """Takes `n_rows` images at a time, each lot on a core that waits for no other."""
        compiled = self._compile("THROUGHPUT", self.n_rows)
        queue = import_module("openvino").AsyncInferQueue(compiled)
        queue.set_callback(
            lambda request, place: place[0].update({place[1]: _copy_output(request)})
        )
        return queue

    def predict_on_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the graph's output; threads take turns, since one keeps all cores at work."""
        n_queued = 0
        outputs: dict[int, NDArray[np.float32]] = {}
        with self._lock:
            if len(images) >= 2 * self.n_rows:
                # In lots, as many for each core; the cores share the rest.
                n_queued = len(images) - len(images) % (self.n_rows * len(self._queue))
            for first in range(0, n_queued, self.n_rows):
                lot = images[first : first + self.n_rows]
                self._queue.start_async(lot, (outputs, first), share_inputs=True)
            if n_queued:
                self._queue.wait_all()
            if n_queued < len(images):
                # Not in a list, into which the wrapper looks for as long as a small network runs.
                self._request.infer(images[n_queued:], share_inputs=True, share_outputs=True)
                outputs[n_queued] = _copy_output(self._request)
        return np.concatenate([outputs[first] for first in sorted(outputs)])


class OnnxRuntime:
    """A graph in a session of ONNX Runtime."""

    def __init__(self, path: Path, name: str, n_threads: int | None) -> None:
        onnxruntime = import_module("onnxruntime")
        self.name = name
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = n_threads or 0
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.inputs, self.outputs = (
            [tuple(n if isinstance(n, int) else None for n in port.shape) for port in ports]
            for ports in (inputs, outputs)
        )
        self.metadata = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self._input, self._output = inputs[0].name, outputs[0].name

    def predict_on_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the graph's output."""
        (output,) = self._session.run([self._output], {self._input: images})
        return np.asarray(output, dtype=np.float32)


def _openvino_shape(port: Any) -> tuple[int | None, ...]:
    shape = port.get_partial_shape()
    return tuple(None if side.is_dynamic else side.get_length() for side in shape)


def _copy_output(request: Any) -> NDArray[np.float32]:
    # A copy: what runs next is written to the same place.
    return np.array(request.get_output_tensor().data, dtype=np.float32)


Engine = OpenVino | OnnxRuntime


@dataclass(frozen=True)
class EngineRow:
    """What is known of an engine: its package as pip and Python name it, and what it opens."""

    name: str
    package: str
    # A network is written for it as the first of the files that it opens.
    suffixes: tuple[str, ...]
    open: Callable[[Path, str, int | None], Engine]
    # What the processor must have; "auto" takes no engine that needs anything.
    capability: str | None = None


_ENGINES = (
    EngineRow("openvino", "openvino", (".xml", ".onnx"), OpenVino),
    EngineRow("openvino_bfloat16", "openvino", (".xml", ".onnx"), OpenVino, "BF16"),
    EngineRow("onnxruntime", "onnxruntime", (".onnx",), OnnxRuntime),
)
ENGINE_NAMES = (AUTO, *(row.name for row in _ENGINES))


def list_engines() -> list[str]:
    """Return the names of the engines that "auto" takes, in that order: those installed."""
    return [row.name for row in _ENGINES if not row.capability and find_spec(row.package)]


def choose_engine(name: str, *, suffix: str = ".onnx") -> EngineRow:
    """Return the engine of this name for such a file, or for "auto" the first that is installed."""
    check_choice("engine", name, ENGINE_NAMES)
    able = [row for row in _ENGINES if suffix in row.suffixes]
    meant = [row for row in able if row.name == name or (name == AUTO and not row.capability)]
    if not meant:
        names = ", ".join(repr(row.name) for row in able)
        raise ValueError(
            f"engine must be one of {AUTO!r}, {names} for a {suffix} file; received {name!r}."
        )
    installed = next((row for row in meant if find_spec(row.package)), None)
    if installed is None:
        wanted = [row.package for row in meant]
        raise ImportError(
            f"engine={name!r} needs {' or '.join(wanted)}, which is not installed. Install it "
            f"with: pip install {wanted[0]}.",
            name=wanted[0],
        )
    if installed.capability and installed.capability not in list_capabilities():
        raise ValueError(
            f"engine={name!r} needs a processor that computes in bfloat16 (AVX-512 BF16 or AMX); "
            f"this one has {', '.join(list_capabilities())}. Pass engine='openvino'."
        )
    return installed


def open_engine(path: Path, *, engine: str = AUTO, n_threads: int | None = None) -> Engine:
    """Read an ``.onnx`` file, or an ``.xml`` with its ``.bin`` beside it, and make it ready."""
    row = choose_engine(engine, suffix=path.suffix)
    import_module(row.package)
    try:
        opened = row.open(path, row.name, n_threads)
        if len(opened.inputs) != 1 or len(opened.outputs) != 1 or len(opened.inputs[0]) != 4:
            raise ValueError(f"it has inputs {opened.inputs} and outputs {opened.outputs}")  # noqa: TRY301
    except Exception as error:
        raise ValueError(
            "path must name a graph from images (n, height, width, 3) to one output; "
            f"{str(path)!r} cannot be read as one ({str(error).strip() or error!r})."
        ) from error
    return opened


@cache
def list_capabilities() -> tuple[str, ...]:
    """Return what OpenVINO finds that the processor has."""
    found = import_module("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(found)
