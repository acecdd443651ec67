"""Running an exported graph without Keras: by OpenVINO or by ONNX Runtime."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tlclassify._validation import check_choice
from tlclassify.export_metadata import METADATA_KEY

__all__ = ["Engine", "choose_engine", "list_engines", "open_engine"]

AUTO = "auto"
PRECISIONS = ("float32", "bfloat16")
_Shape = tuple[int | None, ...]


class Engine(Protocol):
    """A graph that is ready to run; `tlclassify.activations.run_batches` takes it as a model."""

    name: str
    metadata: str | None
    input_shape: tuple[int | None, ...]
    output_shape: tuple[int | None, ...]

    def predict_on_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the graph's output for one batch of images."""
        ...


@dataclass(frozen=True)
class EngineRow:
    """What is known of a runtime.

    Parameters
    ----------
    name : str
        What users write; also the name under which pip installs it and Python imports it.
    suffixes : tuple of str
        The files that it opens.
    precisions : tuple of str
        In which it can compute.
    open : callable
        (path, precision, number of threads or None) -> Engine.
    """

    name: str
    suffixes: tuple[str, ...]
    precisions: tuple[str, ...]
    open: Callable[[Path, str, int | None], Engine]


def list_engines() -> list[str]:
    """Return the names of the runtimes that are installed, the fastest first."""
    return [row.name for row in _ENGINES if find_spec(row.name) is not None]


def choose_engine(name: str, *, suffix: str = ".onnx", precision: str = "float32") -> EngineRow:
    """Return the runtime of this name, or for "auto" the fastest that is installed.

    Parameters
    ----------
    name : {"auto", "openvino", "onnxruntime"}
    suffix : {".onnx", ".xml"}
        Of the file that it is to open.
    precision : {"float32", "bfloat16"}
        In which it is to compute.

    Returns
    -------
    EngineRow

    Raises
    ------
    ValueError
        If the name is unknown, or the runtime cannot open such a file or compute in the precision.
    ImportError
        If it is not installed, or none that will do is.
    """
    check_choice("engine", name, (AUTO, *(row.name for row in _ENGINES)))
    check_choice("precision", precision, PRECISIONS)
    able = [row for row in _ENGINES if suffix in row.suffixes and precision in row.precisions]
    names = [row.name for row in able]
    if name not in {AUTO, *names}:
        raise ValueError(
            f"engine must be one of {', '.join(map(repr, (AUTO, *names)))} for a {suffix} file "
            f"and precision={precision!r}; received {name!r}."
        )
    installed = list_engines()
    for row in able:
        if name in {AUTO, row.name} and row.name in installed:
            return row
    wanted = names if name == AUTO else [name]
    raise ImportError(
        f"engine={name!r} needs {' or '.join(wanted)}, which is not installed. Install it with: "
        f"pip install {wanted[0]}.",
        name=wanted[0],
    )


def open_engine(
    path: Path,
    *,
    engine: str = AUTO,
    precision: str = "float32",
    n_threads: int | None = None,
) -> Engine:
    """Read a graph and make it ready to run.

    Parameters
    ----------
    path : Path
        An ``.onnx`` file, or the ``.xml`` file of OpenVINO with its ``.bin`` file beside it.
    engine : {"auto", "openvino", "onnxruntime"}, default "auto"
        What runs it; "auto": the fastest that is installed.
    precision : {"float32", "bfloat16"}, default "float32"
        In which it computes.
    n_threads : int, optional
        Processor cores that it uses; by default all.

    Returns
    -------
    Engine

    Raises
    ------
    ValueError, ImportError
        As `choose_engine`; or if the file is no graph of one input and one output.
    """
    row = choose_engine(engine, suffix=path.suffix, precision=precision)
    return row.open(path, precision, n_threads)


class _OpenVino:
    """A graph compiled by OpenVINO."""

    name = "openvino"

    def __init__(self, path: Path, precision: str, n_threads: int | None) -> None:
        openvino = import_module("openvino")
        core = openvino.Core()
        _check_processor(precision, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        with _clear_graph_errors(path):
            model = core.read_model(path)
            self.input_shape, self.output_shape = _check_graph(
                [_openvino_shape(port) for port in model.inputs],
                [_openvino_shape(port) for port in model.outputs],
            )
        self.metadata = _openvino_metadata(model)
        # Left to itself, OpenVINO computes in bfloat16 wherever the processor can.
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if n_threads is not None:
            options["INFERENCE_NUM_THREADS"] = n_threads
        self._lock = Lock()
        self._request = core.compile_model(model, "CPU", options).create_infer_request()

    def predict_on_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        # Two threads cannot share a request; one already keeps all processor cores at work.
        with self._lock:
            self._request.infer([images], share_inputs=True)
            # A copy: the next batch is written to the same place.
            return np.array(self._request.get_output_tensor().data, dtype=np.float32)


class _OnnxRuntime:
    """A graph in a session of ONNX Runtime."""

    name = "onnxruntime"

    def __init__(self, path: Path, precision: str, n_threads: int | None) -> None:
        assert precision == "float32"
        onnxruntime = import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = n_threads or 0
        with _clear_graph_errors(path):
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            self.input_shape, self.output_shape = _check_graph(
                [_onnx_shape(port) for port in inputs], [_onnx_shape(port) for port in outputs]
            )
        self.metadata = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self._input, self._output = inputs[0].name, outputs[0].name

    def predict_on_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        (output,) = self._session.run([self._output], {self._input: images})
        return np.asarray(output, dtype=np.float32)


def _openvino_shape(port: Any) -> _Shape:
    shape = port.get_partial_shape()
    return tuple(None if side.is_dynamic else side.get_length() for side in shape)


def _onnx_shape(port: Any) -> _Shape:
    return tuple(side if isinstance(side, int) else None for side in port.shape)


def _openvino_metadata(model: Any) -> str | None:
    # OpenVINO keeps an ONNX file's own entries under "framework".
    for place in ([METADATA_KEY], ["framework", METADATA_KEY]):
        if model.has_rt_info(place):
            return str(model.get_rt_info(place).astype(str))
    return None


def _check_processor(precision: str, capabilities: list[str]) -> None:
    if precision == "bfloat16" and "BF16" not in capabilities:
        raise ValueError(
            "precision='bfloat16' needs a processor with instructions for it (AVX-512 BF16 or "
            f"AMX); this one has {', '.join(capabilities)}. Pass precision='float32'."
        )


def _check_graph(inputs: list[_Shape], outputs: list[_Shape]) -> tuple[_Shape, _Shape]:
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]) != 4:
        raise ValueError(f"it has inputs {inputs} and outputs {outputs}")
    return inputs[0], outputs[0]


@contextmanager
def _clear_graph_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise ValueError(
            "path must name a graph from images (n, height, width, 3) to one output; "
            f"{str(path)!r} cannot be read as one ({str(error).strip() or error!r})."
        ) from error


_ENGINES = (
    EngineRow("openvino", (".onnx", ".xml"), ("float32", "bfloat16"), _OpenVino),
    EngineRow("onnxruntime", (".onnx",), ("float32",), _OnnxRuntime),
)
