"""Search by image

Nearest neighbours among the features of a backbone are images that look alike. The first of each
row is asked about, the others are what was found among a thousand.
"""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from tlclassify import FeatureExtractor
from tlclassify.datasets import load_digits_rgb
from tlclassify.displays import ImageGridDisplay

digits = load_digits_rgb()
known, asked = digits.X[:1000], digits.X[1000:1004]
extractor = FeatureExtractor("mobilenet_micro").fit(known)
index = NearestNeighbors(n_neighbors=5, metric="cosine").fit(extractor.transform(known))
found = index.kneighbors(extractor.transform(asked), return_distance=False)

rows = [image for question, near in zip(asked, found) for image in (question, *known[near])]
captions = ["asked", "nearest", "2nd", "3rd", "4th", "5th"] * len(asked)
ImageGridDisplay(np.stack(rows), labels=captions, n_columns=6).plot()
