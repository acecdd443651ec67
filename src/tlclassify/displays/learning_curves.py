"""Loss and accuracy of a training, epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import NotFittedError

from tlclassify.displays._drawing import BLUE, CHARACTER_INCHES, VERMILION, panels, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class LearningCurvesDisplay:
    """Loss and accuracy by epoch, training and validation, with the stages marked.

    Parameters
    ----------
    history : sequence of dict
        One per epoch, as in `TransferClassifier.history_`: `loss`, `accuracy`, and where there are
        any `val_loss`, `val_accuracy` and `stage`. Epochs are numbered on through all stages.

    Attributes
    ----------
    ax_ : ndarray of two matplotlib Axes, loss and accuracy
    figure_ : matplotlib Figure

    Examples
    --------
    >>> history = [{"stage": "head", "loss": 1.0, "accuracy": 0.5, "val_loss": 0.8}]
    >>> LearningCurvesDisplay(history).plot().ax_[0].get_ylabel()
    'Loss'
    """

    def __init__(self, history: Sequence[Mapping[str, Any]]) -> None:
        self.history = [dict(row) for row in history]
        if not self.history:
            raise ValueError("history must hold at least one epoch; received none.")
        for i, row in enumerate(self.history):
            if not {"loss", "accuracy"} <= set(row):
                raise ValueError(
                    f"history must hold loss and accuracy for each epoch; row {i} has {list(row)}."
                )

    @classmethod
    def from_estimator(cls, clf: Any) -> "LearningCurvesDisplay":
        """Return the display of a fitted classifier's `history_`."""
        if not hasattr(clf, "history_"):
            name = type(clf).__name__
            raise NotFittedError(f"clf must be fitted and have history_; {name} has none.")
        return cls(clf.history_)

    def plot(self, ax: "Sequence[Axes] | None" = None) -> "LearningCurvesDisplay":
        """Draw on two Axes, or on a new figure; ImportError if matplotlib is missing."""
        axes = panels(
            ax, n_panels=2, shape=(1, 2), figsize=(10.0, 4.0), display="LearningCurvesDisplay"
        )
        for panel, key in zip(axes, ("loss", "accuracy"), strict=True):
            self._draw_curve(panel, key, "Training", BLUE, "-o")
            self._draw_curve(panel, f"val_{key}", "Validation", VERMILION, "--s")
            panel.set(xlabel="Epoch", ylabel=key.capitalize())
            panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            panel.grid(alpha=0.3)
            panel.legend()
            _mark_stages(panel, [str(row.get("stage", "")) for row in self.history])
        self.ax_, self.figure_ = axes, axes[0].figure
        return self

    def _draw_curve(self, ax: "Axes", key: str, label: str, color: str, style: str) -> None:
        values = [np.nan if row.get(key) is None else float(row[key]) for row in self.history]
        epochs = np.arange(1, len(values) + 1)
        if np.isfinite(values).any():
            size = 4 if len(values) <= 40 else 0
            ax.plot(epochs, values, style, color=color, label=label, markersize=size)


def _mark_stages(ax: "Axes", stages: list[str]) -> None:
    n_epochs = len(stages)
    ax.set_xlim(0.5, n_epochs + 0.5)
    per_character = 9 * CHARACTER_INCHES * n_epochs / (ax.bbox.width / ax.figure.dpi)
    ends: list[float] = []  # where the last label of each line of labels ends, in epochs
    for start, stage in enumerate(stages):
        if start and stage == stages[start - 1]:
            continue
        if start:
            ax.axvline(start + 0.5, color="0.35", linewidth=1, linestyle=":")
        name = plain(stage, 20)
        line = next((i for i, end in enumerate(ends) if end <= start), len(ends))
        ends[line : line + 1] = [start + (len(name) + 1) * per_character]
        ax.annotate(
            name,
            (start + 0.5, 1),
            xycoords=ax.get_xaxis_transform(),
            xytext=(1, 2 + 11 * line),
            textcoords="offset points",
            fontsize=9,
        )
