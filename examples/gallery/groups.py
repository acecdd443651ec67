"""Pictures that belong together

Each plant was photographed six times. Split by picture, a classifier is asked about plants that it
has seen, and seems better than it is; split by plant, it is asked about new ones.
"""

import matplotlib.pyplot as plt
import numpy as np

from tlclassify import TransferClassifier, evaluate
from tlclassify.datasets import make_shapes

rng = np.random.default_rng(0)
plants, kinds = make_shapes(60, n_classes=6, noise=0.15, random_state=0)
plant = rng.permutation(np.repeat(np.arange(60), 6))
X = plants[plant] + rng.normal(scale=8, size=(360, 32, 32, 3))
X, y = np.clip(X, 0, 255).astype(np.uint8), kinds[plant]

clf = TransferClassifier("mobilenet_micro", cache_dir="activations", random_state=0)
reports = {
    "split by picture": evaluate(clf, X, y, cv=5),
    "split by plant": evaluate(clf, X, y, cv=5, groups=plant),
}
accuracies = [report.accuracy for report in reports.values()]
figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.bar_label(ax.bar(list(reports), accuracies, color="#0072b2", width=0.5), fmt="%.2f")
ax.set(title="Accuracy that each split claims", ylim=(0, 1.1), ylabel="accuracy")
