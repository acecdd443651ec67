"""Smaller and just as good?

The same classifier as an ONNX file with numbers of 32, 16 and 8 bits. Each file is run without
Keras, on the images that judge the classifier itself.
"""

from pathlib import Path

import matplotlib.pyplot as plt

from tlclassify import TransferClassifier, export, load_exported
from tlclassify.datasets import load_digits_rgb

digits = load_digits_rgb()
X, y, X_test, y_test = digits.X[:200], digits.y[:200], digits.X[600:1100], digits.y[600:1100]
clf = TransferClassifier("mobilenet_micro", random_state=0).fit(X, y)

sizes, accuracies = {}, {}
for precision in ("float32", "float16", "int8"):
    images = X if precision == "int8" else None
    path = export(clf, f"{precision}.onnx", precision=precision, calibration_images=images)
    sizes[precision] = Path(path).stat().st_size / 1e6
    accuracies[precision] = load_exported(path).score(X_test, y_test)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.bar_label(left.bar(list(sizes), list(sizes.values()), color="#0072b2"), fmt="%.2f MB")
left.set(title="Size of the file", ylabel="megabytes", ylim=(0, 1.2 * max(sizes.values())))
bars = right.bar(list(accuracies), list(accuracies.values()), color="#0072b2")
right.bar_label(bars, fmt="%.3f")
right.set(title=f"Accuracy on {len(y_test)} digits", ylabel="accuracy", ylim=(0, 1.15))
