"""A class with few images

One class has twelve images, the others more than sixty each, so it is seldom predicted. Weights
that count it as much as any other find more of it.
"""

import numpy as np

from tlclassify import TransferClassifier, evaluate
from tlclassify.datasets import make_shapes
from tlclassify.displays import ConfusionDisplay

X, y = make_shapes(600, n_classes=6, random_state=0)
X_test, y_test = X[400:], y[400:]
rare = np.flatnonzero(y[:400] == "ring")[12:]
X, y = np.delete(X[:400], rare, axis=0), np.delete(y[:400], rare)

for class_weight in (None, "balanced"):
    clf = TransferClassifier("mobilenet_micro", class_weight=class_weight, random_state=0)
    report = evaluate(clf.fit(X, y), X_test, y_test)
    ring = list(report.classes).index("ring")
    print(f"class_weight={class_weight}: finds {report.recall[ring]:.0%} of the rings,", end=" ")
    print(f"{report.precision[ring]:.0%} of what it calls one is one")

ConfusionDisplay.from_report(report).plot()
