"""What users pass is checked here: parameters and labels; progress bar, extras and processes."""

import difflib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NAMES_IN_MESSAGE = 10
_PROGRESS_DELAY_SECONDS = 1.0
_process: list[int] = []
_ADVICE = re.compile("(?s)TensorFlowTrainer.*triggered tf.function retracing")


def close_match_hint(name: object, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or an empty string."""
    match = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""


@dataclass(frozen=True)
class Interval:
    """The numbers that a parameter may be; `closed` says which ends are among them."""

    low: float = -np.inf
    high: float = np.inf
    integer: bool = False
    closed: Literal["both", "left", "right", "neither"] = "both"
    optional: bool = False

    def __contains__(self, value: object) -> bool:
        if value is None:
            return self.optional
        kind = Integral if self.integer else Real
        if isinstance(value, bool | np.bool_) or not isinstance(value, kind):
            return False
        number = float(value)
        above = number >= self.low if self.closed in {"both", "left"} else number > self.low
        below = number <= self.high if self.closed in {"both", "right"} else number < self.high
        return above and below

    def __str__(self) -> str:
        left = "[" if self.closed in {"both", "left"} else "("
        right = "]" if self.closed in {"both", "right"} else ")"
        noun = "an integer" if self.integer else "a number"
        interval = f"{noun} in {left}{self.low:g}, {self.high:g}{right}"
        return f"{interval} or None" if self.optional else interval


COUNT = Interval(1, integer=True)
COUNT_OR_NONE = Interval(1, integer=True, optional=True)
SHARE = Interval(0, 1, closed="neither")


def check_parameters(
    *checked: tuple[str, object, Interval | Sequence[str]], problems: Iterable[str | None] = ()
) -> None:
    """Raise one ValueError for all problems: those of (name, value, allowed), and others given."""
    found = []
    for name, value, allowed in checked:
        if isinstance(allowed, Interval):
            if value not in allowed:
                found.append(f"{name} must be {allowed}; received {value!r}.")
        elif not isinstance(value, str) or value not in allowed:
            choices, hint = ", ".join(map(repr, allowed)), close_match_hint(value, allowed)
            found.append(f"{name} must be one of {choices}; received {value!r}.{hint}")
    found += [f"{text}." for text in problems if text]
    if len(found) == 1:
        raise ValueError(found[0])
    if found:
        shown = "".join(f"\n  - {text}" for text in found)
        raise ValueError(f"{len(found)} parameters are not valid:{shown}")


def check_choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of the `allowed` strings."""
    check_parameters((name, value, allowed))
    return str(value)


def check_type(name: str, value: object, kind: type, wanted: str) -> None:
    """Check that a value is of a kind, or raise TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {wanted}; received {value!r}.")


def listed(values: Iterable[Any], *, write: Callable[[Any], str] = repr) -> str:
    """Return the first values as Python writes them, and how many more there are."""
    texts = [write(value) for value in values]
    more = len(texts) - _NAMES_IN_MESSAGE
    shown = ", ".join(texts[:_NAMES_IN_MESSAGE])
    return f"{shown} and {more} more" if more > 0 else shown


def check_column(name: str, column: Any, columns: Iterable[Any]) -> None:
    """Check that a table has the column that a parameter names."""
    known = [*columns]
    if column not in known:
        raise ValueError(
            f"{name} must be one of {listed(known)}; received {column!r}."
            f"{close_match_hint(column, map(str, known))}"
        )


def column_names(table: Any) -> Any:
    """Return the names of a frame's columns; None of anything else, a dict too."""
    if callable(getattr(table, "collect", None)):
        raise TypeError(f"a {type(table).__name__} has no rows yet; pass its .collect().")
    return getattr(table, "column_names", getattr(table, "columns", None))


def take_column(table: Any, name: str) -> Any:
    """Return the one column of a table; and anything else so that NumPy loses nothing of it."""
    columns = column_names(table)
    if columns is None:
        if isinstance(table, np.ma.MaskedArray) and np.ma.is_masked(table) and table.ndim == 1:
            return table.tolist()
        # Polars' rows of several fields would become several columns.
        is_struct = str(getattr(table, "dtype", "")).startswith("Struct")
        return table.to_list() if is_struct else table
    columns = [*columns]
    if len(columns) != 1:
        pixels = f"; if they are pixels, pass {name}.to_numpy().reshape(n, height, width)"
        raise ValueError(
            f"{name} must be one column; received a {type(table).__name__} of {len(columns)}: "
            f"{listed(columns)}. Pass one of them, as by {name}[{columns[0]!r}]"
            f"{pixels if name.startswith('X') else ''}."
        )
    # Hugging Face's name for several tables has their names for columns.
    return take_column(table[columns[0]], f"{name}[{columns[0]!r}]")


def write_array(X: Any, name: str) -> str:
    """Return what to write for the array of something that may be a list or a tensor."""
    return name if hasattr(X, "astype") else f"numpy.asarray({name})"


def check_labels(y: Any, *, n_samples: int, name: str = "y") -> NDArray[Any]:
    """Return labels as an array (n_samples,) of strings, bytes, integers, bools or whole floats."""
    y = take_column(y, name)
    try:
        labels = np.asarray(y)
    except ValueError:
        raise ValueError(
            f"{name} must hold one label per image; received rows of different lengths. Where "
            "images have several labels, train one classifier for each."
        ) from None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        is_one_hot = labels.dtype.kind in "iufb" and np.allclose(np.atleast_1d(labels).sum(-1), 1)
        join = f"['/'.join(map(str, k)) for k in {name}]"
        way = f"{write_array(y, name)}.argmax(axis=1)" if is_one_hot else join
        step = f" Turn {'one-hot rows' if is_one_hot else 'rows'} into labels with {way}."
        raise ValueError(
            f"{name} must hold one label per image, shape (n_samples,); received a "
            f"{type(y).__name__} of shape {labels.shape}.{step if labels.ndim == 2 else ''}"
        )
    if len(labels) != n_samples:
        raise ValueError(
            f"{name} must have one label per image; received {len(labels)} labels for "
            f"{n_samples} images."
        )
    if labels.dtype.kind in "SU" and not isinstance(y, np.ndarray):
        # NumPy turns [1, "a"] into strings without a word, so types are read from the list.
        labels = np.asarray(y, dtype=object).reshape(-1)
    if labels.dtype.kind in "OTf":
        labels = _one_type(labels.astype(object), name)
    if labels.dtype.kind == "f":
        rows = np.flatnonzero(~(np.isfinite(labels) & (labels == np.floor(labels)))).tolist()
        if rows:
            raise ValueError(
                f"{name} must hold class labels; received fractional or infinite numbers "
                f"({labels.dtype}) in {len(rows)} rows: {listed(rows)}. Bin a continuous target "
                "first."
            )
    if labels.dtype.kind not in "iufbUS":
        text = "k.name" if isinstance(labels[0], Enum) else "str(k)"
        raise TypeError(
            f"{name} must hold strings or integers; received dtype {labels.dtype}, the first a "
            f"{type(labels[0]).__name__}. Convert them, for example by [{text} for k in {name}]."
        )
    return labels


def check_sample_weight(sample_weight: ArrayLike, *, n_samples: int) -> NDArray[np.float32]:
    """Return one finite weight per image, zero or more and not all zero."""
    wanted = (
        f"sample_weight must be {n_samples} finite numbers, one per image, zero or more and not "
        "all zero"
    )
    try:
        weights = np.asarray(sample_weight, dtype=np.float64).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{wanted}; {error}.") from None
    if weights.shape != (n_samples,):
        raise ValueError(f"{wanted}; received shape {weights.shape}.")
    low, high = weights.min(), weights.max()
    if not (low >= 0 and 0 < high < np.inf):
        raise ValueError(f"{wanted}; received values from {low:g} to {high:g}.")
    return weights


def encode_labels(
    labels: NDArray[Any],
    classes: NDArray[Any],
    *,
    name: str = "y",
    advice: str = "Drop those images, or fit with images of these classes.",
) -> NDArray[np.intp]:
    """Return each label's place among the classes, which may stand in any order."""
    # As Python objects: NumPy would turn a number beside a string into a string.
    known = {label: column for column, label in enumerate(classes.tolist())}
    found, places = np.unique(labels, return_inverse=True)
    unseen = [label for label in found.tolist() if label not in known]
    if unseen:
        raise ValueError(
            f"{name} must hold labels seen in fit: {listed(known)}; received {listed(unseen)} in "
            f"{np.isin(labels, unseen).sum()} of {len(labels)} images."
            f"{close_match_hint(unseen[0], map(str, known))} {advice}"
        )
    return np.array([known[label] for label in found.tolist()], dtype=np.intp)[places]


def _one_type(labels: NDArray[Any], name: str) -> NDArray[Any]:
    """Return labels that came as Python objects as an array of their one type."""
    missing = [row for row, label in enumerate(labels) if is_missing(label)]
    if missing:
        raise ValueError(
            f"{name} must not hold missing labels; received {len(missing)} of them, rows "
            f"{listed(missing)}. Drop those rows from the images too."
        )
    # A member of an enumeration that is a string too equals its value, but NumPy cuts it short.
    plain = [k.value if isinstance(k, Enum) and isinstance(k, str | int) else k for k in labels]
    types = set(map(type, plain))
    # Integers of Python and of NumPy may stand beside one another.
    if len({np.dtype(found).kind.replace("u", "i") for found in types}) > 1:
        names = " and ".join(sorted(found.__name__ for found in types))
        raise TypeError(
            f"{name} must hold labels of one type; received a mix of {names}. Convert them first, "
            f"for example [str(label) for label in {name}]."
        )
    return np.array(plain)


def is_missing(value: object) -> bool:
    """Whether a value of a column is None, NaN or what pandas has for it."""
    try:
        return value is None or bool(value != value)  # noqa: PLR0124 - NaN
    except TypeError:  # pandas.NA says neither yes nor no
        return True
    except ValueError:  # arrays say so for each of their values
        return False


def is_empty(cell: object) -> bool:
    """Whether a cell of a table is missing or blank."""
    return is_missing(cell) or (isinstance(cell, str) and not cell.strip())


def import_extra(module: str, extra: str, *, user: str) -> Any:
    """Return a module that comes with an extra of the package, or say how to get it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f'{user} needs {package}. Install it with: pip install "tlclassify[{extra}]".'
        ) from error


@cache
def _load_tqdm() -> Any:
    """Import it once: each time that warnings are caught, Python forgets which it has shown."""
    with warnings.catch_warnings():
        # In a notebook without ipywidgets there is a bar of text.
        warnings.filterwarnings("ignore", message="IProgress not found")
        from tqdm.auto import tqdm

    return tqdm


def show_progress(total: int, label: str, *, unit: str, verbose: int) -> Any:
    """Return a bar for work of more than a second, with `update` and `close`; it may be silent."""
    # Programs without a console have no stream to draw on.
    silent = not verbose or sys.stderr is None
    return _load_tqdm()(
        total=total, desc=label, unit=unit, disable=silent, delay=_PROGRESS_DELAY_SECONDS
    )


def check_process() -> None:
    """Refuse to use Keras in a process forked from one that has used it: it would wait for ever."""
    if not _process:
        _process.append(os.getpid())
        # From the fifth network on, TensorFlow advises against running so many: it takes what Keras
        # compiles for each for one function, defined on the same line.
        logging.getLogger("tensorflow").addFilter(lambda r: not _ADVICE.search(r.getMessage()))
    if _process[0] != os.getpid():
        raise RuntimeError(
            "networks cannot run in a process forked from one that has used Keras: its threads are "
            "gone. Start processes anew, by multiprocessing.get_context('spawn') or joblib's loky."
        )
