"""Measure classifiers: numbers first, every table and picture is a view of them."""

from tlclassify.evaluation.comparison import Comparison
from tlclassify.evaluation.measuring import evaluate
from tlclassify.evaluation.report import EvaluationReport

__all__ = ["Comparison", "EvaluationReport", "evaluate"]
