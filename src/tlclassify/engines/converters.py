"""Writing a network in the formats of other runtimes, by Keras's own exporters."""

import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.files import digest_file
from tlclassify.engines.litert import converter_options
from tlclassify.engines.metadata import METADATA_FILE, METADATA_KEY, ExportMetadata
from tlclassify.engines.onnx_precision import keep_in_float16, quantize
from tlclassify.engines.portable import build_portable, export_graph
from tlclassify.engines.rows import Engine, choose_engine, open_engine

__all__ = [
    "FORMATS",
    "Batches",
    "Format",
    "check_converter",
    "check_keras",
    "check_packages",
    "compile_network",
]

Batches = Callable[[], Iterator[NDArray[np.uint8]]]
"""A function that returns batches of images, shape (n, height, width, 3)."""


@dataclass(frozen=True)
class Format:
    """What is known of a file format.

    Parameters
    ----------
    name : str
        What users write.
    suffix : str
        What its files end in; empty for a folder.
    packages : tuple of str
        What has to be installed to write it, beside TensorFlow.
    first_keras : (major, minor)
        The first version of Keras that can write it.
    precisions : tuple of str
        In which it can keep weights.
    write : callable
        (network, path, metadata, images or None). Images are asked for in int8 only.
    """

    name: str
    suffix: str
    packages: tuple[str, ...]
    first_keras: tuple[int, int]
    precisions: tuple[str, ...]
    write: Callable[[keras.Model, Path, ExportMetadata, Batches | None], None]


def check_packages(packages: tuple[str, ...], what: str) -> None:
    """See that packages are installed.

    Raises
    ------
    ImportError
        With the names of those that are missing, and the command that installs them.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{what} needs {' and '.join(missing)}. Install it with: "
            'pip install "tlclassify[export]".',
            name=missing[0],
        )


def check_keras(row: Format, what: str) -> None:
    """See that Keras is new enough to write a format.

    Raises
    ------
    ImportError
        With the version that it takes, and the command that installs it.
    """
    if tuple(int(part) for part in keras.__version__.split(".")[:2]) < row.first_keras:
        needed = ".".join(map(str, row.first_keras))
        raise ImportError(
            f"{what} needs Keras {needed} or later; received {keras.__version__}. "
            f'Install it with: pip install --upgrade "keras>={needed}".',
            name="keras",
        )


def write_onnx(
    network: keras.Model, path: Path, metadata: ExportMetadata, images: Batches | None
) -> None:
    """Write an ``.onnx`` file; the metadata is one of its properties."""
    export_graph(network, path, "onnx")
    if metadata.precision == "int8":
        assert images is not None
        quantize(path, images)
    onnx = import_module("onnx")
    model = onnx.load(path)
    if metadata.precision == "float16":
        keep_in_float16(model)
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    onnx.save(model, path)


def write_openvino(
    network: keras.Model, path: Path, metadata: ExportMetadata, _: Batches | None
) -> None:
    """Write an ``.xml`` and a ``.bin`` file; the metadata stands in the first."""
    openvino = import_module("openvino")
    whole = path.with_name(f"whole-{path.name}")
    export_graph(network, whole, "openvino")
    model = openvino.Core().read_model(whole)
    narrow = metadata.precision == "float16"
    openvino.save_model(model, path, compress_to_fp16=narrow)
    # The second time its bytes are the same, and the first file knows them.
    digest = digest_file(path.with_suffix(".bin"))
    model.set_rt_info(replace(metadata, digest=digest).to_json(), [METADATA_KEY])
    openvino.save_model(model, path, compress_to_fp16=narrow)
    assert digest_file(path.with_suffix(".bin")) == digest


def write_litert(
    network: keras.Model, path: Path, metadata: ExportMetadata, images: Batches | None
) -> None:
    """Write a ``.tflite`` file; the metadata is in a zip archive at its end, as is usual there."""
    options = converter_options(metadata.precision, images)
    export_graph(network, path, "litert", options=options)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA_FILE, metadata.to_json())
        lines = [" ".join(str(label).split("\n")) for label in metadata.classes.tolist()]
        archive.writestr("labels.txt", "\n".join(lines).encode("utf-8", "replace"))


def write_saved_model(
    network: keras.Model, path: Path, metadata: ExportMetadata, _: Batches | None
) -> None:
    """Write a folder; the metadata is a file in its ``assets.extra``."""
    export_graph(network, path, "tf_saved_model")
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / METADATA_FILE).write_text(metadata.to_json(), encoding="ascii")


def check_converter(engine: str) -> None:
    """See that networks can be written for an engine here.

    Raises
    ------
    ValueError, ImportError
        As `choose_engine`; or if a package that converts is missing, or Keras is too old.
    """
    row, what = _format_of(engine), f"engine={engine!r}"
    check_packages(row.packages, what)
    check_keras(row, what)


def _format_of(engine: str) -> Format:
    suffix = choose_engine(engine).suffixes[0]
    return next(row for row in FORMATS if row.suffix == suffix)


def compile_network(network: keras.Model, *, engine: str) -> Engine:
    """Return a network ready to run on another runtime, in place of the network itself.

    Parameters
    ----------
    network : keras.Model
        A functional model on uint8 images of a fixed size.
    engine : {"openvino", "openvino_bfloat16", "onnxruntime"}
        What runs it.

    Returns
    -------
    Engine
        With the network's `output_shape` and `predict_on_batch`, as `run_batches` uses them.

    Raises
    ------
    Exception
        Of any type, if the network has a step that the converter or the runtime does not know.
    """
    row = _format_of(engine)
    # Where a mapped file cannot be removed while it is in use, the system does so later.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / f"network{row.suffix}"
        export_graph(build_portable(network), path, row.name)
        return open_engine(path, engine=engine)


_ALL = ("float32", "float16", "int8")
FORMATS = (
    Format("onnx", ".onnx", ("onnx", "tf2onnx"), (3, 8), _ALL, write_onnx),
    Format("openvino", ".xml", ("openvino",), (3, 11), _ALL[:2], write_openvino),
    Format("litert", ".tflite", (), (3, 13), _ALL, write_litert),
    Format("saved_model", "", (), (3, 8), _ALL[:1], write_saved_model),
)
