"""Transfer-learning image classifiers as scikit-learn estimators, on Keras 3."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlclassify.analysis.calibration import calibrate
    from tlclassify.analysis.comparison import compare_backbones
    from tlclassify.analysis.duplicates import find_duplicates
    from tlclassify.analysis.evaluate import evaluate, predict_table
    from tlclassify.analysis.explanation import grad_cam
    from tlclassify.analysis.learning_curve import learning_curve
    from tlclassify.analysis.learning_rates import LearningRateSearch, find_learning_rate
    from tlclassify.analysis.selection import select_images
    from tlclassify.estimators.classifier import TransferClassifier
    from tlclassify.estimators.extractor import FeatureExtractor
    from tlclassify.estimators.recipes import article_classifier
    from tlclassify.evaluation import Comparison, EvaluationReport, LearningCurve, PredictionTable
    from tlclassify.inputs.augmentation import Augmentation
    from tlclassify.jobs.batches import BatchPredictor
    from tlclassify.jobs.features import fit_features
    from tlclassify.jobs.files import predict_files
    from tlclassify.networks.backbones import get_backbone, list_backbones, register_backbone
    from tlclassify.networks.heads import Head, list_heads
    from tlclassify.networks.rows import Backbone, Scaling
    from tlclassify.persistence.exported import ExportedClassifier, ExportedExtractor, load_exported
    from tlclassify.persistence.exporting import export
    from tlclassify.persistence.saving import load, save
    from tlclassify.training.stages import Stage

__version__ = "0.1.0.dev0"

__all__ = [
    "Augmentation",
    "Backbone",
    "BatchPredictor",
    "Comparison",
    "EvaluationReport",
    "ExportedClassifier",
    "ExportedExtractor",
    "FeatureExtractor",
    "Head",
    "LearningCurve",
    "LearningRateSearch",
    "PredictionTable",
    "Scaling",
    "Stage",
    "TransferClassifier",
    "article_classifier",
    "calibrate",
    "compare_backbones",
    "evaluate",
    "export",
    "find_duplicates",
    "find_learning_rate",
    "fit_features",
    "get_backbone",
    "grad_cam",
    "learning_curve",
    "list_backbones",
    "list_heads",
    "load",
    "load_exported",
    "predict_files",
    "predict_table",
    "register_backbone",
    "save",
    "select_images",
]

_HOMES = {
    "Augmentation": "inputs.augmentation",
    "Backbone": "networks.rows",
    "BatchPredictor": "jobs.batches",
    "Comparison": "evaluation",
    "EvaluationReport": "evaluation",
    "ExportedClassifier": "persistence.exported",
    "ExportedExtractor": "persistence.exported",
    "FeatureExtractor": "estimators.extractor",
    "Head": "networks.heads",
    "LearningCurve": "evaluation",
    "LearningRateSearch": "analysis.learning_rates",
    "PredictionTable": "evaluation",
    "Scaling": "networks.rows",
    "Stage": "training.stages",
    "TransferClassifier": "estimators.classifier",
    "article_classifier": "estimators.recipes",
    "calibrate": "analysis.calibration",
    "compare_backbones": "analysis.comparison",
    "evaluate": "analysis.evaluate",
    "export": "persistence.exporting",
    "find_duplicates": "analysis.duplicates",
    "find_learning_rate": "analysis.learning_rates",
    "fit_features": "jobs.features",
    "get_backbone": "networks.backbones",
    "grad_cam": "analysis.explanation",
    "learning_curve": "analysis.learning_curve",
    "list_backbones": "networks.backbones",
    "list_heads": "networks.heads",
    "load": "persistence.saving",
    "load_exported": "persistence.exported",
    "predict_files": "jobs.files",
    "predict_table": "analysis.evaluate",
    "register_backbone": "networks.backbones",
    "save": "persistence.saving",
    "select_images": "analysis.selection",
}


def __getattr__(name: str) -> Any:
    # Keras and TensorFlow take seconds to import, so a name is looked up when it is used.
    if name in _HOMES:
        return getattr(import_module(f"tlclassify.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'tlclassify' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
