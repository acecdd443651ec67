"""Will more labels help?

A learning curve fits on ever more images of each class and goes on from there. The forecast says
what twice and four times as many labels would give.
"""

from tlclassify import TransferClassifier, learning_curve
from tlclassify.datasets import load_digits_rgb
from tlclassify.displays import ImageCountDisplay

digits = load_digits_rgb()
clf = TransferClassifier("mobilenet_micro", random_state=0)
curve = learning_curve(clf, digits.X[:400], digits.y[:400], random_state=0)
print(curve)
ImageCountDisplay.from_curve(curve).plot()
