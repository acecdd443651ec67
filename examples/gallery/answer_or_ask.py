"""When to answer, and when to ask a person

The surest answers are right more often than the rest. A threshold is chosen so that answers above
it are right 95 times in 100, and it says how many images will be answered.
"""

from tlclassify import TransferClassifier, evaluate
from tlclassify.datasets import load_digits_rgb
from tlclassify.displays import CoverageDisplay

digits = load_digits_rgb()
clf = TransferClassifier("mobilenet_micro", random_state=0).fit(digits.X[:80], digits.y[:80])
report = evaluate(clf, digits.X[200:], digits.y[200:])
print(f"accuracy of all answers: {report.accuracy:.3f}")
print(report.choose_threshold(accuracy=0.95))
CoverageDisplay.from_report(report).plot()
