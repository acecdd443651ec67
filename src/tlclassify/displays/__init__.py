"""Pictures of reports, comparisons, training histories and images, in scikit-learn's habit."""

from tlclassify.displays.accuracies import AccuracyAgainstTimeDisplay, AccuracyBarsDisplay
from tlclassify.displays.class_curves import ClassCurvesDisplay
from tlclassify.displays.confusion import ConfusionDisplay
from tlclassify.displays.confusion_matrices import ConfusionMatricesDisplay
from tlclassify.displays.coverage import CoverageDisplay
from tlclassify.displays.heatmaps import HeatmapDisplay
from tlclassify.displays.image_grids import ImageGridDisplay, PredictionGridDisplay
from tlclassify.displays.learning_curves import LearningCurvesDisplay
from tlclassify.displays.learning_rates import LearningRateDisplay
from tlclassify.displays.reliability import ReliabilityDisplay

__all__ = [
    "AccuracyAgainstTimeDisplay",
    "AccuracyBarsDisplay",
    "ClassCurvesDisplay",
    "ConfusionDisplay",
    "ConfusionMatricesDisplay",
    "CoverageDisplay",
    "HeatmapDisplay",
    "ImageGridDisplay",
    "LearningCurvesDisplay",
    "LearningRateDisplay",
    "PredictionGridDisplay",
    "ReliabilityDisplay",
]
