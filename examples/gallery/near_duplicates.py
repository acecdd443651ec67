"""The same picture twice

Copies of training images in the test images make a test too easy. They are found when they were
made brighter, resized or saved anew, and so, now and then, is a pair that only looks alike.
"""

import numpy as np
from PIL import Image

from tlclassify import find_duplicates
from tlclassify.datasets import make_shapes
from tlclassify.displays import ImageGridDisplay

X, y = make_shapes(120, n_classes=6, image_size=64, random_state=0)
train, test = X[:80], X[80:].copy()
test[3] = np.clip(train[10] * 0.6 + 70.0, 0, 255)
test[7] = np.asarray(Image.fromarray(train[20]).resize((24, 24)).resize((64, 64)))
test[9] = np.clip(train[30] + np.random.default_rng(0).normal(scale=15, size=(64, 64, 3)), 0, 255)

pairs = find_duplicates(train, test)
print(pairs)
found = np.concatenate([train[pairs[:, 0]], test[pairs[:, 1]]])
captions = [f"training image {row}" for row in pairs[:, 0]]
captions += [f"test image {row}" for row in pairs[:, 1]]
ImageGridDisplay(found, labels=captions, n_columns=len(pairs)).plot()
