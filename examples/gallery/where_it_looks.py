"""Where a classifier looks

Heat shows which part of an image spoke for the class that was predicted. It should lie on the
object; where it lies on the background, the classifier has learnt something else.
"""

from tlclassify import TransferClassifier, grad_cam
from tlclassify.datasets import make_shapes
from tlclassify.displays import HeatmapDisplay

X, y = make_shapes(306, image_size=64, random_state=1)
clf = TransferClassifier("mobilenet_micro", image_size=64, random_state=0).fit(X[:300], y[:300])
new = X[300:306]
HeatmapDisplay(new, heatmaps=grad_cam(clf, new), captions=clf.predict(new), n_columns=3).plot()
