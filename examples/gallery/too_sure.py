"""A classifier that is too sure of itself

A head that was trained for long is right less often than its probabilities say. One number, the
temperature, found on images kept apart, mends them and changes no predicted label.
"""

from sklearn.model_selection import train_test_split

from tlclassify import Stage, TransferClassifier, calibrate, evaluate
from tlclassify.datasets import load_digits_rgb
from tlclassify.displays import ReliabilityDisplay

digits = load_digits_rgb()
X, X_rest, y, y_rest = train_test_split(digits.X, digits.y, train_size=100, random_state=0)
long_stage = Stage(epochs=20, learning_rate=0.01, patience=None)
clf = TransferClassifier("mobilenet_micro", head="mlp", head_stage=long_stage, random_state=0)
clf.fit(X, y)
calibrated = calibrate(clf, X_rest[:200], y_rest[:200])

X_test, y_test = X_rest[200:800], y_rest[200:800]
before, after = evaluate(clf, X_test, y_test), evaluate(calibrated, X_test, y_test)
print(f"temperature {calibrated.temperature_:.2f}")
print(f"calibration error {before.calibration_error:.3f} -> {after.calibration_error:.3f}")
ReliabilityDisplay.from_reports({"before": before, "after": after}).plot()
