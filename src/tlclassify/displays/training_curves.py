"""Curves of a training: loss and accuracy by epoch, loss by learning rate."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from tlclassify.displays.drawing import BLUE, VERMILION, Axes, open_axes, plain, text_inches


class LearningCurvesDisplay:
    """Loss and accuracy by epoch, training and validation, with the stages marked.

    Parameters
    ----------
    history : sequence of dict, one per epoch, as in `TransferClassifier.history_`
        `loss`, `accuracy`, and where there are any `val_loss`, `val_accuracy` and `stage`.

    Examples
    --------
    >>> history = [{"stage": "head", "loss": 1.0, "accuracy": 0.5, "val_loss": 0.8}]
    >>> LearningCurvesDisplay(history).plot().ax_[0].get_ylabel()
    'Loss'
    """

    def __init__(self, history: Sequence[Mapping[str, Any]]) -> None:
        self.history = [dict(row) for row in history]
        bad = [list(row) for row in self.history if not {"loss", "accuracy"} <= set(row)]
        if bad or not self.history:
            what = f"an epoch with {bad[0]}" if bad else "no epoch"
            raise ValueError(
                f"history must hold loss and accuracy for each epoch; received {what}."
            )

    @classmethod
    def from_estimator(cls, clf: Any) -> "LearningCurvesDisplay":
        """Return the display of a fitted classifier's `history_`."""
        check_is_fitted(clf, "history_")
        return cls(clf.history_)

    def plot(self, ax: Sequence[Axes] | None = None) -> "LearningCurvesDisplay":
        """Draw on two Axes or a new figure, `ax_` of `figure_`; ImportError without matplotlib."""
        grid = {"ncols": 2, "figsize": (10.0, 4.0)}
        self.ax_, self.figure_ = open_axes(self, ax, n_panels=2, **grid)
        n_epochs = len(self.history)
        stages = [str(row.get("stage", "")) for row in self.history]
        starts = [i for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
        looks = (("", "Training", BLUE, "-o"), ("val_", "Validation", VERMILION, "--s"))
        size = 4 if n_epochs <= 40 else 0
        for panel, key in zip(self.ax_, ("loss", "accuracy"), strict=True):
            for prefix, label, color, style in looks:
                values = np.array([row.get(prefix + key) for row in self.history], dtype=float)
                if np.isfinite(values).any():
                    epochs = np.arange(1, n_epochs + 1)
                    panel.plot(epochs, values, style, color=color, label=label, markersize=size)
            panel.set(xlabel="Epoch", ylabel=key.capitalize(), xlim=(0.5, n_epochs + 0.5))
            panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            panel.grid(alpha=0.3)
            panel.legend()
            per_inch = n_epochs / (panel.bbox.width / panel.figure.dpi)
            place = {"xycoords": panel.get_xaxis_transform(), "textcoords": "offset points"}
            ends: list[float] = []  # where the last name of each line of names ends, in epochs
            for start in starts:
                if start:
                    panel.axvline(start + 0.5, color="0.35", linewidth=1, linestyle=":")
                name = plain(stages[start], 20)
                line = next((i for i, end in enumerate(ends) if end <= start), len(ends))
                ends[line : line + 1] = [start + text_inches(f"{name} ", fontsize=9) * per_inch]
                panel.annotate(name, (start + 0.5, 1), (1, 2 + 11 * line), fontsize=9, **place)
        return self


class LearningRateDisplay:
    """Loss by learning rate, with the suggested one marked.

    Parameters
    ----------
    learning_rates, losses : array-like of shape (n_steps,)
    suggestion : float, the learning rate to be marked

    Examples
    --------
    >>> display = LearningRateDisplay([1e-3, 1e-2], losses=[2.0, 1.0], suggestion=1e-3)
    >>> display.plot().ax_.get_xlabel()
    'Learning rate'
    """

    def __init__(self, learning_rates: ArrayLike, *, losses: ArrayLike, suggestion: float) -> None:
        self.learning_rates, self.losses = np.asarray(learning_rates), np.asarray(losses)
        self.suggestion = suggestion
        if self.losses.shape != self.learning_rates.shape:
            raise ValueError(
                "losses must have one number for each of learning_rates; received shapes "
                f"{self.losses.shape} and {self.learning_rates.shape}."
            )

    @classmethod
    def from_search(cls, search: Any) -> "LearningRateDisplay":
        """Return the display of what `find_learning_rate` found."""
        return cls(search.learning_rates, losses=search.losses, suggestion=search.suggestion)

    def plot(self, ax: Axes | None = None) -> "LearningRateDisplay":
        """Draw on `ax` or a new figure, `ax_` of `figure_`; ImportError without matplotlib."""
        (panel,), self.figure_ = open_axes(self, ax, figsize=(6.0, 4.0))
        self.ax_ = panel
        panel.plot(self.learning_rates, self.losses, color=BLUE)
        panel.axvline(self.suggestion, color=VERMILION, linestyle="--")
        label = f"suggestion: {self.suggestion:.1e}"
        panel.set(xscale="log", xlabel="Learning rate", ylabel="Loss (smoothed)", title=label)
        panel.grid(alpha=0.3)
        return self
