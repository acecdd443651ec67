"""What tests of pictures share: a report to draw, and where the texts of a figure lie."""

import numpy as np
import pytest
from matplotlib.text import Text

from tlclassify.analysis.evaluate import evaluate

LONG = ["miscellaneous household appliance", "ship of the line, $5 to $6", *"abcdefgh"]


def made_report(names=LONG, n_samples=200, right=0.7):
    """Return a report on classes of these names, in which about that share is right."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(len(names), 0.4), n_samples)
    y = np.where(rng.random(n_samples) < right, probabilities.argmax(axis=1), 0)

    class Oracle:
        classes_ = np.array(names)

        def predict_proba(self, X):
            return probabilities

    return evaluate(Oracle(), np.zeros((n_samples, 1)), np.array(names)[y])


def texts_outside(figure):
    """Return the drawn texts that are not wholly on the figure."""
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        draw = Text.draw
        patch.setattr(Text, "draw", lambda self, r: (drawn.append(self), draw(self, r)))
        figure.canvas.draw()
    shown = [text for text in drawn if text.get_visible() and text.get_text().strip()]
    assert shown
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    width, height = figure.bbox.size
    return [
        (text, box)
        for text, box in boxes
        if box.x0 < -0.5 or box.y0 < -0.5 or box.x1 > width + 0.5 or box.y1 > height + 0.5
    ]


def overlapping(labels):
    """Return the places of texts that touch the next one."""
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    return [i for i in range(len(boxes) - 1) if boxes[i].overlaps(boxes[i + 1])]
