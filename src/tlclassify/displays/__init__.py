"""Pictures of reports, training histories and images, in scikit-learn's Display habit."""

from tlclassify.displays.confusion import ConfusionDisplay
from tlclassify.displays.image_grids import ImageGridDisplay, PredictionGridDisplay
from tlclassify.displays.learning_curves import LearningCurvesDisplay
from tlclassify.displays.learning_rates import LearningRateDisplay

__all__ = [
    "ConfusionDisplay",
    "ImageGridDisplay",
    "LearningCurvesDisplay",
    "LearningRateDisplay",
    "PredictionGridDisplay",
]
