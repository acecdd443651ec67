"""The loss at ever higher learning rates."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from tlclassify.displays._drawing import BLUE, VERMILION, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class LearningRateDisplay:
    """Loss by learning rate, with the suggested one marked.

    Parameters
    ----------
    learning_rates, losses : array-like of shape (n_steps,)
    suggestion : float
        The learning rate to be marked.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> display = LearningRateDisplay([1e-3, 1e-2], losses=[2.0, 1.0], suggestion=1e-3)
    >>> display.plot().ax_.get_xlabel()
    'Learning rate'
    """

    def __init__(self, learning_rates: ArrayLike, *, losses: ArrayLike, suggestion: float) -> None:
        self.learning_rates = np.asarray(learning_rates, dtype=float)
        self.losses = np.asarray(losses, dtype=float)
        self.suggestion = suggestion
        if self.losses.shape != self.learning_rates.shape or self.losses.ndim != 1:
            raise ValueError(
                "losses must have one number for each of learning_rates; received shapes "
                f"{self.losses.shape} and {self.learning_rates.shape}."
            )

    @classmethod
    def from_search(cls, search: Any) -> "LearningRateDisplay":
        """Return the display of what `find_learning_rate` found."""
        return cls(search.learning_rates, losses=search.losses, suggestion=search.suggestion)

    def plot(self, ax: "Axes | None" = None) -> "LearningRateDisplay":
        """Draw on Axes, or on a new figure; ImportError if matplotlib is missing."""
        (panel,) = panels(
            ax, n_panels=1, shape=(1, 1), figsize=(6.0, 4.0), display="LearningRateDisplay"
        )
        panel.plot(self.learning_rates, self.losses, color=BLUE)
        panel.axvline(self.suggestion, color=VERMILION, linestyle="--")
        label = f"suggestion: {self.suggestion:.1e}"
        panel.set(xscale="log", xlabel="Learning rate", ylabel="Loss (smoothed)", title=label)
        panel.grid(alpha=0.3)
        self.ax_, self.figure_ = panel, panel.figure
        return self
