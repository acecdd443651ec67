"""Read a pickled dictionary of arrays and plain values without running anything it names.

NumPy's own unpickling is never called: its array state can describe object arrays whose bytes are
taken for pointers. The names that an array's pickle asks for stand for inert records here; what
they were given is checked afterwards, and the array is made from its bytes.
"""

import io
import math
import pickle
import pickletools
import reprlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST_PICKLE_BYTES = 1 << 26
_MOST_TUPLES = 1000
_SHAPELESS = ((), None, b"")
# What writing lists, dictionaries, strings, whole numbers and arrays needs, protocols 2 to 5.
_OPCODES = frozenset((
    "PROTO", "FRAME", "STOP", "MARK", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE",
    "TUPLE1", "TUPLE2", "TUPLE3", "SETITEM", "SETITEMS", "APPEND", "APPENDS", "BINPUT",
    "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "BININT", "BININT1", "BININT2", "LONG1",
    "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "BINUNICODE", "SHORT_BINUNICODE", "NONE", "NEWTRUE", "NEWFALSE", "GLOBAL", "STACK_GLOBAL",
    "REDUCE", "BUILD",
))  # fmt: skip


class PickledDtype:
    """Stands for `numpy.dtype`: keeps the type's code and nothing else."""

    __slots__ = ("code",)

    def __init__(self, code: object = "", *_: object) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else str(code)

    def __setstate__(self, state: object) -> None:
        """Byte order and fields: a one-byte number has neither."""


class PickledArray:
    """Stands for an array that is made empty and then given its state."""

    __slots__ = ("dtype", "raw", "shape")

    def __init__(self, *_: object) -> None:
        self.shape, self.dtype, self.raw = _SHAPELESS

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, fortran, self.raw = state
        if fortran:
            raise pickle.UnpicklingError("an array in column order")


class BufferArray(PickledArray):
    """Stands for an array that is made from its bytes at once, as protocol 5 does."""

    __slots__ = ()

    def __init__(self, raw: Any, dtype: Any, shape: Any, order: Any) -> None:
        self.__setstate__((1, shape, dtype, order != "C", raw))


class ArrayType:
    """Stands for `numpy.ndarray`, which is only passed along."""

    __slots__ = ()


class EncodedText:
    """Stands for `_codecs.encode`, by which protocol 2 of Python 3 writes bytes."""

    __slots__ = ()

    def __new__(cls, text: str, encoding: str) -> Any:
        """Return the bytes."""
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"text in the encoding {encoding!r}")
        return str.encode(text, "latin1")


_STAND_INS: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): ArrayType,
    ("numpy", "dtype"): PickledDtype,
    ("numpy.core.multiarray", "_reconstruct"): PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): PickledArray,
    ("numpy.core.numeric", "_frombuffer"): BufferArray,
    ("numpy._core.numeric", "_frombuffer"): BufferArray,
    ("_codecs", "encode"): EncodedText,
}


class _StandInUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        # A pickle may set attributes of what it is handed, so it gets a class of its own.
        return type(name, (stand_in,), {"__slots__": ()})


def load_pickled_dict(path: Path) -> dict[str, object]:
    """Return a pickled dictionary of plain values and arrays, its keys as str.

    Parameters
    ----------
    path : Path
        A pickle of at most 64 MiB, protocols 2 to 5, written by Python 2 or 3. Python 2 strings
        become bytes.

    Returns
    -------
    dict
        Arrays are stand-ins; `uint8_array` turns them into NumPy arrays.

    Raises
    ------
    ValueError
        If the pickle is too large, damaged, no dictionary, or asks for anything but arrays and
        plain values. Nothing that it names is imported or run.
    """
    if path.stat().st_size > _LARGEST_PICKLE_BYTES:
        raise ValueError(f"{path} must have at most {_LARGEST_PICKLE_BYTES:,} bytes; it has more.")
    content = path.read_bytes()
    try:
        _check_opcodes(content)
        value = _StandInUnpickler(io.BytesIO(content), encoding="bytes").load()
        pairs = _with_text_keys(value)
    except Exception as error:  # damaged pickles raise nearly anything
        raise ValueError(
            f"{path} must be a pickled dictionary of arrays and plain values; it was refused: "
            f"{error or type(error).__name__}. Nothing in it was run. Fetch the file again from "
            "its publisher."
        ) from error
    return pairs


def uint8_array(value: object, *, shape: tuple[int, ...], name: str) -> NDArray[np.uint8]:
    """Return a stand-in as an array of dtype uint8 and exactly the given shape.

    Raises
    ------
    ValueError
        If the value is no array, or has another dtype, shape or number of bytes.
    """
    wanted = f"{name} must be a uint8 array of shape {shape}"
    if not isinstance(value, PickledArray) or not isinstance(value.dtype, PickledDtype):
        raise ValueError(f"{wanted}; received something else.")  # noqa: TRY004 - about a file
    raw, code = value.raw, str(value.dtype.code)
    if code not in {"u1", "|u1"} or value.shape != shape:
        raise ValueError(
            f"{wanted}; received shape {reprlib.repr(value.shape)} and dtype code "
            f"{reprlib.repr(code)}."
        )
    if not isinstance(raw, bytes | bytearray) or len(raw) != math.prod(shape):
        received = f"{len(raw)} bytes" if isinstance(raw, bytes | bytearray) else "none"
        raise ValueError(f"{name} must hold {math.prod(shape)} bytes; received {received}.")
    return np.frombuffer(raw, dtype=np.uint8).reshape(shape)


def _check_opcodes(content: bytes) -> None:
    """Refuse what arrays do not need: it could exhaust memory or the stack without any import."""
    n_tuples = 0
    for opcode, argument, _ in pickletools.genops(content):
        n_tuples += opcode.name.startswith("TUPLE")
        if opcode.name not in _OPCODES:
            raise pickle.UnpicklingError(f"it uses the instruction {opcode.name}")
        if opcode.name == "LONG_BINPUT" and (argument or 0) > len(content):
            raise pickle.UnpicklingError("it claims more memory than it can use")
    if n_tuples > _MOST_TUPLES:
        raise pickle.UnpicklingError(f"it nests or lists {n_tuples} tuples")


def _with_text_keys(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): item
        for key, item in value.items()
    }
