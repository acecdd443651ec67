"""What a classifier says of images whose labels nobody knows: the record of `predict_table`."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlclassify._checks.files import write_whole
from tlclassify._checks.tables import Part, shown_by
from tlclassify.evaluation.text import short_name, to_plain, write_page

_N_SHOWN, _N_ON_PAGE, _WIDTH = 20, 1_000, 50


def _cells(table: "PredictionTable", n_rows: int) -> list[Sequence[str]]:
    """Return a line of titles and the first rows, as people read them."""
    columns = []
    for name, values in table.columns.items():
        if name.startswith("probability"):
            columns.append([f"{p:.3f}" for p in values[:n_rows]])
        elif name == "sure":
            columns.append(["yes" if sure else "no" for sure in values[:n_rows]])
        else:
            columns.append([short_name(str(to_plain(x)), width=_WIDTH) for x in values[:n_rows]])
    return [list(table.columns), *zip(*columns, strict=True)]


def _describe(table: "PredictionTable") -> list[Part]:
    n, is_sure, level = len(table), table.is_sure, table.threshold
    sentence = f"{n:,} image{'s' if n > 1 else ''}"
    if is_sure is not None:
        sentence += f", {is_sure.sum():,} of them sure: a probability of {level:.9g} or more"
    more = f"\nthe first {_N_SHOWN}:" if n > _N_SHOWN else ""
    return [sentence + more, _cells(table, _N_SHOWN)]


@shown_by(_describe)
@dataclass(frozen=True, eq=False, repr=False)
class PredictionTable:
    """What a classifier says of images, most probable label first; `predict_table` makes it.

    The arrays are read-only. `str(table)` shows the first rows.

    Attributes
    ----------
    paths : tuple of str or None, the images' files; None where they were none
    labels : ndarray (n_images, n_best), each image's most probable labels, the most probable first
    probabilities : ndarray (n_images, n_best), floating point in [0, 1]
    threshold : float in [0, 1] or None, above or at which an answer is sure
    thumbnails : mapping of row to ndarray, small uint8 pictures of the least sure images

    Examples
    --------
    >>> import numpy as np
    >>> table = PredictionTable(("a.png",), np.array([["cat"]]), np.array([[0.9]]), threshold=0.8)
    >>> print(table.to_csv(), end="")
    path,label,probability,sure
    a.png,cat,0.9,True
    """

    paths: tuple[str, ...] | None
    labels: NDArray[Any]
    probabilities: NDArray[np.floating[Any]]
    threshold: float | None = None
    thumbnails: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels.flags.writeable = False
        self.probabilities.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_sure(self) -> NDArray[np.bool_] | None:
        """Whether the probability reaches the threshold, shape (n_images,); None without one."""
        if self.threshold is None:
            return None
        return np.asarray(self.probabilities[:, 0] >= self.threshold)

    @property
    def columns(self) -> dict[str, Sequence[Any]]:
        """The columns of the table by name, from `path`, or else `row`, to `sure`."""
        found: dict[str, Any] = {"path": self.paths} if self.paths else {"row": range(len(self))}
        for k in range(self.labels.shape[1]):
            end = f"_{k + 1}" if k else ""
            found[f"label{end}"] = self.labels[:, k]
            found[f"probability{end}"] = self.probabilities[:, k]
        if self.is_sure is not None:
            found["sure"] = self.is_sure.tolist()
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the rows as `predictions`, in types that `json.dumps` takes, and `threshold`."""
        columns = {name: to_plain(np.asarray(values)) for name, values in self.columns.items()}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return {"threshold": self.threshold, "predictions": rows}

    def to_pandas(self) -> Any:
        """Return the columns as a `pandas.DataFrame`; ImportError without pandas."""
        import pandas as pd

        return pd.DataFrame(self.columns)

    def to_csv(self, path: str | Path | None = None) -> str:
        """Return the rows as CSV with a line of titles, and write it, in UTF-8, if told where.

        OSError if `path` cannot be written.
        """
        content = io.StringIO()
        rows = [list(self.columns), *zip(*self.columns.values(), strict=True)]
        plain = ([to_plain(x) if isinstance(x, bytes) else x for x in row] for row in rows)
        csv.writer(content, lineterminator="\n").writerows(plain)
        if path is not None:
            # File names need not be UTF-8; they are written as they are.
            write_whole(path, content.getvalue().encode(errors="surrogateescape"))
        return content.getvalue()

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the rows, the first 1,000, as one page; as `EvaluationReport.to_html`."""
        cells = _cells(self, _N_ON_PAGE)
        return write_page("predictions.html", path, predictions=self, cells=cells)

    def __repr__(self) -> str:
        return f"PredictionTable({len(self):,} images, {self.labels.shape[1]} labels each)"
