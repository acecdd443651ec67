"""Running an exported graph without Keras: by OpenVINO or by ONNX Runtime."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tlclassify._checks.parameters import check_choice
from tlclassify.engines.runtimes import BFLOAT16, FLOAT32, Engine, OnnxRuntime, OpenVino

AUTO = "auto"


@dataclass(frozen=True)
class EngineRow:
    """What is known of an engine.

    `package` is the runtime, under the name by which pip installs it and Python imports it; of the
    files that it opens, a network is written for it as the first; "auto" takes none that computes
    in another precision than float32; `open` takes a path, the name and a number of threads.
    """

    name: str
    package: str
    suffixes: tuple[str, ...]
    precision: str
    open: Callable[[Path, str, int | None], Engine]


def list_engines() -> list[str]:
    """Return the names of the engines that "auto" takes, in that order: those installed."""
    return [row.name for row in _ENGINES if row.precision == FLOAT32 and find_spec(row.package)]


def choose_engine(name: str, *, suffix: str = ".onnx") -> EngineRow:
    """Return the engine of this name for such a file, or for "auto" the first that is installed.

    A ValueError says that the name is unknown, or what the engine or the processor cannot do; an
    ImportError names what is not installed.
    """
    check_choice("engine", name, ENGINE_NAMES)
    able = [row for row in _ENGINES if suffix in row.suffixes]
    meant = [row for row in able if name == row.name or (name, row.precision) == (AUTO, FLOAT32)]
    if not meant:
        names = ", ".join(repr(row.name) for row in able)
        raise ValueError(
            f"engine must be one of {AUTO!r}, {names} for a {suffix} file; received {name!r}."
        )
    for row in meant:
        if find_spec(row.package) is not None:
            if row.precision == BFLOAT16 and "BF16" not in list_capabilities():
                raise ValueError(
                    f"engine={row.name!r} needs a processor that computes in bfloat16 (AVX-512 "
                    f"BF16 or AMX); this one has {', '.join(list_capabilities())}. Pass "
                    "engine='openvino'."
                )
            return row
    wanted = [row.package for row in meant]
    raise ImportError(
        f"engine={name!r} needs {' or '.join(wanted)}, which is not installed. Install it with: "
        f"pip install {wanted[0]}.",
        name=wanted[0],
    )


def open_engine(path: Path, *, engine: str = AUTO, n_threads: int | None = None) -> Engine:
    """Read an ``.onnx`` file, or an ``.xml`` with its ``.bin`` beside it, and make it ready to run.

    None as a number of threads means all cores. Errors are those of `choose_engine`, and a
    ValueError if the file is no graph of one input and one output.
    """
    row = choose_engine(engine, suffix=path.suffix)
    return row.open(path, row.name, n_threads)


@cache
def list_capabilities() -> tuple[str, ...]:
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
