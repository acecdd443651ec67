"""A map of images

The backbone turns each image into some hundred numbers, and images that look alike into similar
ones. Two dimensions of them make a map, without a single label.
"""

import matplotlib.pyplot as plt
from sklearn.manifold import TSNE

from tlclassify import FeatureExtractor
from tlclassify.datasets import load_digits_rgb

digits = load_digits_rgb()
X, y = digits.X[:300], digits.y[:300]
features = FeatureExtractor("mobilenet_micro").fit_transform(X)
places = TSNE(perplexity=20, random_state=0).fit_transform(features)

figure, ax = plt.subplots(figsize=(7, 6), layout="constrained")
colors = plt.get_cmap("tab10").colors
for (x, height), label in zip(places, y):
    ax.text(x, height, label, color=colors[int(label)], ha="center", va="center", weight="bold")
ax.set(
    title="300 digits, placed by what the backbone sees in them",
    xlim=(places[:, 0].min() - 2, places[:, 0].max() + 2),
    ylim=(places[:, 1].min() - 2, places[:, 1].max() + 2),
)
ax.set_axis_off()
