"""Which of several classifiers?

The packaged weights, the same network seeing larger images, and the same network untrained, all
judged by the same images. Paired tests say which of them these images can tell apart.
"""

from tlclassify import TransferClassifier, compare_backbones
from tlclassify.datasets import load_digits_rgb
from tlclassify.displays import AccuracyBarsDisplay

digits = load_digits_rgb()
micro = TransferClassifier("mobilenet_micro", random_state=0)
candidates = {
    "packaged weights": micro,
    "seeing 64 pixels": TransferClassifier("mobilenet_micro", image_size=64, random_state=0),
    "untrained": TransferClassifier("mobilenet_micro", weights=None, random_state=0),
}
comparison = compare_backbones(
    candidates, digits.X[:150], digits.y[:150], X_test=digits.X[600:1000], y_test=digits.y[600:1000]
)
print(comparison)
AccuracyBarsDisplay.from_comparison(comparison).plot()
