"""Running an exported graph without Keras: by OpenVINO or by ONNX Runtime."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tlclassify._checks.parameters import check_choice
from tlclassify.engines.runtimes import BFLOAT16, FLOAT32, Engine, OnnxRuntime, OpenVino

__all__ = ["Engine", "choose_engine", "list_engines", "open_engine"]

AUTO = "auto"


@dataclass(frozen=True)
class EngineRow:
    """What is known of an engine.

    Parameters
    ----------
    name : str
        What users write.
    package : str
        The runtime: the name under which pip installs it and Python imports it.
    suffixes : tuple of str
        The files that it opens; a network is written for it as the first.
    precision : {"float32", "bfloat16"}
        In which it computes; "auto" takes none but float32.
    open : callable
        (path, name, number of threads or None) -> Engine.
    """

    name: str
    package: str
    suffixes: tuple[str, ...]
    precision: str
    open: Callable[[Path, str, int | None], Engine]

    @property
    def is_installed(self) -> bool:
        """Whether its runtime can be imported."""
        return find_spec(self.package) is not None


def list_engines() -> list[str]:
    """Return the names of the engines that "auto" takes, in that order: those installed."""
    return [row.name for row in _ENGINES if row.precision == FLOAT32 and row.is_installed]


def choose_engine(name: str, *, suffix: str = ".onnx") -> EngineRow:
    """Return the engine of this name, or for "auto" the first that is installed.

    Parameters
    ----------
    name : {"auto", "openvino", "openvino_bfloat16", "onnxruntime"}
        "auto": OpenVINO where it is installed, else ONNX Runtime.
    suffix : {".onnx", ".xml"}
        Of the file that it is to open.

    Returns
    -------
    EngineRow

    Raises
    ------
    ValueError
        If the name is unknown, the engine cannot open such a file, or the processor lacks what it
        computes with.
    ImportError
        If it is not installed, or none that will do is.
    """
    check_choice("engine", name, ENGINE_NAMES)
    able = [row for row in _ENGINES if suffix in row.suffixes]
    names = (AUTO, *(row.name for row in able))
    if name not in names:
        raise ValueError(
            f"engine must be one of {', '.join(map(repr, names))} for a {suffix} file; received "
            f"{name!r}."
        )
    if name == AUTO:
        meant = [row for row in able if row.precision == FLOAT32]
    else:
        meant = [row for row in able if row.name == name]
    for row in meant:
        if row.is_installed:
            _check_processor(row)
            return row
    wanted = [row.package for row in meant]
    raise ImportError(
        f"engine={name!r} needs {' or '.join(wanted)}, which is not installed. Install it with: "
        f"pip install {wanted[0]}.",
        name=wanted[0],
    )


def open_engine(path: Path, *, engine: str = AUTO, n_threads: int | None = None) -> Engine:
    """Read a graph and make it ready to run.

    Parameters
    ----------
    path : Path
        An ``.onnx`` file, or the ``.xml`` file of OpenVINO with its ``.bin`` file beside it.
    engine : {"auto", "openvino", "openvino_bfloat16", "onnxruntime"}, default "auto"
        As `choose_engine` takes it.
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
    row = choose_engine(engine, suffix=path.suffix)
    return row.open(path, row.name, n_threads)


def _check_processor(row: EngineRow) -> None:
    if row.precision == BFLOAT16 and "BF16" not in _list_capabilities():
        raise ValueError(
            f"engine={row.name!r} needs a processor that computes in bfloat16 (AVX-512 BF16 or "
            f"AMX); this one has {', '.join(_list_capabilities())}. Pass engine='openvino'."
        )


@cache
def _list_capabilities() -> tuple[str, ...]:
    """Return what OpenVINO finds that the processor has."""
    found = import_module("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(found)


def _openvino_row(name: str, precision: str) -> EngineRow:
    open_graph = partial(OpenVino, precision=precision)
    return EngineRow(name, "openvino", (".xml", ".onnx"), precision, open_graph)


_ENGINES = (
    _openvino_row("openvino", FLOAT32),
    _openvino_row("openvino_bfloat16", BFLOAT16),
    EngineRow("onnxruntime", "onnxruntime", (".onnx",), FLOAT32, OnnxRuntime),
)
ENGINE_NAMES = (AUTO, *(row.name for row in _ENGINES))
