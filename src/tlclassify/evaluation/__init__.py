"""Records of a measurement: numbers first, every table and picture is a view of them."""

from tlclassify.evaluation.comparison import Comparison
from tlclassify.evaluation.learning_curve import LearningCurve
from tlclassify.evaluation.predictions import PredictionTable
from tlclassify.evaluation.report import EvaluationReport

__all__ = ["Comparison", "EvaluationReport", "LearningCurve", "PredictionTable"]
