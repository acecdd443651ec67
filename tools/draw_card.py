"""Draw the picture that is shown where somebody shares a link to the site: docs/card.png.

python tools/draw_card.py
"""

from pathlib import Path

import matplotlib.pyplot as plt

from tlclassify import TransferClassifier, grad_cam
from tlclassify.datasets import make_shapes
from tlclassify.displays import HeatmapDisplay

CODE = """from tlclassify import TransferClassifier

clf = TransferClassifier().fit(X, y)
clf.predict(X_new)"""


def main() -> None:
    """Draw four images with their heat beside the code that it takes."""
    X, y = make_shapes(304, image_size=64, random_state=1)
    clf = TransferClassifier("mobilenet_micro", image_size=64, random_state=0)
    clf.fit(X[:300], y[:300])
    figure = plt.figure(figsize=(12, 6.3), facecolor="#20274d")
    words = {"color": "white", "va": "top"}
    figure.text(0.06, 0.86, "tlclassify", size=52, weight="bold", **words)
    figure.text(
        0.06, 0.68, "Image classifiers from few labels,\nin scikit-learn's habit", size=24, **words
    )
    figure.text(0.06, 0.42, CODE, size=16.5, family="monospace", linespacing=1.5, **words)
    axes = figure.subplots(
        2, 2, gridspec_kw={"left": 0.62, "right": 0.96, "top": 0.88, "bottom": 0.06}
    )
    labels = clf.predict(X[300:])
    HeatmapDisplay(X[300:], heatmaps=grad_cam(clf, X[300:]), captions=labels).plot(axes)
    for ax in axes.flat:
        ax.title.set(color="white", size=17)
    figure.savefig(Path(__file__).parents[1] / "docs" / "card.png", dpi=100)


if __name__ == "__main__":
    main()
