"""Training the backbone too

Where the head alone is not enough, the upper layers of the backbone learn as well, at a rate that
is looked for first. The curves show both stages, with the images that were held out.
"""

from tlclassify import Stage, TransferClassifier, find_learning_rate
from tlclassify.datasets import make_shapes
from tlclassify.displays import LearningCurvesDisplay, LearningRateDisplay

X, y = make_shapes(360, n_classes=6, noise=0.15, random_state=0)
clf = TransferClassifier(
    "mobilenet_micro",
    head="mlp",
    head_stage=Stage(epochs=8),
    fine_tune_stage=Stage(epochs=8, unfreeze=2, schedule="cosine", patience=None),
    validation_fraction=0.25,
    random_state=0,
)
search = find_learning_rate(clf, X, y, n_steps=40)
LearningRateDisplay.from_search(search).plot()

# %%
# The rate that the search suggests, and the fit with it.

clf.set_params(fine_tune_stage__learning_rate=search.suggestion).fit(X, y)
LearningCurvesDisplay.from_estimator(clf).plot()
