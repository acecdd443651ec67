"""A class with few images

One class has eight images, the others sixty each. Weights that count a rare class as much as a
frequent one find more of it, for some more false alarms.
"""

import numpy as np

from tlclassify import TransferClassifier, evaluate
from tlclassify.datasets import make_shapes
from tlclassify.displays import ConfusionDisplay

X, y = make_shapes(600, n_classes=6, noise=0.15, random_state=0)
X_test, y_test = X[400:], y[400:]
rare = np.flatnonzero(y[:400] == "ring")[8:]
X, y = np.delete(X[:400], rare, axis=0), np.delete(y[:400], rare)

for class_weight in (None, "balanced"):
    clf = TransferClassifier("mobilenet_micro", class_weight=class_weight, random_state=0)
    report = evaluate(clf.fit(X, y), X_test, y_test)
    ring = list(report.classes).index("ring")
    print(f"class_weight={class_weight}: finds {report.recall[ring]:.0%} of the rings,", end=" ")
    print(f"{report.precision[ring]:.0%} of what it calls one is one")

ConfusionDisplay.from_report(report).plot()
