"""Writing a network in the formats of other runtimes, by Keras's own exporters."""

import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.files import digest_file
from tlclassify.engines.metadata import METADATA_FILE, METADATA_KEY, ExportMetadata
from tlclassify.engines.runtimes import Engine, choose_engine, open_engine

if TYPE_CHECKING:
    import keras

Batches = Callable[[], Iterator[NDArray[np.uint8]]]
"""A function that returns batches of images, shape (n, height, width, 3)."""

_Packages = dict[str, tuple[str, ...]]
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Format:
    """What is known of a file format, whose `suffix` is empty where it is a folder."""

    name: str
    suffix: str
    packages: _Packages  # to be installed, by Keras's backend: one that is not there cannot
    precisions: tuple[str, ...]
    # Takes a network, a path, metadata and, for int8, images.
    write: Callable[["keras.Model", Path, ExportMetadata, Batches | None], None]
    first_keras: tuple[int, int] = (3, 12)


def check_format(row: Format, what: str, *, also: tuple[str, ...] = ()) -> None:
    """Raise an ImportError if a format cannot be written here: it says what is missing."""
    import keras

    backend = keras.backend.backend()
    if backend not in row.packages:
        raise ImportError(
            f"{what} needs Keras on {' or '.join(row.packages)}; received the backend {backend!r}. "
            f"Do it in a process with KERAS_BACKEND={next(iter(row.packages))}.",
            name=next(iter(row.packages)),
        )
    missing = [name for name in (*row.packages[backend], *also) if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{what} needs {' and '.join(missing)}. Install it with: "
            f"pip install {' '.join(missing)}.",
            name=missing[0],
        )
    if tuple(int(part) for part in keras.__version__.split(".")[:2]) < row.first_keras:
        needed = ".".join(map(str, row.first_keras))
        raise ImportError(
            f"{what} needs Keras {needed} or later; received {keras.__version__}. "
            f'Install it with: pip install --upgrade "keras>={needed}".',
            name="keras",
        )


def export_graph(network: "keras.Model", path: Path, name: str, **options: Any) -> None:
    """Write a network in one of Keras's own formats."""
    import keras

    from tlclassify.networks.cuts import flat_layers, narrow_layers

    if narrow := narrow_layers(network):
        raise ValueError(
            f"a network must compute in float32 to be exported; received one whose layer "
            f"{narrow[0]!r} does not. Fit it without keras.mixed_precision, and choose precision= "
            "when you export."
        )
    for layer in flat_layers(network):
        if isinstance(layer, keras.layers.Normalization):
            # As tensors, tf2onnx would make further inputs of them.
            layer.mean = keras.ops.convert_to_numpy(layer.mean)
            layer.variance = keras.ops.convert_to_numpy(layer.variance)
    # Without a signature Keras refuses networks that nothing was run through yet.
    images = keras.InputSpec(dtype=network.input.dtype, shape=network.input.shape, name="images")
    with warnings.catch_warnings():
        # Keras looks for a name that NumPy is about to give another meaning.
        warnings.filterwarnings("ignore", message="In the future `np.object`")
        network.export(str(path), format=name, verbose=False, input_signature=[images], **options)


def compile_network(network: "keras.Model", *, engine: str) -> Engine:
    """Return a network on uint8 images ready to run on another runtime, or raise what that says."""
    # Where a mapped file cannot be removed while it is in use, the system does so later.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = _export_readable(network, Path(folder), format_of(engine).name)
        return open_engine(path, engine=engine)


def _export_readable(network: "keras.Model", folder: Path, name: str) -> Path:
    """Write ONNX, or what OpenVINO reads: of what JAX hands over, that is ONNX too."""
    import keras

    name = "onnx" if keras.backend.backend() == "jax" else name
    path = folder / ("whole.onnx" if name == "onnx" else "whole.xml")
    export_graph(network, path, name)
    return path


def format_of(engine: str) -> Format:
    """Return the format in which networks are written for an engine."""
    suffix = choose_engine(engine).suffixes[0]
    return next(row for row in FORMATS if row.suffix == suffix)


def _write_onnx(
    network: "keras.Model", path: Path, metadata: ExportMetadata, images: Batches | None
) -> None:
    """Write an ``.onnx`` file; the metadata is one of its properties."""
    onnx = import_module("onnx")
    export_graph(network, path, "onnx")
    if images is not None:
        _quantize(path, images)
    model = onnx.load(path)
    if metadata.precision == "float16":
        keep_in_float16(model)
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    onnx.save(model, path)


def keep_in_float16(model: Any) -> None:
    """Keep the weights of an ONNX model in float16, but for those that it cannot hold."""
    # Made float32 when the file is opened: computing in float16 is slow on most processors, and
    # some steps overflow in it.
    onnx = import_module("onnx")
    casts = []
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        fits = values.dtype == np.float32 and np.abs(values).max(initial=0.0) <= _LARGEST_FLOAT16
        if fits and values.ndim > 0:
            name, kept = weight.name, f"{weight.name}/float16"
            weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), kept))
            casts.append(onnx.helper.make_node("Cast", [kept], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _quantize(path: Path, images: Batches) -> None:
    """Rewrite an ONNX file so that it computes in int8, in ranges measured on the images."""
    # It takes batch normalisation into convolutions; else what is between would be rounded too.
    prepare = import_module("onnxruntime.quantization.shape_inference").quant_pre_process
    prepare(path, path, skip_symbolic_shape=True)
    model = import_module("onnx").load(path)
    # Resizing stays exact: its products come before any convolution, and all sees their error. So
    # does what follows the last pooling before a dense layer, the head: it is small, and decides.
    exact, above = [], set[str]()
    for node in model.graph.node:
        if node.op_type == "Conv" or above.intersection(node.input):
            above.update(node.output)
        else:
            exact.append(node.name)
    head, body, dense, is_pooled = [], set[str](), set[str](), False
    for node in reversed(model.graph.node):
        is_before_dense = bool(dense.intersection(node.output))
        is_pooling = is_before_dense and node.op_type in _POOLING
        is_pooled |= is_pooling
        if is_pooling or node.op_type == "Conv" or body.intersection(node.output):
            body.update(node.input)
        else:
            head.append(node.name)
        if is_before_dense or node.op_type in ("MatMul", "Gemm"):
            dense.update(node.input)
    exact += head if is_pooled else []
    if not above:
        raise ValueError(
            "precision must be 'float32' or 'float16' for a network without convolutions, at the "
            "first of which int8 begins in ONNX; received 'int8'."
        )
    feeds = ({model.graph.input[0].name: batch} for batch in images())
    import_module("onnxruntime.quantization").quantize_static(
        path,
        path,
        # As batches are asked for: one at a time, and None after the last.
        SimpleNamespace(get_next=lambda: next(feeds, None)),
        per_channel=True,
        # Weights of 7 bits: of 8, sums overflow on processors without VNNI.
        reduce_range=True,
        nodes_to_exclude=exact,
    )


def _write_openvino(
    network: "keras.Model", path: Path, metadata: ExportMetadata, _: Batches | None
) -> None:
    """Write an ``.xml`` and a ``.bin`` file; the metadata stands in the first."""
    openvino = import_module("openvino")
    whole = path.parent / "whole"
    whole.mkdir()
    model = openvino.Core().read_model(_export_readable(network, whole, "openvino"))
    narrow = metadata.precision == "float16"
    openvino.save_model(model, path, compress_to_fp16=narrow)
    # The second time its bytes are the same, and the first file knows them.
    digest = digest_file(path.with_suffix(".bin"))
    known = msgspec.structs.replace(metadata, digest=digest)
    model.set_rt_info(known.to_json(), [METADATA_KEY])
    openvino.save_model(model, path, compress_to_fp16=narrow)


def _write_litert(
    network: "keras.Model", path: Path, metadata: ExportMetadata, images: Batches | None
) -> None:
    """Write a ``.tflite`` file; the metadata is in a zip archive at its end, as is usual there."""
    options: dict[str, Any] = {}
    if metadata.precision != "float32":
        # The options of TensorFlow's own converter, which Keras hands on but does not name.
        import tensorflow as tf

        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
        if metadata.precision == "float16":
            options["target_spec"] = {"supported_types": [tf.float16]}
    if images is not None:
        options["representative_dataset"] = lambda: (
            [image[None]] for batch in images() for image in batch
        )
    export_graph(network, path, "litert", **options)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA_FILE, metadata.to_json())
        lines = [" ".join(str(label).split("\n")) for label in metadata.labels.tolist()]
        archive.writestr("labels.txt", "\n".join(lines).encode("utf-8", "replace"))


def _write_saved_model(
    network: "keras.Model", path: Path, metadata: ExportMetadata, _: Batches | None
) -> None:
    """Write a folder; the metadata is a file in its ``assets.extra``."""
    export_graph(network, path, "tf_saved_model")
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / METADATA_FILE).write_text(metadata.to_json(), encoding="ascii")


_POOLING = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum")
_ALL = ("float32", "float16", "int8")
_ONNX: _Packages = {"tensorflow": ("onnx", "tf2onnx"), "jax": ("onnx", "jax2onnx")}
_OPENVINO: _Packages = {"tensorflow": ("openvino",), "jax": ("openvino", *_ONNX["jax"])}
_SAVED_MODEL: _Packages = {"tensorflow": (), "jax": ("tensorflow",)}
FORMATS = (
    Format("onnx", ".onnx", _ONNX, _ALL, _write_onnx),
    Format("openvino", ".xml", _OPENVINO, _ALL[:2], _write_openvino),
    Format("litert", ".tflite", {"tensorflow": ()}, _ALL, _write_litert, first_keras=(3, 13)),
    Format("saved_model", "", _SAVED_MODEL, _ALL[:1], _write_saved_model),
)
