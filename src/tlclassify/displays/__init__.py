"""Pictures of reports, comparisons, training histories and images, in scikit-learn's habit."""

from tlclassify.displays.accuracies import AccuracyAgainstTimeDisplay, AccuracyBarsDisplay
from tlclassify.displays.confusion import ConfusionDisplay, ConfusionMatricesDisplay
from tlclassify.displays.image_grids import HeatmapDisplay, ImageGridDisplay, PredictionGridDisplay
from tlclassify.displays.report_curves import (
    ClassCurvesDisplay,
    CoverageDisplay,
    ReliabilityDisplay,
)
from tlclassify.displays.training_curves import LearningCurvesDisplay, LearningRateDisplay

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
