"""Pictures of reports, comparisons, curves, histories and images, in scikit-learn's habit."""

from tlclassify.displays.accuracies import (
    AccuracyAgainstTimeDisplay,
    AccuracyBarsDisplay,
    ImageCountDisplay,
)
from tlclassify.displays.confusion import ConfusionDisplay, ConfusionMatricesDisplay
from tlclassify.displays.curves import (
    ClassCurvesDisplay,
    CoverageDisplay,
    LearningCurvesDisplay,
    LearningRateDisplay,
    ReliabilityDisplay,
)
from tlclassify.displays.image_grids import HeatmapDisplay, ImageGridDisplay, PredictionGridDisplay

__all__ = [
    "AccuracyAgainstTimeDisplay",
    "AccuracyBarsDisplay",
    "ClassCurvesDisplay",
    "ConfusionDisplay",
    "ConfusionMatricesDisplay",
    "CoverageDisplay",
    "HeatmapDisplay",
    "ImageCountDisplay",
    "ImageGridDisplay",
    "LearningCurvesDisplay",
    "LearningRateDisplay",
    "PredictionGridDisplay",
    "ReliabilityDisplay",
]
