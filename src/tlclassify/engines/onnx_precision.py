"""An ONNX graph with smaller weights: in float16, or quantized to int8."""

import logging
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST = float(np.finfo(np.float16).max)


def keep_in_float16(model: Any) -> None:
    """Keep weights in float16, and make float32 of them when the file is opened.

    Computing in float16 is slow on most processors, and some steps overflow in it. The model is
    changed in place; weights too large for float16 stay as they are.
    """
    onnx = import_module("onnx")
    casts = []
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.ndim == 0:
            continue
        if np.abs(values).max(initial=0.0) > _LARGEST:
            continue
        name, kept = weight.name, f"{weight.name}/float16"
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), kept))
        casts.append(onnx.helper.make_node("Cast", [kept], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def quantize(path: Path, images: Callable[[], Iterator[NDArray[np.uint8]]]) -> None:
    """Rewrite a file so that convolutions and products of matrices are computed in int8.

    The range of values is measured on the images.
    """
    graph = import_module("onnx").load(path).graph
    feeds = ({graph.input[0].name: batch} for batch in images())
    quantization = import_module("onnxruntime.quantization")
    # Resizing stays exact: its products come first, and all that follows sees their error.
    exact = [node.name for node in takewhile(lambda node: node.op_type != "Conv", graph.node)]
    if len(exact) == len(graph.node):
        raise ValueError(
            "precision must be 'float32' or 'float16' for a network without convolutions, at the "
            "first of which int8 begins in ONNX; received 'int8'."
        )
    logger = logging.getLogger()
    logger.addFilter(_is_no_advice)
    try:
        quantization.quantize_static(
            path,
            path,
            # As batches are asked for: one at a time, and None after the last.
            SimpleNamespace(get_next=lambda: next(feeds, None)),
            per_channel=True,
            nodes_to_exclude=exact,
        )
    finally:
        logger.removeFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    # To prepare the graph first, by a tool that finds nothing to do on a converted one.
    return "pre-processing before quantization" not in record.getMessage()
