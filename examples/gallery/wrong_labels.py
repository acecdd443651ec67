"""Labels that are likely wrong

Twenty of three hundred labels are changed at random. Copies that have not seen an image judge it,
and the labels that they find least likely are looked at first.
"""

import numpy as np

from tlclassify import TransferClassifier, evaluate
from tlclassify.datasets import load_digits_rgb
from tlclassify.displays import PredictionGridDisplay

digits = load_digits_rgb()
X, y = digits.X[:300], digits.y[:300].copy()
changed = np.random.default_rng(0).choice(300, size=20, replace=False)
y[changed] = [str((int(label) + 3) % 10) for label in y[changed]]

clf = TransferClassifier("mobilenet_micro", cache_dir="activations", random_state=0)
report = evaluate(clf, X, y, cv=5)
suspects = [error.row for error in report.label_errors()]
print(f"{len(set(suspects[:25]) & set(changed))} of the 20 are among the first 25 suspects.")
PredictionGridDisplay.from_report(report, X, select=suspects[:12]).plot()
